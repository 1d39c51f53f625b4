"""The client: which address a request comes from, where proxies stand before the site.

``X-Forwarded-For`` is believed from the right, and only as far as each hop was added by a proxy
that is trusted: what a client writes into it itself stands to the left of what proxies add.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence

from ..policies.addresses import Address, Network

#: An address as proxies write it with a port, or IPv6 in brackets.
_WRITTEN = re.compile(r"\[([0-9A-Fa-f]*:[0-9A-Fa-f:.]+)\](?::[0-9]{1,5})?|([0-9.]+):[0-9]{1,5}")


def address(remote: str, forwarded: str, *, trusted: Sequence[Network]) -> Address:
    """Return the address of the client.

    ``remote`` is who connected, ``forwarded`` the header as it came (several are joined by commas).
    Raise ValueError where an address that decides is malformed.
    """
    found = parse(remote)
    hops = [one.strip() for one in forwarded.split(",")] if forwarded.strip() else []
    while hops and within(found, trusted):
        found = parse(hops.pop())
    return found


def parse(text: str) -> Address:
    """Return an address, without a port; one of IPv4 inside IPv6 as itself.

    Raise ValueError for anything else.
    """
    text = text.strip()
    if written := _WRITTEN.fullmatch(text):
        text = written[1] or written[2]
    found = ipaddress.ip_address(text)
    if isinstance(found, ipaddress.IPv6Address):
        if found.scope_id:
            raise ValueError("An address with a zone is none that a proxy writes.")
        return found.ipv4_mapped or found
    return found


def within(found: Address, networks: Sequence[Network]) -> bool:
    """Say whether the address lies in one of the networks."""
    return any(found.version == one.version and found in one for one in networks)
