"""The proxy that requests leave through, read strictly out of its setting."""

from __future__ import annotations

import functools
import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

from .. import process_state

_WHOLE = re.compile(
    r"http://(?:([^\s/?#@\\]*)@)?([0-9A-Za-z._-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?/?", re.I
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """The address of the proxy, and the headers that it wants: credentials, if any."""

    host: str
    port: int
    authorization: str = field(default="", repr=False)

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers of each request to the proxy itself."""
        return {"Proxy-Authorization": self.authorization} if self.authorization else {}


@process_state.memo
@functools.lru_cache(maxsize=16)
def parse(text: object) -> Proxy | None:
    """Return the proxy that a URL names, or None for the empty text.

    Raise ValueError, without the text, which may hold a password, where it is no ``http://`` URL of
    a host and a port.
    """
    if not text:
        return None
    found = _WHOLE.fullmatch(text) if isinstance(text, str) else None
    port = int(found[3] or 80) if found else 0
    if found is None or not 0 < port < 65_536:
        raise ValueError(
            "WEBHOOKS_PROXY_URL is not the URL of a proxy; set it to one such as "
            '"http://user:password@proxy.internal:4750", with % signs for special characters.'
        )
    authorization = ""
    if found[1]:
        user, _, password = found[1].partition(":")
        plain = f"{unquote(user)}:{unquote(password)}".encode()
        # RFC 7617 section 2.
        authorization = f"Basic {b64encode(plain).decode()}"
    return Proxy(host=found[2].strip("[]"), port=port, authorization=authorization)
