"""Settings: name, type, default and meaning, each read live from Django's settings."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from django.conf import settings as django_settings
from django.utils.functional import empty

DAY = 86_400
PREFIX = "WEBHOOKS_"
#: The units that end names, which somebody may have left out.
_UNIT = re.compile(r"_(SECONDS|PER_SECOND|DAYS|BYTES|URL)$")


class Settings:
    """Look each setting up in Django's settings when it is read; fall back on the default."""

    def __getattribute__(self, name: str) -> Any:
        default = getattr(type(self), name)
        # Past the lazy object, which fails in Python twice for what a project leaves out.
        current = object.__getattribute__(django_settings, "_wrapped")
        if current is empty:
            current = django_settings
        return getattr(current, name, default)

    #: Take events whose type nobody declared in the catalog.
    WEBHOOKS_ALLOW_UNKNOWN_EVENT_TYPES: bool = False

    #: Largest body of an event, in bytes, envelope included.
    WEBHOOKS_MAX_PAYLOAD_BYTES: int = 262_144

    #: Keep events that nobody listens to, so that a later subscriber can have them.
    WEBHOOKS_KEEP_UNHEARD: bool = False

    #: Tell what model hooks are registered for; False for test runs, in which hooks tell nothing
    #: but what a test captures.
    WEBHOOKS_MODEL_HOOKS: bool = True

    #: Models whose objects own subscriptions, such as "shop.Shop": deletions of these are heard in
    #: every process from its start.
    WEBHOOKS_OWNER_MODELS: Sequence[str] = ()

    #: What becomes of the subscriptions of an owner that is deleted: "disable", "delete" or "keep".
    WEBHOOKS_OWNER_DELETED: str = "disable"

    #: Keys that encrypt URLs, credentials and signing keys: the first encrypts, all decrypt.
    WEBHOOKS_ENCRYPTION_KEYS: Sequence[str] = ()

    #: Refuse endpoint URLs that are not https.
    WEBHOOKS_REQUIRE_HTTPS: bool = True

    #: Networks that may be called although they are not public, such as "10.1.0.0/16".
    WEBHOOKS_ALLOWED_NETWORKS: Sequence[str] = ()

    #: Networks that are never called: your own public ones, or your NAT64 prefix.
    WEBHOOKS_DENIED_NETWORKS: Sequence[str] = ()

    #: Ports that may be called; None allows all.
    WEBHOOKS_ALLOWED_PORTS: Sequence[int] | None = None

    #: Proxy through which all requests leave, such as "http://proxy.internal:4750".
    WEBHOOKS_PROXY_URL: str = ""

    #: File of certificate authorities that receivers are trusted by, instead of certifi's.
    WEBHOOKS_CA_BUNDLE: str = ""

    #: Total deadline of one attempt in seconds: name look-up, connect, TLS, send and receive.
    WEBHOOKS_TIMEOUT_SECONDS: float = 15.0

    #: Connections open at once in one process, idle ones included; never more than half of the
    #: files that the process may open.
    WEBHOOKS_MAX_CONNECTIONS: int = 512

    #: Bytes of an answer's body that are kept with the attempt.
    WEBHOOKS_RESPONSE_EXCERPT_BYTES: int = 2_048

    #: Seconds for which a worker holds a delivery; outlasts the deadline of an attempt.
    WEBHOOKS_LEASE_SECONDS: float = 60.0

    #: Requests under way at once in one worker process.
    WEBHOOKS_MAX_IN_FLIGHT: int = 64

    #: Requests under way at once to one endpoint, in one worker process.
    WEBHOOKS_MAX_IN_FLIGHT_PER_ENDPOINT: int = 8

    #: Requests a second to one subscription, over all workers; None for no limit.
    WEBHOOKS_RATE_LIMIT_PER_SECOND: float | None = None

    #: Requests in flight at once to one subscription, over all workers; None for no limit.
    WEBHOOKS_MAX_IN_FLIGHT_PER_SUBSCRIPTION: int | None = None

    #: Attempts of one delivery at the most.
    WEBHOOKS_RETRY_ATTEMPTS: int = 12

    #: Seconds before the first retry.
    WEBHOOKS_RETRY_BASE_SECONDS: float = 5.0

    #: Factor by which each wait is longer than the one before.
    WEBHOOKS_RETRY_FACTOR: float = 6.0

    #: Longest wait between two attempts, in seconds.
    WEBHOOKS_RETRY_CAP_SECONDS: float = 43_200.0

    #: Age of an event, in seconds, past which a failed delivery is not tried again.
    WEBHOOKS_EVENT_MAX_AGE_SECONDS: float = 7.0 * DAY

    #: Answers that count against an endpoint: "non_2xx" for all but 2xx and 429, "5xx" for 5xx and
    #: silence alone.
    WEBHOOKS_HEALTH_STATUSES: str = "non_2xx"

    #: Failures in a row, of two events or more, after which an endpoint is unhealthy.
    WEBHOOKS_HEALTH_FALL: int = 3

    #: Probes that succeed in a row before an unhealthy endpoint is tried with a delivery.
    WEBHOOKS_HEALTH_RISE: int = 2

    #: Seconds for which an endpoint is not called after it fell.
    WEBHOOKS_HEALTH_HOLD_SECONDS: float = 30.0

    #: Seconds between two probes of an endpoint that is healthy and idle.
    WEBHOOKS_PROBE_INTERVAL_SECONDS: float = 60.0

    #: Seconds between two probes of an endpoint that is unhealthy.
    WEBHOOKS_PROBE_INTERVAL_UNHEALTHY_SECONDS: float = 10.0

    #: Seconds after which a subscription all of whose endpoints fail is disabled.
    WEBHOOKS_DISABLE_AFTER_SECONDS: float = 5.0 * DAY

    #: Addresses that are mailed of outages, or a callable (or its path) that returns some.
    WEBHOOKS_NOTIFY: Sequence[str] | Callable[..., Sequence[str]] | str = ()

    #: Addresses that are mailed where the site is not well (no worker, no beat, lost keys), and
    #: news of audits; or a callable (or its path) that returns some. Without any, those of a
    #: WEBHOOKS_NOTIFY list.
    WEBHOOKS_NOTIFY_OPERATORS: Sequence[str] | Callable[[], Sequence[str]] | str = ()

    #: Public URL of this site, such as "https://www.example.com": for links in mails, and for the
    #: URL that signatures of received webhooks cover; "" for no links, and the URL of the request.
    WEBHOOKS_SITE_URL: str = ""

    #: Days for which finished deliveries are kept, by status, events that are kept although nobody
    #: listened ("unheard"), and received messages; None keeps them for ever. Each that a project
    #: leaves out has its default.
    WEBHOOKS_RETENTION_DAYS: Mapping[str, float | None] = {
        "succeeded": 30,
        "given_up": 90,
        "cancelled": 30,
        "unheard": 30,
        "inbox_handled": 30,
        "inbox_given_up": 90,
    }

    #: Deliveries that a bulk replay releases in a second, unless it is asked for another rate.
    WEBHOOKS_REPLAY_RATE_PER_SECOND: int = 100

    #: Which owners' rows a user of the admin sees: a callable (or its path) that takes the request
    #: and returns owners, or None for all.
    WEBHOOKS_ADMIN_SCOPE: Callable[..., Any] | str | None = None

    #: Count for Prometheus; needs the extra "metrics".
    WEBHOOKS_METRICS: bool = False

    #: Bearer token that may read the metrics; without one, staff alone may.
    WEBHOOKS_METRICS_TOKEN: str = ""

    #: Tell receivers the trace of each attempt: True, or a callable (or its path) that takes the
    #: subscription and says so.
    WEBHOOKS_SEND_TRACEPARENT: bool | Callable[..., bool] | str = False

    #: Take webhooks by https alone; SECURE_PROXY_SSL_HEADER is honoured.
    WEBHOOKS_RECEIVING_REQUIRE_HTTPS: bool = True

    #: Largest body of a webhook that is taken, in bytes.
    WEBHOOKS_RECEIVING_MAX_BYTES: int = 1_048_576

    #: Networks of the proxies before this site, whose X-Forwarded-For is believed.
    WEBHOOKS_TRUSTED_PROXIES: Sequence[str] = ()


settings = Settings()


def retention_days(kind: str) -> float | None:
    """Return for how many days rows of this kind are kept, None for ever."""
    days: float | None = {
        **Settings.WEBHOOKS_RETENTION_DAYS,
        **settings.WEBHOOKS_RETENTION_DAYS,
    }[kind]
    return days


def names() -> list[str]:
    """Return the names of all settings, in the order of this file."""
    return [name for name in vars(Settings) if name.startswith(PREFIX)]


def nearest(name: str, *, likeness: float = 0.6) -> str | None:
    """Return the setting that is most like this name, unit aside, if one is as much like it.

    ``likeness`` is between 0 and 1, as that of ``difflib``.
    """
    # Without the prefix, which makes all of them alike.
    endings = {_UNIT.sub("", one.removeprefix(PREFIX)): one for one in names()}
    ending = _UNIT.sub("", name.removeprefix(PREFIX))
    return next((endings[one] for one in get_close_matches(ending, endings, 1, likeness)), None)
