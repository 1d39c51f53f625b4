"""What is wrong with endpoints: in the clear, failing, disabled, certificates that expire."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from cryptography import x509
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ...fields import Sealed
from ...models import Endpoint, Health, Subscription
from ..finding import Scene, Severity, Told, rule

#: Failing for longer is told, and for longer still is severe.
FAILING, FAILING_LONG = timedelta(hours=1), timedelta(days=1)
#: So long before its end a certificate is told of.
EXPIRES_SOON = timedelta(days=30)
_BATCH = 200


@rule(
    "webhooks.A001",
    Severity.SEVERE,
    gettext_lazy("Ask the receiver for an https URL, and enter it in the endpoint."),
)
def in_the_clear(scene: Scene) -> Iterator[Told]:
    """Yield usable endpoints whose URL is not https."""
    for one in _usable(scene):
        if one.is_readable and not one.url.lower().startswith("https://"):
            yield Told(
                subject=_key(one),
                sentence=_("%(endpoint)s is called without TLS.") % {"endpoint": _name(one)},
            )


@rule(
    "webhooks.A009",
    Severity.WARNING,
    gettext_lazy("See why in the endpoint's probes and attempts; docs/howto/endpoint-down.md."),
)
def failing(scene: Scene) -> Iterator[Told]:
    """Yield endpoints that have failed for a while."""
    rows = Health.objects.using(scene.using).failing().select_related("endpoint__subscription")
    rows = rows.exclude(subscription__status=Subscription.Status.DISABLED)
    for door in rows.filter(failing_since__lte=scene.now - FAILING).iterator(_BATCH):
        since = door.failing_since or scene.now
        yield Told(
            subject=_key(door.endpoint),
            sentence=_("%(endpoint)s has failed since %(since)s (%(reason)s).")
            % {"endpoint": _name(door.endpoint), "since": when(since), "reason": door.reason},
            severity=Severity.SEVERE if since <= scene.now - FAILING_LONG else None,
        )


@rule(
    "webhooks.A010",
    Severity.WARNING,
    gettext_lazy("Ask the receiver, then enable the endpoint or delete it."),
)
def disabled(scene: Scene) -> Iterator[Told]:
    """Yield endpoints that nothing is sent to any more."""
    rows = Endpoint.objects.using(scene.using).filter(disabled_at__isnull=False)
    for one in rows.select_related("subscription").iterator(_BATCH):
        yield Told(
            subject=_key(one),
            sentence=_("%(endpoint)s is disabled since %(since)s (%(reason)s).")
            % {
                "endpoint": _name(one),
                "since": when(one.disabled_at),
                "reason": one.disabled_reason,
            },
        )


@rule(
    "webhooks.A015",
    Severity.WARNING,
    gettext_lazy("Give the backup another host, best in another place."),
)
def same_host(scene: Scene) -> Iterator[Told]:
    """Yield subscriptions two of whose endpoints would fall together."""
    hosts: dict[object, list[str]] = {}
    names: dict[object, str] = {}
    for one in _usable(scene):
        if not isinstance(one.url, Sealed):
            hosts.setdefault(one.subscription_id, []).append(one.host.lower())
            names[one.subscription_id] = one.subscription.name
    for key, found in hosts.items():
        if len(set(found)) < len(found):
            yield Told(
                subject=f"subscription:{key}",
                sentence=_("Two endpoints of %(name)s are on the same host.")
                % {"name": names[key]},
            )


@rule(
    "webhooks.A025",
    Severity.WARNING,
    gettext_lazy("Get a new client certificate from the receiver, and enter it in the endpoint."),
)
def certificates(scene: Scene) -> Iterator[Told]:
    """Yield endpoints whose client certificate expires soon, or has expired."""
    for one in _usable(scene):
        end = _end(one)
        if end is None or end > scene.now + EXPIRES_SOON:
            continue
        words = (
            _("The client certificate of %(endpoint)s expired %(end)s.")
            if end <= scene.now
            else _("The client certificate of %(endpoint)s expires %(end)s.")
        )
        yield Told(
            subject=_key(one),
            sentence=words % {"endpoint": _name(one), "end": when(end)},
            severity=Severity.SEVERE if end <= scene.now else None,
        )


def when(moment: datetime | None) -> str:
    """Return a moment as it is written in findings."""
    if moment is None:
        return "-"
    shown = timezone.localtime(moment) if timezone.is_aware(moment) else moment
    return f"{shown:%Y-%m-%d %H:%M}"


def _usable(scene: Scene) -> Iterator[Endpoint]:
    rows = Endpoint.objects.using(scene.using).usable().select_related("subscription")
    return rows.order_by("pk").iterator(_BATCH)


def _end(endpoint: Endpoint) -> datetime | None:
    pem = endpoint.client_certificate
    if not pem or isinstance(pem, Sealed):
        return None
    try:
        found = x509.load_pem_x509_certificates(pem.encode())
    except ValueError:
        return None
    return min(one.not_valid_after_utc for one in found)


def _key(endpoint: Endpoint) -> str:
    return f"endpoint:{endpoint.pk}"


def _name(endpoint: Endpoint) -> str:
    return f"{endpoint.subscription.name}: {endpoint}"
