"""What settings open: networks, ports, requests in the clear."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ...conf import settings
from ..finding import Scene, Severity, Told, rule

#: Networks with a shorter prefix are wide, for IPv4 and IPv6.
WIDE = {4: 16, 6: 48}


@rule(
    "webhooks.A005",
    Severity.WARNING,
    gettext_lazy("Open no more than receivers of yours need; accept this where they need it."),
)
def opened(scene: Scene) -> Iterator[Told]:
    """Yield networks that are open to webhooks although they are not public."""
    for one in settings.WEBHOOKS_ALLOWED_NETWORKS:
        network = ipaddress.ip_network(one)
        is_wide = network.prefixlen < WIDE[network.version]
        yield Told(
            subject=f"network:{network}",
            sentence=_("Whoever may enter a URL can call %(count)d addresses in %(network)s.")
            % {"count": network.num_addresses, "network": network},
            severity=Severity.SEVERE if is_wide else None,
        )


@rule(
    "webhooks.A006",
    Severity.SEVERE,
    gettext_lazy("Leave WEBHOOKS_REQUIRE_HTTPS out of the settings."),
)
def https_off(scene: Scene) -> Iterator[Told]:
    """Yield that URLs without TLS are taken."""
    if settings.WEBHOOKS_REQUIRE_HTTPS is False:
        yield Told(
            subject="setting:WEBHOOKS_REQUIRE_HTTPS",
            sentence=_("Endpoints may have URLs that are not https."),
        )


@rule(
    "webhooks.A007",
    Severity.WARNING,
    gettext_lazy("Set WEBHOOKS_ALLOWED_PORTS to those that your receivers listen on."),
)
def every_port(scene: Scene) -> Iterator[Told]:
    """Yield that every port of a network that is not public may be called."""
    if settings.WEBHOOKS_ALLOWED_NETWORKS and settings.WEBHOOKS_ALLOWED_PORTS is None:
        yield Told(
            subject="setting:WEBHOOKS_ALLOWED_PORTS",
            sentence=_("Every port of the opened networks may be called, of any service there."),
        )


@rule(
    "webhooks.A008",
    Severity.WARNING,
    gettext_lazy("Deny these networks in the proxy, then accept this."),
)
def denied_past_a_proxy(scene: Scene) -> Iterator[Told]:
    """Yield that a proxy decides about addresses that are to be denied."""
    if settings.WEBHOOKS_PROXY and settings.WEBHOOKS_DENIED_NETWORKS:
        yield Told(
            subject="setting:WEBHOOKS_DENIED_NETWORKS",
            sentence=_("WEBHOOKS_DENIED_NETWORKS does not apply to names: WEBHOOKS_PROXY looks "
                       "them up."),
        )  # fmt: skip
