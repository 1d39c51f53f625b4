"""The scheme of Microsoft Graph, whose notifications hold a secret text and no signature."""

from __future__ import annotations

import hmac
import json
from dataclasses import dataclass, field

from ..exceptions import VerificationFailed
from . import signature_helpers
from .handshakes import GraphHandshake, Handshake
from .scheme_base import Offered, SchemeBase


@dataclass(frozen=True, slots=True, kw_only=True)
class MicrosoftGraph(SchemeBase):
    """``clientState``: the text that a subscription was made with, in each of its notifications.

    The text proves who speaks, not what was said, and is kept with the payload. Each request is a
    message of its own: a notification of a second change may be the same text as that of the first.
    Source: https://learn.microsoft.com/en-us/graph/change-notifications-delivery-webhooks
    """

    name: str = "graph"
    always_new: bool = True
    signs_body: bool = False
    handshake: Handshake = field(default_factory=GraphHandshake)

    def prove(self, offered: Offered) -> tuple[str, int | None]:
        """Compare each clientState with the secrets."""
        known = signature_helpers.keys(offered.secrets)
        states = self._states(offered.body)
        # Each is compared with each, whichever holds.
        held = [[hmac.compare_digest(one, key) for key in known] for one in states]
        if not states or not all(any(one) for one in held):
            raise VerificationFailed("A notification has not the clientState of a subscription.")
        return signature_helpers.own_id(offered.body, always_new=self.always_new), None

    def _states(self, body: bytes) -> list[bytes]:
        try:
            found = json.loads(body.decode("utf-8-sig"))["value"]
            return [str(one["clientState"]).encode("utf-8", "surrogatepass") for one in found]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise VerificationFailed(
                "The body holds no notifications of Microsoft Graph."
            ) from None
