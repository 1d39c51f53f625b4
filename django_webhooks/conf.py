"""Settings: name, type, default and meaning, each read live from Django's settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from django.conf import settings as django_settings
from django.utils.functional import empty

DAY = 86_400


class Settings:
    """Look each setting up in Django's settings when it is read; fall back on the default."""

    def __getattribute__(self, name: str) -> Any:
        default = getattr(type(self), name)
        # Past the lazy object, which fails in Python twice for what a project leaves out.
        current = object.__getattribute__(django_settings, "_wrapped")
        if current is empty:
            current = django_settings
        return getattr(current, name, default)

    #: Module looked for in each installed app when Django starts, like ``admin``.
    WEBHOOKS_AUTODISCOVER_MODULE: str = "webhooks"

    #: Take events whose type nobody declared in the catalog.
    WEBHOOKS_ALLOW_UNKNOWN_EVENT_TYPES: bool = False

    #: Largest body of an event, in bytes, envelope included.
    WEBHOOKS_MAX_PAYLOAD_BYTES: int = 262_144

    #: Webhooks, each causing the next, after which an event is recorded but not sent.
    WEBHOOKS_MAX_HOPS: int = 8

    #: Seconds for which a process may remember that nobody listens to an event type.
    WEBHOOKS_LISTENER_CACHE_SECONDS: float = 5.0

    #: Keys that encrypt URLs, credentials and signing keys: the first encrypts, all decrypt.
    WEBHOOKS_ENCRYPTION_KEYS: Sequence[str] = ()

    #: Seconds for which a signing key goes on signing beside the one that follows it.
    WEBHOOKS_KEY_OVERLAP: float = float(DAY)

    #: Refuse endpoint URLs that are not https.
    WEBHOOKS_REQUIRE_HTTPS: bool = True

    #: Networks that may be called although they are not public, such as "10.1.0.0/16".
    WEBHOOKS_ALLOWED_NETWORKS: Sequence[str] = ()

    #: Networks that are never called: your own public ones, or your NAT64 prefix.
    WEBHOOKS_DENIED_NETWORKS: Sequence[str] = ()

    #: Ports that may be called; None allows all.
    WEBHOOKS_ALLOWED_PORTS: Sequence[int] | None = None

    #: Proxy through which all requests leave, such as "http://proxy.internal:4750".
    WEBHOOKS_PROXY: str = ""

    #: File of certificate authorities that receivers are trusted by, instead of certifi's.
    WEBHOOKS_CA_BUNDLE: str = ""

    #: Total deadline of one attempt in seconds: name look-up, connect, TLS, send and receive.
    WEBHOOKS_TIMEOUT: float = 15.0

    #: Bytes of an answer that are read at the most; the connection is closed on longer ones.
    WEBHOOKS_MAX_RESPONSE_BYTES: int = 65_536

    #: Bytes of an answer's body that are kept with the attempt.
    WEBHOOKS_RESPONSE_EXCERPT_BYTES: int = 2_048

    #: Seconds for which a worker holds a delivery; outlasts the deadline of an attempt.
    WEBHOOKS_LEASE_SECONDS: float = 60.0

    #: Deliveries leased at once by one worker process.
    WEBHOOKS_BATCH_SIZE: int = 200

    #: Part of what is leased at once that fresh deliveries may take from retries and replays.
    WEBHOOKS_FRESH_SHARE: float = 0.75

    #: Requests under way at once in one worker process.
    WEBHOOKS_MAX_IN_FLIGHT: int = 64

    #: Requests under way at once to one endpoint, in one worker process.
    WEBHOOKS_MAX_IN_FLIGHT_PER_ENDPOINT: int = 8

    #: Requests a second to one subscription, over all workers; None for no limit.
    WEBHOOKS_RATE_LIMIT: float | None = None

    #: Requests in flight at once to one subscription, over all workers; None for no limit.
    WEBHOOKS_MAX_IN_FLIGHT_PER_SUBSCRIPTION: int | None = None

    #: Seconds after which a worker task ends and hands what is left to a new message.
    WEBHOOKS_DRAIN_SECONDS: float = 10.0

    #: Attempts of one delivery at the most.
    WEBHOOKS_RETRY_ATTEMPTS: int = 12

    #: Seconds before the first retry.
    WEBHOOKS_RETRY_BASE: float = 5.0

    #: Factor by which each wait is longer than the one before.
    WEBHOOKS_RETRY_FACTOR: float = 6.0

    #: Longest wait between two attempts, in seconds.
    WEBHOOKS_RETRY_CAP: float = 43_200.0

    #: Part of each wait that is random: 0.2 spreads it over ±20 %.
    WEBHOOKS_RETRY_JITTER: float = 0.2

    #: Longest wait that a receiver's Retry-After can ask for, in seconds.
    WEBHOOKS_RETRY_AFTER_CAP: float = float(DAY)

    #: Age of an event, in seconds, past which a failed delivery is not tried again.
    WEBHOOKS_EVENT_MAX_AGE: float = 7.0 * DAY

    #: Seconds up to which a retry waits as a Celery message; later ones wait for the sweep.
    WEBHOOKS_CELERY_HORIZON: float = 600.0

    #: Failures in a row, of two events or more, after which an endpoint is unhealthy.
    WEBHOOKS_HEALTH_FALL: int = 3

    #: Probes that succeed in a row before an unhealthy endpoint is tried with a delivery.
    WEBHOOKS_HEALTH_RISE: int = 2

    #: Seconds over which the share of failing attempts is counted.
    WEBHOOKS_HEALTH_WINDOW: float = 60.0

    #: Attempts within the window before their share counts.
    WEBHOOKS_HEALTH_WINDOW_ATTEMPTS: int = 20

    #: Share of failing attempts within the window at which an endpoint is unhealthy.
    WEBHOOKS_HEALTH_WINDOW_SHARE: float = 0.5

    #: Seconds for which an endpoint is not called after it fell.
    WEBHOOKS_HEALTH_HOLD: float = 30.0

    #: Longest hold in seconds of an endpoint that fails its trials.
    WEBHOOKS_HEALTH_HOLD_CAP: float = 1800.0

    #: Seconds between two probes of an endpoint that is healthy and idle.
    WEBHOOKS_PROBE_INTERVAL: float = 60.0

    #: Seconds between two probes of an endpoint that is unhealthy.
    WEBHOOKS_PROBE_INTERVAL_UNHEALTHY: float = 10.0

    #: Total deadline of one probe in seconds.
    WEBHOOKS_PROBE_TIMEOUT: float = 5.0

    #: Probes under way at once in one worker process.
    WEBHOOKS_PROBES_IN_FLIGHT: int = 512

    #: Probes that are kept of each endpoint.
    WEBHOOKS_PROBES_KEPT: int = 50

    #: Seconds after which a subscription all of whose endpoints fail is disabled.
    WEBHOOKS_DISABLE_AFTER: float = 5.0 * DAY

    #: Addresses that are mailed of outages, or a callable (or its path) that returns some.
    WEBHOOKS_NOTIFY: Sequence[str] | Callable[..., Sequence[str]] | str = ()

    #: Seconds between two mails about outages of one subscription.
    WEBHOOKS_NOTIFY_INTERVAL: float = 3600.0

    #: Days for which finished deliveries are kept, by status; None keeps them for ever.
    WEBHOOKS_RETENTION_DAYS: Mapping[str, float | None] = {
        "succeeded": 30,
        "given_up": 90,
        "cancelled": 30,
    }

    #: Deliveries that a bulk replay releases in a second, unless it is asked for another rate.
    WEBHOOKS_REPLAY_RATE: int = 100

    #: Which owners' rows a user of the admin sees: a callable (or its path) that takes the request
    #: and returns owners, or None for all.
    WEBHOOKS_ADMIN_SCOPE: Callable[..., Any] | str | None = None

    #: Days after which an audit finds a signing key to be old.
    WEBHOOKS_AUDIT_KEY_DAYS: float = 365.0

    #: Days for which a pause, silence or a given-up delivery is nothing to tell of in an audit.
    WEBHOOKS_AUDIT_IDLE_DAYS: float = 7.0

    #: Count for Prometheus; needs the extra "metrics".
    WEBHOOKS_METRICS: bool = False

    #: Bearer token that may read the metrics; without one, staff alone may.
    WEBHOOKS_METRICS_TOKEN: str = ""

    #: Subscriptions that are counted each by itself, the oldest first; 0 counts all together.
    WEBHOOKS_METRICS_SUBSCRIPTIONS: int = 0

    #: Tell receivers the trace of each attempt: True, or a callable (or its path) that takes the
    #: subscription and says so.
    WEBHOOKS_SEND_TRACEPARENT: bool | Callable[..., bool] | str = False

    #: Addresses that audits are mailed to, or a callable (or its path) that returns some.
    WEBHOOKS_AUDIT_NOTIFY: Sequence[str] | Callable[[], Sequence[str]] | str = ()

    #: Reports of audits that are kept.
    WEBHOOKS_AUDIT_REPORTS_KEPT: int = 100

    #: Take webhooks by https alone; SECURE_PROXY_SSL_HEADER is honoured.
    WEBHOOKS_RECEIVING_REQUIRE_HTTPS: bool = True

    #: Largest body of a webhook that is taken, in bytes.
    WEBHOOKS_RECEIVING_MAX_BYTES: int = 1_048_576

    #: Seconds after which a sender is asked to repeat what could not be handled.
    WEBHOOKS_RECEIVING_RETRY_AFTER: int = 10

    #: Networks of the proxies before this site, whose X-Forwarded-For is believed.
    WEBHOOKS_TRUSTED_PROXIES: Sequence[str] = ()

    #: Seconds for which a message waits for the same one that is being handled just now.
    WEBHOOKS_INBOX_WAIT: float = 5.0

    #: Attempts of a worker to handle a message at the most.
    WEBHOOKS_INBOX_ATTEMPTS: int = 12

    #: Days for which received messages are known, by status; None keeps them for ever.
    WEBHOOKS_INBOX_RETENTION_DAYS: Mapping[str, float | None] = {"handled": 30, "given_up": 90}


settings = Settings()
