"""Keys and the ways by which what is secret could leave."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, Tags, Warning

from ..conf import settings
from .queues import both
from .system_check import system_check

#: Transports of Celery that leave the machine without TLS.
_PLAIN = frozenset({"amqp", "pyamqp", "redis", "sentinel", "librabbitmq"})


@system_check("webhooks")
def check_key_of_its_own(**kwargs: Any) -> Iterator[CheckMessage]:
    """Check that no encryption key is the project's SECRET_KEY."""
    keys = settings.WEBHOOKS_ENCRYPTION_KEYS
    project = {django_settings.SECRET_KEY, *getattr(django_settings, "SECRET_KEY_FALLBACKS", ())}
    if not isinstance(keys, list | tuple) or not project.intersection(map(str, keys)):
        return
    yield Error(
        "WEBHOOKS_ENCRYPTION_KEYS holds the SECRET_KEY.",
        hint="Whoever learns one would have both; make a key of its own with "
        "'manage.py webhooks_generate_key'.",
        id="webhooks.E046",
    )


@system_check("webhooks", Tags.security, deploy=True)
def check_keys_are_set(**kwargs: Any) -> Iterator[CheckMessage]:
    """Check that production has encryption keys that do not depend on SECRET_KEY."""
    if settings.WEBHOOKS_ENCRYPTION_KEYS:
        return
    yield Error(
        "WEBHOOKS_ENCRYPTION_KEYS is not set: URLs, credentials and signing keys are encrypted "
        "with a key derived from SECRET_KEY, and lost with it.",
        hint="Make one with 'manage.py webhooks_generate_key'; behind it, put "
        "encryption.derived_key() until 'manage.py webhooks_reencrypt' has run.",
        id="webhooks.E047",
    )


@system_check("webhooks")
def check_keys_are_derived(**kwargs: Any) -> Iterator[CheckMessage]:
    """Tell developers what production will be asked for."""
    if settings.WEBHOOKS_ENCRYPTION_KEYS or django_settings.DEBUG:
        return
    yield Warning(
        "WEBHOOKS_ENCRYPTION_KEYS is not set: keys are derived from SECRET_KEY.",
        hint="Make one with 'manage.py webhooks_generate_key'.",
        id="webhooks.W008",
    )


@system_check("webhooks", Tags.security, deploy=True)
def check_broker(**kwargs: Any) -> Iterator[CheckMessage]:
    """Check that messages leave the machine encrypted alone."""
    for urls in both("broker_url"):
        # Celery takes several, as a list or with semicolons.
        for one in (urls if isinstance(urls, str) else ";".join(map(str, urls))).split(";"):
            found = urlsplit(one)
            if (
                found.scheme in _PLAIN
                and not _is_here(found.hostname)
                and not both("broker_use_ssl")
            ):
                yield Warning(
                    f"The broker at {found.hostname} is reached without TLS.",
                    hint="Use amqps:// or rediss://: whoever reads messages knows the ids of "
                    "deliveries, and whoever writes some makes workers busy.",
                    id="webhooks.W009",
                )
                return


@system_check("webhooks", Tags.security, deploy=True)
def check_proxy(**kwargs: Any) -> Iterator[CheckMessage]:
    """Remind those with a proxy of what it has to refuse."""
    if not settings.WEBHOOKS_PROXY_URL:
        return
    yield Warning(
        "WEBHOOKS_PROXY_URL looks names up instead of us: it decides which addresses are called.",
        hint="Make sure that it refuses private addresses, as smokescreen does, then silence "
        "this check.",
        id="webhooks.W010",
    )


def _is_here(host: str | None) -> bool:
    if not host or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
