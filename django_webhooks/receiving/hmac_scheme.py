"""A scheme for senders that sign the body alone, and differ in how they write it down."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

from . import signature_helpers
from .scheme_base import Offered, SchemeBase


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyHmac(SchemeBase):
    """A header that holds an HMAC of the body: what most senders have that are not named here.

    ``prefix`` stands before the signature, which is written in ``hex`` or ``base64`` (``encoding``)
    and made with ``algorithm``, by its name in ``hashlib``. The id is that of the header
    ``id_header``, which is not signed, or a digest of the body; with ``always_new`` each request is
    a message of its own, for senders that say the same each time that something happens.
    """

    header: str
    prefix: str = ""
    encoding: Literal["hex", "base64"] = "hex"
    algorithm: str = "sha256"
    id_header: str = ""
    always_new: bool = False
    name: str = "hmac"

    def __post_init__(self) -> None:
        if self.algorithm not in hashlib.algorithms_guaranteed or "shake" in self.algorithm:
            raise ValueError(f"{self.algorithm!r} is no algorithm of hashlib for an HMAC.")
        if self.encoding not in ("hex", "base64"):
            raise ValueError(f"A signature is written in hex or base64, not {self.encoding!r}.")

    def prove(self, offered: Offered) -> tuple[str, int | None]:
        """Verify the signature over the body."""
        text = offered.header(self.header, prefix=self.prefix)
        signature = (
            signature_helpers.from_hex(text)
            if self.encoding == "hex"
            else signature_helpers.from_base64(text)
        )
        offered.check_hmac(signature, offered.body, algorithm=self.algorithm)
        own = offered.header(self.id_header) if self.id_header else ""
        return own or signature_helpers.own_id(offered.body, always_new=self.always_new), None
