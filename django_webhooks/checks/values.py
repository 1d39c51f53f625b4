"""Each setting by itself: its type and its range."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.core.checks import CheckMessage, Error, register

from ..conf import settings
from .predicates import (
    FINISHED,
    HANDLED,
    are_keys,
    are_networks,
    are_ports,
    is_ca_bundle,
    is_count,
    is_flag,
    is_flag_or_callable,
    is_inbox_retention,
    is_module,
    is_not_negative,
    is_notify,
    is_number,
    is_positive,
    is_proxy,
    is_retention,
    is_scope,
    is_token,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What the value of a setting must be, in code and in words."""

    id: str
    setting: str
    holds: Callable[[Any], bool]
    must: str


_NETWORKS = (are_networks, 'a list of networks without host bits, such as "10.1.0.0/16"')
_FLAG = (is_flag, "True or False")
_COUNT = (is_count, "a whole number of at least 1")
_COUNT_OR_NONE = (
    lambda value: value is None or is_count(value),
    "a whole number of at least 1, or None",
)
_RATE_OR_NONE = (
    lambda value: value is None or is_positive(value),
    "a positive number of requests a second, or None",
)
_SECONDS = (is_positive, "a positive number of seconds")
_DAYS = (is_positive, "a positive number of days")
_SECONDS_OR_0 = (is_not_negative, "a number of seconds, or 0")

