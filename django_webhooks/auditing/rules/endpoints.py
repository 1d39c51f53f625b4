"""Audit rules about endpoints: in the clear, failing, disabled, certificates that expire."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from cryptography import x509
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ...fields import Undecryptable
from ...models import Endpoint, EndpointHealth, Subscription
from ..finding import AuditContext, FindingDraft, Severity, rule

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
def in_the_clear(context: AuditContext) -> Iterator[FindingDraft]:
    """Yield usable endpoints whose URL is not https."""
    for one in _usable(context):
        if one.is_readable and not one.url.lower().startswith("https://"):
            words = _("%(endpoint)s is called without TLS.")
            yield FindingDraft.of(one, words, endpoint=_name(one))


@rule(
    "webhooks.A009",
    Severity.WARNING,
    gettext_lazy("See why in the endpoint's probes and attempts; docs/howto/endpoint-down.md."),
)
def failing(context: AuditContext) -> Iterator[FindingDraft]:
    """Yield endpoints that have failed for a while."""
    rows = (
        EndpointHealth.objects.using(context.using)
        .failing()
        .select_related("endpoint__subscription")
    )
    rows = rows.exclude(subscription__status=Subscription.Status.DISABLED)
    for candidate in rows.filter(failing_since__lte=context.now - FAILING).iterator(_BATCH):
        since = candidate.failing_since or context.now
        yield FindingDraft.of(
            candidate.endpoint,
            _("%(endpoint)s has failed since %(since)s (%(reason)s)."),
            severity=Severity.SEVERE if since <= context.now - FAILING_LONG else None,
            endpoint=_name(candidate.endpoint),
            since=since,
            reason=candidate.reason,
        )


@rule(
    "webhooks.A010",
    Severity.WARNING,
    gettext_lazy("Ask the receiver, then enable the endpoint or delete it."),
)
def disabled(context: AuditContext) -> Iterator[FindingDraft]:
    """Yield endpoints that nothing is sent to any more."""
    rows = Endpoint.objects.using(context.using).filter(disabled_at__isnull=False)
    for one in rows.select_related("subscription").iterator(_BATCH):
        words = _("%(endpoint)s is disabled since %(since)s (%(reason)s).")
        yield FindingDraft.of(
            one, words, endpoint=_name(one), since=one.disabled_at, reason=one.disabled_reason
        )


@rule(
    "webhooks.A015",
    Severity.WARNING,
    gettext_lazy("Give the backup another host, best in another place."),
)
def same_host(context: AuditContext) -> Iterator[FindingDraft]:
    """Yield subscriptions two of whose endpoints would fall together."""
    hosts: dict[object, list[str]] = {}
    names: dict[object, str] = {}
    for one in _usable(context):
        if not isinstance(one.url, Undecryptable):
            hosts.setdefault(one.subscription_id, []).append(one.host.lower())
            names[one.subscription_id] = one.subscription.name
    for key, found in hosts.items():
        if len(set(found)) < len(found):
            words = _("Two endpoints of %(name)s are on the same host.")
            yield FindingDraft.of(f"subscription:{key}", words, name=names[key])


@rule(
    "webhooks.A025",
    Severity.WARNING,
    gettext_lazy("Get a new client certificate from the receiver, and enter it in the endpoint."),
)
def certificates(context: AuditContext) -> Iterator[FindingDraft]:
    """Yield endpoints whose client certificate expires soon, or has expired."""
    for one in _usable(context):
        end = _end(one)
        if end is None or end > context.now + EXPIRES_SOON:
            continue
        words = (
            _("The client certificate of %(endpoint)s expired %(end)s.")
            if end <= context.now
            else _("The client certificate of %(endpoint)s expires %(end)s.")
        )
        severity = Severity.SEVERE if end <= context.now else None
        yield FindingDraft.of(one, words, severity, endpoint=_name(one), end=end)


def _usable(context: AuditContext) -> Iterator[Endpoint]:
    rows = Endpoint.objects.using(context.using).usable().select_related("subscription")
    return rows.order_by("pk").iterator(_BATCH)


def _end(endpoint: Endpoint) -> datetime | None:
    pem = endpoint.client_certificate
    if not pem or isinstance(pem, Undecryptable):
        return None
    try:
        found = x509.load_pem_x509_certificates(pem.encode())
    except ValueError:
        return None
    return min(one.not_valid_after_utc for one in found)


def _name(endpoint: Endpoint) -> str:
    return f"{endpoint.subscription.name}: {endpoint}"
