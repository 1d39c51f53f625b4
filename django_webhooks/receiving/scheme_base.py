"""The base of the schemes of this package: each proves a request, and here its message is made."""

from __future__ import annotations

import hmac
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .. import signing
from ..exceptions import VerificationFailed
from . import signature_helpers
from .message import Message
from .parsing import JSON

JSON_TYPES = (JSON,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    """A request as it came, and what it is proven with; see :meth:`schemes.Scheme.verify`."""

    secrets: Sequence[str] = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    now: float
    tolerance: int
    method: str
    url: str

    def header(self, name: str, *, prefix: str = "") -> str:
        """Return what a header says behind a prefix; raise VerificationFailed where it does not."""
        value = signature_helpers.header(self.headers, name.lower())
        if not value.startswith(prefix):
            raise VerificationFailed(f"The {name} header does not begin as agreed.")
        return value.removeprefix(prefix)

    def check_hmac(self, offered: bytes, *signed: bytes, algorithm: str = "sha256") -> None:
        """Raise VerificationFailed unless a secret's HMAC of something signed was offered."""
        keys = signature_helpers.keys(self.secrets)
        signature_helpers.check(
            offered, (hmac.digest(key, one, algorithm) for key in keys for one in signed)
        )

    def check_time(self, timestamp: int) -> None:
        """Raise TimestampRefused where the timestamp, in seconds, is too far from now."""
        signing.check_time(timestamp, now=self.now, tolerance=self.tolerance)


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemeBase(ABC):
    """A scheme whose subclasses write ``prove``."""

    name: str
    content_types: Sequence[str] = JSON_TYPES
    credential_headers: Sequence[str] = ()

    def verify(
        self,
        *,
        secrets: Sequence[str],
        headers: Mapping[str, str],
        body: bytes,
        now: float,
        tolerance: int,
        method: str = "POST",
        url: str = "",
    ) -> Message:
        """See :class:`schemes.Scheme`; ``method`` is in capitals, ``url`` the full one."""
        offered = Offered(
            secrets=secrets,
            headers=headers,
            body=body,
            now=now,
            tolerance=tolerance,
            method=method,
            url=url,
        )
        message_id, timestamp = self.prove(offered)
        return Message(
            scheme=self.name,
            id=signature_helpers.message_id(message_id),
            body=body,
            timestamp=timestamp,
            headers=headers,
        )

    @abstractmethod
    def prove(self, offered: Offered) -> tuple[str, int | None]:
        """Return the id of the message, and its timestamp where that is signed; or raise."""
