"""Audit rules about settings that open networks, ports, requests in the clear."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ...conf import settings
from ..finding import AuditContext, FindingDraft, Severity, rule

#: Networks with a shorter prefix are wide, for IPv4 and IPv6.
WIDE = {4: 16, 6: 48}


@rule(
    "webhooks.A005",
    Severity.WARNING,
    gettext_lazy("Open no more than receivers of yours need; accept this where they need it."),
)
def opened(context: AuditContext) -> Iterator[FindingDraft]:
    """Yield networks that are open to webhooks although they are not public."""
    for one in settings.WEBHOOKS_ALLOWED_NETWORKS:
        network = ipaddress.ip_network(one)
        is_wide = network.prefixlen < WIDE[network.version]
        yield FindingDraft.of(
            f"network:{network}",
            _("Whoever may enter a URL can call %(count)d addresses in %(network)s."),
            severity=Severity.SEVERE if is_wide else None,
            count=network.num_addresses,
            network=network,
        )


@rule(
    "webhooks.A006",
    Severity.SEVERE,
    gettext_lazy("Leave WEBHOOKS_REQUIRE_HTTPS out of the settings."),
)
def https_off(context: AuditContext) -> Iterator[FindingDraft]:
    """Yield that URLs without TLS are taken."""
    if settings.WEBHOOKS_REQUIRE_HTTPS is False:
        words = _("Endpoints may have URLs that are not https.")
        yield FindingDraft.of("setting:WEBHOOKS_REQUIRE_HTTPS", words)


@rule(
    "webhooks.A007",
    Severity.WARNING,
    gettext_lazy("Set WEBHOOKS_ALLOWED_PORTS to those that your receivers listen on."),
)
def every_port(context: AuditContext) -> Iterator[FindingDraft]:
    """Yield that every port of a network that is not public may be called."""
    if settings.WEBHOOKS_ALLOWED_NETWORKS and settings.WEBHOOKS_ALLOWED_PORTS is None:
        words = _("Every port of the opened networks may be called, of any service there.")
        yield FindingDraft.of("setting:WEBHOOKS_ALLOWED_PORTS", words)


@rule(
    "webhooks.A008",
    Severity.WARNING,
    gettext_lazy("Deny these networks in the proxy, then accept this."),
)
def denied_past_a_proxy(context: AuditContext) -> Iterator[FindingDraft]:
    """Yield that a proxy decides about addresses that are to be denied."""
    if settings.WEBHOOKS_PROXY_URL and settings.WEBHOOKS_DENIED_NETWORKS:
        words = _("WEBHOOKS_DENIED_NETWORKS does not apply to names: WEBHOOKS_PROXY_URL looks "
                  "them up.")  # fmt: skip
        yield FindingDraft.of("setting:WEBHOOKS_DENIED_NETWORKS", words)