RULES = [
    Rule(id=id, setting=setting, holds=holds, must=must)
    for id, setting, (holds, must) in [
        (
            "webhooks.E001",
            "WEBHOOKS_AUTODISCOVER_MODULE",
            (is_module, "the name of a module, such as 'webhooks'"),
        ),
        ("webhooks.E002", "WEBHOOKS_ALLOW_UNKNOWN_EVENT_TYPES", _FLAG),
        ("webhooks.E003", "WEBHOOKS_MAX_PAYLOAD_BYTES", _COUNT),
        ("webhooks.E004", "WEBHOOKS_LISTENER_CACHE_SECONDS", _SECONDS_OR_0),
        ("webhooks.E005", "WEBHOOKS_REQUIRE_HTTPS", _FLAG),
        ("webhooks.E006", "WEBHOOKS_TIMEOUT", _SECONDS),
        ("webhooks.E007", "WEBHOOKS_MAX_RESPONSE_BYTES", _COUNT),
        (
            "webhooks.E008",
            "WEBHOOKS_RESPONSE_EXCERPT_BYTES",
            (lambda value: value == 0 or is_count(value), "a whole number, or 0"),
        ),
        ("webhooks.E009", "WEBHOOKS_LEASE_SECONDS", _SECONDS),
        ("webhooks.E010", "WEBHOOKS_BATCH_SIZE", _COUNT),
        ("webhooks.E011", "WEBHOOKS_MAX_IN_FLIGHT", _COUNT),
        ("webhooks.E012", "WEBHOOKS_MAX_IN_FLIGHT_PER_ENDPOINT", _COUNT),
        ("webhooks.E013", "WEBHOOKS_DRAIN_SECONDS", _SECONDS),
        ("webhooks.E014", "WEBHOOKS_RETRY_ATTEMPTS", _COUNT),
        ("webhooks.E015", "WEBHOOKS_RETRY_BASE", _SECONDS),
        (
            "webhooks.E016",
            "WEBHOOKS_RETRY_FACTOR",
            (lambda value: is_number(value) and value >= 1, "a number of at least 1"),
        ),
        ("webhooks.E017", "WEBHOOKS_RETRY_CAP", _SECONDS),
        (
            "webhooks.E018",
            "WEBHOOKS_RETRY_JITTER",
            (
                lambda value: is_number(value) and 0 <= value < 1,
                "at least 0 and less than 1",
            ),
        ),
        ("webhooks.E019", "WEBHOOKS_RETRY_AFTER_CAP", _SECONDS_OR_0),
        ("webhooks.E020", "WEBHOOKS_EVENT_MAX_AGE", _SECONDS),
        ("webhooks.E021", "WEBHOOKS_CELERY_HORIZON", _SECONDS_OR_0),
        (
            "webhooks.E022",
            "WEBHOOKS_RETENTION_DAYS",
            (
                is_retention,
                f"a dictionary of days, or None, for any of {', '.join(FINISHED)}",
            ),
        ),
        ("webhooks.E024", "WEBHOOKS_HEALTH_FALL", _COUNT),
        ("webhooks.E025", "WEBHOOKS_HEALTH_RISE", _COUNT),
        ("webhooks.E026", "WEBHOOKS_HEALTH_WINDOW", _SECONDS),
        ("webhooks.E027", "WEBHOOKS_HEALTH_WINDOW_ATTEMPTS", _COUNT),
        (
            "webhooks.E028",
            "WEBHOOKS_HEALTH_WINDOW_SHARE",
            (lambda value: is_number(value) and 0 < value <= 1, "above 0 and at most 1"),
        ),
        ("webhooks.E029", "WEBHOOKS_HEALTH_HOLD", _SECONDS),
        ("webhooks.E030", "WEBHOOKS_HEALTH_HOLD_CAP", _SECONDS),
        ("webhooks.E031", "WEBHOOKS_PROBE_INTERVAL", _SECONDS),
        ("webhooks.E032", "WEBHOOKS_PROBE_INTERVAL_UNHEALTHY", _SECONDS),
        ("webhooks.E033", "WEBHOOKS_PROBE_TIMEOUT", _SECONDS),
        ("webhooks.E034", "WEBHOOKS_PROBES_IN_FLIGHT", _COUNT),
        ("webhooks.E035", "WEBHOOKS_PROBES_KEPT", _COUNT),
        ("webhooks.E036", "WEBHOOKS_DISABLE_AFTER", _SECONDS),
        (
            "webhooks.E037",
            "WEBHOOKS_NOTIFY",
            (is_notify, "a list of mail addresses, or a callable or its path"),
        ),
        ("webhooks.E038", "WEBHOOKS_NOTIFY_INTERVAL", _SECONDS_OR_0),
        ("webhooks.E039", "WEBHOOKS_ALLOWED_NETWORKS", _NETWORKS),
        ("webhooks.E040", "WEBHOOKS_DENIED_NETWORKS", _NETWORKS),
        (
            "webhooks.E041",
            "WEBHOOKS_ALLOWED_PORTS",
            (are_ports, "a list of ports from 1 to 65535, or None"),
        ),
        (
            "webhooks.E042",
            "WEBHOOKS_ENCRYPTION_KEYS",
            (
                are_keys,
                "a list of different keys from 'manage.py webhooks_generate_key'",
            ),
        ),
        ("webhooks.E043", "WEBHOOKS_KEY_OVERLAP", _SECONDS_OR_0),
        (
            "webhooks.E044",
            "WEBHOOKS_PROXY",
            (
                is_proxy,
                'empty or the URL of a proxy, such as "http://proxy.internal:4750"',
            ),
        ),
        (
            "webhooks.E045",
            "WEBHOOKS_CA_BUNDLE",
            (is_ca_bundle, "empty or the path of a file with certificates as PEM"),
        ),
        ("webhooks.E048", "WEBHOOKS_MAX_HOPS", _COUNT),
        ("webhooks.E049", "WEBHOOKS_REPLAY_RATE", _COUNT),
        (
            "webhooks.E050",
            "WEBHOOKS_ADMIN_SCOPE",
            (is_scope, "None, or a callable or its path"),
        ),
        ("webhooks.E051", "WEBHOOKS_RECEIVING_REQUIRE_HTTPS", _FLAG),
        ("webhooks.E052", "WEBHOOKS_RECEIVING_MAX_BYTES", _COUNT),
        ("webhooks.E053", "WEBHOOKS_TRUSTED_PROXIES", _NETWORKS),
        ("webhooks.E054", "WEBHOOKS_RECEIVING_RETRY_AFTER", _COUNT),
        ("webhooks.E055", "WEBHOOKS_INBOX_WAIT", _SECONDS),
        ("webhooks.E056", "WEBHOOKS_INBOX_ATTEMPTS", _COUNT),
        (
            "webhooks.E057",
            "WEBHOOKS_INBOX_RETENTION_DAYS",
            (
                is_inbox_retention,
                f"a dictionary of days, or None, for any of {', '.join(HANDLED)}",
            ),
        ),
        ("webhooks.E060", "WEBHOOKS_AUDIT_KEY_DAYS", _DAYS),
        ("webhooks.E061", "WEBHOOKS_AUDIT_IDLE_DAYS", _DAYS),
        (
            "webhooks.E062",
            "WEBHOOKS_AUDIT_NOTIFY",
            (is_notify, "a list of mail addresses, or a callable or its path"),
        ),
        ("webhooks.E063", "WEBHOOKS_AUDIT_REPORTS_KEPT", _COUNT),
        (
            "webhooks.E064",
            "WEBHOOKS_FRESH_SHARE",
            (
                lambda value: is_number(value) and 0 < value < 1,
                "above 0 and less than 1",
            ),
        ),
        ("webhooks.E067", "WEBHOOKS_RATE_LIMIT", _RATE_OR_NONE),
        ("webhooks.E068", "WEBHOOKS_MAX_IN_FLIGHT_PER_SUBSCRIPTION", _COUNT_OR_NONE),
        ("webhooks.E071", "WEBHOOKS_METRICS", _FLAG),
        (
            "webhooks.E072",
            "WEBHOOKS_METRICS_TOKEN",
            (is_token, "empty or a text of at least 16 ASCII characters"),
        ),
        (
            "webhooks.E073",
            "WEBHOOKS_METRICS_SUBSCRIPTIONS",
            (lambda value: value == 0 or is_count(value), "a whole number, or 0"),
        ),
        (
            "webhooks.E074",
            "WEBHOOKS_SEND_TRACEPARENT",
            (is_flag_or_callable, "True or False, or a callable or its path"),
        ),
    ]
]


@register("webhooks")
def check_values(**kwargs: Any) -> list[CheckMessage]:
    """Check the type and the range of each setting."""
    return [
        Error(
            f"{rule.setting} must be {rule.must}.",
            hint="Correct it, or leave it out to use the default.",
            id=rule.id,
        )
        for rule in RULES
        if not rule.holds(getattr(settings, rule.setting))
    ]
