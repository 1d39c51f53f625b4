"""Each setting by itself: its type and its range."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from django.core.checks import CheckMessage, Error

from ..conf import settings
from ..policies.health import StatusPolicy
from .predicates import (
    RETAINED,
    are_keys,
    are_models,
    are_networks,
    are_ports,
    is_base_url,
    is_ca_bundle,
    is_count,
    is_flag,
    is_flag_or_callable,
    is_notify,
    is_number,
    is_positive,
    is_proxy,
    is_retention,
    is_scope,
    is_token,
)
from .system_check import system_check


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """The rule that the value of a setting follows, in code and in words."""

    id: str
    setting: str
    holds: Callable[[Any], bool]
    must: str


_Kind = tuple[Callable[[Any], bool], str]


def _or_none(kind: _Kind) -> _Kind:
    holds, must = kind
    return lambda value: value is None or holds(value), f"{must}, or None"


def _one_of(values: Iterable[str]) -> _Kind:
    *others, last = (f'"{one}"' for one in values)
    return lambda value: value in list(values), f"{', '.join(others)} or {last}"


_BUNDLE = (is_ca_bundle, "empty or the path of a file with certificates as PEM")
_COUNT = (is_count, "a whole number of at least 1")
_COUNT_OR_0 = (lambda value: value == 0 or is_count(value), "a whole number, or 0")
_DELETED = _one_of(["disable", "delete", "keep"])
_FACTOR = (lambda value: is_number(value) and value >= 1, "a number of at least 1")
_FLAG = (is_flag, "True or False")
_FLAG_OR_CALLABLE = (is_flag_or_callable, "True or False, or a callable or its path")
_KEYS = (are_keys, "a list of different keys from 'manage.py webhooks_generate_key'")
_MODELS = (are_models, "a list of models such as 'shop.Shop'")
_NETWORKS = (are_networks, 'a list of networks without host bits, such as "10.1.0.0/16"')
_PORTS = (are_ports, "a list of ports from 1 to 65535, or None")
_PROXY = (is_proxy, 'empty or the URL of a proxy, such as "http://proxy.internal:4750"')
_RATE = (is_positive, "a positive number of requests a second")
_RECIPIENTS = (is_notify, "a list of mail addresses, or a callable or its path")
_RETENTION = (is_retention, f"a dictionary of days, or None, for any of {', '.join(RETAINED)}")
_SCOPE = (is_scope, "None, or a callable or its path")
_SECONDS = (is_positive, "a positive number of seconds")
_SITE = (is_base_url, 'empty, or the URL of the site, as in "https://www.example.com"')
_STATUSES = _one_of(StatusPolicy)
_TOKEN = (is_token, "empty or a text of at least 16 ASCII characters")

RULES = [
    Rule(id=id, setting=setting, holds=holds, must=must)
    for id, setting, (holds, must) in [
        ("webhooks.E002", "WEBHOOKS_ALLOW_UNKNOWN_EVENT_TYPES", _FLAG),
        ("webhooks.E003", "WEBHOOKS_MAX_PAYLOAD_BYTES", _COUNT),
        ("webhooks.E005", "WEBHOOKS_REQUIRE_HTTPS", _FLAG),
        ("webhooks.E006", "WEBHOOKS_TIMEOUT_SECONDS", _SECONDS),
        ("webhooks.E008", "WEBHOOKS_RESPONSE_EXCERPT_BYTES", _COUNT_OR_0),
        ("webhooks.E009", "WEBHOOKS_LEASE_SECONDS", _SECONDS),
        ("webhooks.E011", "WEBHOOKS_MAX_IN_FLIGHT", _COUNT),
        ("webhooks.E012", "WEBHOOKS_MAX_IN_FLIGHT_PER_ENDPOINT", _COUNT),
        ("webhooks.E014", "WEBHOOKS_RETRY_ATTEMPTS", _COUNT),
        ("webhooks.E015", "WEBHOOKS_RETRY_BASE_SECONDS", _SECONDS),
        ("webhooks.E016", "WEBHOOKS_RETRY_FACTOR", _FACTOR),
        ("webhooks.E017", "WEBHOOKS_RETRY_CAP_SECONDS", _SECONDS),
        ("webhooks.E020", "WEBHOOKS_EVENT_MAX_AGE_SECONDS", _SECONDS),
        ("webhooks.E022", "WEBHOOKS_RETENTION_DAYS", _RETENTION),
        ("webhooks.E024", "WEBHOOKS_HEALTH_FALL", _COUNT),
        ("webhooks.E075", "WEBHOOKS_HEALTH_STATUSES", _STATUSES),
        ("webhooks.E025", "WEBHOOKS_HEALTH_RISE", _COUNT),
        ("webhooks.E029", "WEBHOOKS_HEALTH_HOLD_SECONDS", _SECONDS),
        ("webhooks.E031", "WEBHOOKS_PROBE_INTERVAL_SECONDS", _SECONDS),
        ("webhooks.E032", "WEBHOOKS_PROBE_INTERVAL_UNHEALTHY_SECONDS", _SECONDS),
        ("webhooks.E036", "WEBHOOKS_DISABLE_AFTER_SECONDS", _SECONDS),
        ("webhooks.E037", "WEBHOOKS_NOTIFY", _RECIPIENTS),
        ("webhooks.E101", "WEBHOOKS_NOTIFY_OPERATORS", _RECIPIENTS),
        ("webhooks.E102", "WEBHOOKS_SITE_URL", _SITE),
        ("webhooks.E039", "WEBHOOKS_ALLOWED_NETWORKS", _NETWORKS),
        ("webhooks.E040", "WEBHOOKS_DENIED_NETWORKS", _NETWORKS),
        ("webhooks.E041", "WEBHOOKS_ALLOWED_PORTS", _PORTS),
        ("webhooks.E042", "WEBHOOKS_ENCRYPTION_KEYS", _KEYS),
        ("webhooks.E044", "WEBHOOKS_PROXY_URL", _PROXY),
        ("webhooks.E045", "WEBHOOKS_CA_BUNDLE", _BUNDLE),
        ("webhooks.E180", "WEBHOOKS_MAX_CONNECTIONS", _COUNT),
        ("webhooks.E049", "WEBHOOKS_REPLAY_RATE_PER_SECOND", _COUNT),
        ("webhooks.E050", "WEBHOOKS_ADMIN_SCOPE", _SCOPE),
        ("webhooks.E051", "WEBHOOKS_RECEIVING_REQUIRE_HTTPS", _FLAG),
        ("webhooks.E052", "WEBHOOKS_RECEIVING_MAX_BYTES", _COUNT),
        ("webhooks.E053", "WEBHOOKS_TRUSTED_PROXIES", _NETWORKS),
        ("webhooks.E067", "WEBHOOKS_RATE_LIMIT_PER_SECOND", _or_none(_RATE)),
        ("webhooks.E068", "WEBHOOKS_MAX_IN_FLIGHT_PER_SUBSCRIPTION", _or_none(_COUNT)),
        ("webhooks.E071", "WEBHOOKS_METRICS", _FLAG),
        ("webhooks.E072", "WEBHOOKS_METRICS_TOKEN", _TOKEN),
        ("webhooks.E074", "WEBHOOKS_SEND_TRACEPARENT", _FLAG_OR_CALLABLE),
        ("webhooks.E085", "WEBHOOKS_MODEL_HOOKS", _FLAG),
        ("webhooks.E086", "WEBHOOKS_OWNER_MODELS", _MODELS),
        ("webhooks.E087", "WEBHOOKS_OWNER_DELETED", _DELETED),
        ("webhooks.E076", "WEBHOOKS_KEEP_UNHEARD", _FLAG),
    ]
]


@system_check("webhooks")
def check_values(**kwargs: Any) -> Iterator[CheckMessage]:
    """Check the type and the range of each setting."""
    for rule in RULES:
        value = getattr(settings, rule.setting)
        if rule.holds(value):
            continue
        # One setting alone is a dictionary: that of the retention.
        unknown = (
            [str(one) for one in value if one not in RETAINED] if isinstance(value, Mapping) else []
        )
        yield Error(
            f"{rule.setting} must be {rule.must}.",
            hint=f"Unknown: {', '.join(unknown)}."
            if unknown
            else "Correct it, or leave it out to use the default.",
            id=rule.id,
        )
