"""Which addresses may be called: global unicast ones, and networks that the project opened.

Default-deny, from the registries of IANA rather than from ``ipaddress.is_global``, which calls
``fec0::1``, ``::127.0.0.1`` and ``4000::1`` global:

- https://www.iana.org/assignments/iana-ipv4-special-registry
- https://www.iana.org/assignments/iana-ipv6-special-registry
- https://www.iana.org/assignments/ipv6-address-space (2000::/3 is the global unicast space)
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_GLOBAL_IPV6 = ipaddress.IPv6Network("2000::/3")

#: What is never called unless the project opened it, and what it is.
SPECIAL: dict[Network, str] = {
    ipaddress.ip_network(network): what
    for network, what in {
        "0.0.0.0/8": "this network (RFC 791)",
        "10.0.0.0/8": "private (RFC 1918)",
        "100.64.0.0/10": "shared by providers (RFC 6598)",
        "127.0.0.0/8": "loopback (RFC 1122)",
        "169.254.0.0/16": "link-local (RFC 3927)",
        "172.16.0.0/12": "private (RFC 1918)",
        "192.0.0.0/24": "for protocols (RFC 6890)",
        "192.0.2.0/24": "for documentation (RFC 5737)",
        "192.88.99.0/24": "a relay of 6to4 (RFC 7526)",
        "192.168.0.0/16": "private (RFC 1918)",
        "198.18.0.0/15": "for benchmarks (RFC 2544)",
        "198.51.100.0/24": "for documentation (RFC 5737)",
        "203.0.113.0/24": "for documentation (RFC 5737)",
        "224.0.0.0/4": "multicast (RFC 5771)",
        "240.0.0.0/4": "reserved (RFC 1112)",
        "2001::/23": "for protocols (RFC 2928)",
        "2001:db8::/32": "for documentation (RFC 3849)",
        "2002::/16": "6to4, which leads to IPv4 (RFC 3056)",
        "3fff::/20": "for documentation (RFC 9637)",
    }.items()
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why an address or a URL is refused: the rule in a word, and a sentence for a person."""

    rule: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Networks:
    """The networks that the project opened and closed beyond the default."""

    allowed: tuple[Network, ...] = ()
    denied: tuple[Network, ...] = ()


def networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Return networks; raise ValueError where a text names none, or has host bits set."""
    return tuple(ipaddress.ip_network(text) for text in texts)


def judge(text: str, opened: Networks) -> Refusal | None:
    """Return why an address is refused, or None where it may be called.

    An IPv4 address inside an IPv6 one (``::ffff:…``) is judged as itself, since that is where the
    packets go. Raise ValueError where the text is no address.
    """
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if _within(address, opened.denied):
        return Refusal(
            rule="denied", message=f"{address} is in WEBHOOKS_DENIED_NETWORKS; use another address."
        )
    if _within(address, opened.allowed):
        return None
    what = _special(address)
    if what is None:
        return None
    return Refusal(
        rule="address",
        message=f"{address} is {what}; use a public address, or open its network in "
        "WEBHOOKS_ALLOWED_NETWORKS.",
    )


def _special(address: Address) -> str | None:
    for network, what in SPECIAL.items():
        if address in network:
            return what
    if isinstance(address, ipaddress.IPv6Address) and address not in _GLOBAL_IPV6:
        return "not in the global unicast space (RFC 4291)"
    return None


def _within(address: Address, opened: Sequence[Network]) -> bool:
    return any(address in network for network in opened)
