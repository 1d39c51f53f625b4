"""Each setting by itself: its type and its range."""

from __future__ import annotations

import math
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any, TypeGuard
from urllib.parse import urlsplit

from django.core.checks import CheckMessage, Error, register
from django.utils.module_loading import import_string

from .. import encryption
from ..conf import settings
from ..exceptions import InvalidKey
from ..models import Delivery, InboxMessage
from ..policies import addresses

#: Statuses of deliveries that are over.
FINISHED = [status.value for status in Delivery.Status if status != Delivery.Status.WAITING]

#: Statuses of received messages that are over.
HANDLED = [status.value for status in InboxMessage.Status if status != InboxMessage.Status.WAITING]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What the value of a setting must be, in code and in words."""

    id: str
    setting: str
    holds: Callable[[Any], bool]
    must: str


def is_number(value: Any) -> TypeGuard[float]:
    """Say whether the value is a finite number; True and False are none."""
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool)


def is_positive(value: Any) -> TypeGuard[float]:
    """Say whether the value is a finite number above 0."""
    return is_number(value) and value > 0


def _is_not_negative(value: Any) -> bool:
    return is_number(value) and value >= 0


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and is_positive(value)


def _is_module(value: Any) -> bool:
    return isinstance(value, str) and all(part.isidentifier() for part in value.split("."))


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _are_days(value: Any, *, of: list[str]) -> bool:
    return isinstance(value, Mapping) and all(
        status in of and (days is None or _is_not_negative(days)) for status, days in value.items()
    )


def _is_retention(value: Any) -> bool:
    return _are_days(value, of=FINISHED)


def _is_inbox_retention(value: Any) -> bool:
    return _are_days(value, of=HANDLED)


def _is_callable(value: Any) -> bool:
    if isinstance(value, str):
        try:
            return callable(import_string(value))
        except ImportError:
            return False
    return callable(value)


def _is_flag_or_callable(value: Any) -> bool:
    return _is_flag(value) or _is_callable(value)


def _is_token(value: Any) -> bool:
    return value == "" or (isinstance(value, str) and len(value) >= 16 and value.isascii())


def _is_scope(value: Any) -> bool:
    return value is None or _is_callable(value)


def _is_notify(value: Any) -> bool:
    if isinstance(value, str) or callable(value):
        return _is_callable(value)
    return isinstance(value, list | tuple) and all(
        isinstance(one, str) and "@" in one for one in value
    )


def _are_networks(value: Any) -> bool:
    if not isinstance(value, list | tuple) or not all(isinstance(one, str) for one in value):
        return False
    try:
        addresses.networks(value)
    except ValueError:
        return False
    return True


def _are_ports(value: Any) -> bool:
    if value is None:
        return True
    return isinstance(value, list | tuple | set | frozenset) and all(
        _is_count(one) and one < 65_536 for one in value
    )


def _are_keys(value: Any) -> bool:
    if not isinstance(value, list | tuple):
        return False
    try:
        return len({encryption.key_bytes(one) for one in value}) == len(value)
    except InvalidKey:
        return False


def _is_proxy(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    try:
        found = urlsplit(value)
        return not value or (
            found.scheme == "http"
            and bool(found.hostname)
            and found.port != 0
            and found.path in ("", "/")
        )
    except ValueError:
        return False


def _is_ca_bundle(value: Any) -> bool:
    if not isinstance(value, str | PathLike):
        return False
    if not str(value):
        return True
    try:
        return bool(ssl.create_default_context(cafile=str(value)))
    except OSError:
        return False


_NETWORKS = (_are_networks, 'a list of networks without host bits, such as "10.1.0.0/16"')
_FLAG = (_is_flag, "True or False")
_COUNT = (_is_count, "a whole number of at least 1")
_COUNT_OR_NONE = (
    lambda value: value is None or _is_count(value),
    "a whole number of at least 1, or None",
)
_RATE_OR_NONE = (
    lambda value: value is None or is_positive(value),
    "a positive number of requests a second, or None",
)
_SECONDS = (is_positive, "a positive number of seconds")
_DAYS = (is_positive, "a positive number of days")
_SECONDS_OR_0 = (_is_not_negative, "a number of seconds, or 0")

RULES = [
    Rule(id=id, setting=setting, holds=holds, must=must)
    for id, setting, (holds, must) in [
        (
            "webhooks.E001",
            "WEBHOOKS_AUTODISCOVER_MODULE",
            (_is_module, "the name of a module, such as 'webhooks'"),
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
            (lambda value: value == 0 or _is_count(value), "a whole number, or 0"),
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
            (lambda value: is_number(value) and 0 <= value < 1, "at least 0 and less than 1"),
        ),
        ("webhooks.E019", "WEBHOOKS_RETRY_AFTER_CAP", _SECONDS_OR_0),
        ("webhooks.E020", "WEBHOOKS_EVENT_MAX_AGE", _SECONDS),
        ("webhooks.E021", "WEBHOOKS_CELERY_HORIZON", _SECONDS_OR_0),
        (
            "webhooks.E022",
            "WEBHOOKS_RETENTION_DAYS",
            (_is_retention, f"a dictionary of days, or None, for any of {', '.join(FINISHED)}"),
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
            (_is_notify, "a list of mail addresses, or a callable or its path"),
        ),
        ("webhooks.E038", "WEBHOOKS_NOTIFY_INTERVAL", _SECONDS_OR_0),
        ("webhooks.E039", "WEBHOOKS_ALLOWED_NETWORKS", _NETWORKS),
        ("webhooks.E040", "WEBHOOKS_DENIED_NETWORKS", _NETWORKS),
        (
            "webhooks.E041",
            "WEBHOOKS_ALLOWED_PORTS",
            (_are_ports, "a list of ports from 1 to 65535, or None"),
        ),
        (
            "webhooks.E042",
            "WEBHOOKS_ENCRYPTION_KEYS",
            (_are_keys, "a list of different keys from 'manage.py webhooks_generate_key'"),
        ),
        ("webhooks.E043", "WEBHOOKS_KEY_OVERLAP", _SECONDS_OR_0),
        (
            "webhooks.E044",
            "WEBHOOKS_PROXY",
            (_is_proxy, 'empty or the URL of a proxy, such as "http://proxy.internal:4750"'),
        ),
        (
            "webhooks.E045",
            "WEBHOOKS_CA_BUNDLE",
            (_is_ca_bundle, "empty or the path of a file with certificates as PEM"),
        ),
        ("webhooks.E048", "WEBHOOKS_MAX_HOPS", _COUNT),
        ("webhooks.E049", "WEBHOOKS_REPLAY_RATE", _COUNT),
        (
            "webhooks.E050",
            "WEBHOOKS_ADMIN_SCOPE",
            (_is_scope, "None, or a callable or its path"),
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
                _is_inbox_retention,
                f"a dictionary of days, or None, for any of {', '.join(HANDLED)}",
            ),
        ),
        ("webhooks.E060", "WEBHOOKS_AUDIT_KEY_DAYS", _DAYS),
        ("webhooks.E061", "WEBHOOKS_AUDIT_IDLE_DAYS", _DAYS),
        (
            "webhooks.E062",
            "WEBHOOKS_AUDIT_NOTIFY",
            (_is_notify, "a list of mail addresses, or a callable or its path"),
        ),
        ("webhooks.E063", "WEBHOOKS_AUDIT_REPORTS_KEPT", _COUNT),
        (
            "webhooks.E064",
            "WEBHOOKS_FRESH_SHARE",
            (lambda value: is_number(value) and 0 < value < 1, "above 0 and less than 1"),
        ),
        ("webhooks.E067", "WEBHOOKS_RATE_LIMIT", _RATE_OR_NONE),
        ("webhooks.E068", "WEBHOOKS_MAX_IN_FLIGHT_PER_SUBSCRIPTION", _COUNT_OR_NONE),
        ("webhooks.E071", "WEBHOOKS_METRICS", _FLAG),
        (
            "webhooks.E072",
            "WEBHOOKS_METRICS_TOKEN",
            (_is_token, "empty or a text of at least 16 ASCII characters"),
        ),
        (
            "webhooks.E073",
            "WEBHOOKS_METRICS_SUBSCRIPTIONS",
            (lambda value: value == 0 or _is_count(value), "a whole number, or 0"),
        ),
        (
            "webhooks.E074",
            "WEBHOOKS_SEND_TRACEPARENT",
            (_is_flag_or_callable, "True or False, or a callable or its path"),
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
