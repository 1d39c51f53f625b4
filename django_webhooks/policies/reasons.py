"""Reasons: the closed lists of machine codes that say why, each with a sentence for people.

Columns named ``reason`` of deliveries, attempts, probes, health, roll-ups and rejections hold these
codes and nothing else: statistics, metrics and logs are made of them, so that no name of a person
and no text of a receiver gets there. The name of a person is a column of its own (``cancelled_by``,
``by``); text that people enter for each other is one as well (``note``, ``pin_reason``).

Codes are part of the interface: receivers read them in ``webhook-retry-reason``, alerts name them.
Add members; never rename one. A new one needs a place in ``policies.health`` (silence, or our own
fault) or in ``OF_ANSWERS``, a row in ``docs/reference/reasons.md`` and one in
``docs/howto/operate.md``, and its German; filters, texts and metrics know it by themselves.
"""

from __future__ import annotations

import enum
import re
from typing import Literal, NoReturn, Self

__all__ = ["HttpReason", "Reason", "RejectionReason", "SwitchReason"]


def _(text: str) -> str:
    """Mark a text for makemessages; it is translated where it is shown."""
    return text


class _Explained(enum.StrEnum):
    """Codes with a sentence each."""

    help_text: str

    def __new__(cls, value: str, help_text: str = "") -> Self:
        """Return a member. Type checkers take a look-up by value for a call of this."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.help_text = help_text
        return member


class Reason(_Explained):
    """Why an attempt or a probe failed, or why a delivery is over, beside :class:`HttpReason`."""

    # The receiver did not answer as it should.
    TIMEOUT = "timeout", _("There was no answer within the time-out.")
    CONNECT_TIMEOUT = "connect_timeout", _("The connection was not accepted in time.")
    CONNECTION = "connection", _("The connection failed, or broke.")
    DNS = "dns", _("The name of the host could not be resolved.")
    TLS = "tls", _("TLS failed: the certificate, its name, or the handshake.")
    PROTOCOL = "protocol", _("The answer was not HTTP.")
    PROXY = "proxy", _("The proxy refused, or could not connect.")
    BLOCKED = "blocked", _("The URL, or the address it leads to, is not allowed.")
    # The receiver answered, and its status is not the reason.
    REDIRECT = "redirect", _("The receiver answered 3xx; redirects are not followed.")
    CLOCK = "clock", _("The receiver refused the timestamp: its clock or ours is wrong.")
    RECEIVER_REFUSED = "receiver_refused", _("The receiver asked not to be tried again.")
    # Neither the receiver's doing, nor that of anything on the way.
    INTERNAL = "internal", _("It could not be sent by us: the detail and the log say why.")
    EXPIRED = "expired", _("The event is too old to be tried again.")
    LOOP = "loop", _("Webhooks caused each other too many times; it was not sent.")
    SUBSCRIPTION_DELETED = "subscription_deleted", _("Its subscription was deleted.")
    CANCELLED = "cancelled", _("Somebody cancelled it.")


#: Reasons of attempts that were answered, whose statuses are told beside them.
OF_ANSWERS = frozenset({Reason.REDIRECT, Reason.CLOCK, Reason.RECEIVER_REFUSED})


class HttpReason(str):
    """The family ``http_NNN``: the receiver answered that status, three digits from 100 to 999."""

    __slots__ = ()

    def __new__(cls, status: int) -> Self:
        """Return the reason of a status. Raise ValueError unless it has three digits."""
        if not 100 <= status <= 999:
            raise ValueError(f"A status has three digits and begins with 1 to 9, not {status!r}.")
        return super().__new__(cls, f"http_{status:d}")

    def __getnewargs__(self) -> tuple[int]:  # type: ignore[override]  # made of a number
        """Say what a copy is made of."""
        return (self.status,)

    @property
    def status(self) -> int:
        """The status of the answer."""
        return int(self[-3:])

    @property
    def help_text(self) -> str:
        """The meaning, for people."""
        return _("The receiver answered with this status.")


#: What a column named ``reason`` of an attempt, a probe or a delivery holds where it is not empty.
ReasonCode = Reason | HttpReason
#: The same, or nothing: on success.
MaybeReason = ReasonCode | Literal[""]


class SwitchReason(_Explained):
    """Why the active endpoint is another one, beside the reason of what failed."""

    PROBE_SUCCEEDED = "probe_succeeded", _("A health check succeeded.")
    TRIAL_SUCCEEDED = "trial_succeeded", _("A delivery arrived.")
    SUBSCRIPTION_CHANGED = "subscription_changed", _("The subscription was changed.")
    ENDPOINTS_CHANGED = "endpoints_changed", _("An endpoint was added, changed or deleted.")
    ENDPOINT_DISABLED = "endpoint_disabled", _("An endpoint was disabled.")
    ENDPOINT_ENABLED = "endpoint_enabled", _("An endpoint was enabled.")
    PINNED = "pinned", _("An endpoint was pinned.")
    UNPINNED = "unpinned", _("A pin was lifted.")
    RESUMED = "resumed", _("The subscription was resumed.")
    FAILED_BACK = "failed_back", _("Somebody switched back.")
    REPAIRED = "repaired", _("No endpoint was active although one could be.")


class RejectionReason(_Explained):
    """Why a received request was refused; the sender is told the code."""

    METHOD = "method", _("It was not sent by POST.")
    HTTPS = "https", _("It did not come by https.")
    CONTENT_TYPE = "content_type", _("Its content type is not taken.")
    ENCODING = "encoding", _("Its body is compressed.")
    HOST = "host", _("Its host is none of this site.")
    HANDSHAKE = "handshake", _("It asked to be let send, and is not.")
    NETWORK = "network", _("It came from an address that may not call.")
    NETWORKS = "networks", _("The networks that may call have not been loaded.")
    SIZE = "size", _("It was too large.")
    LENGTH = "length", _("It does not say where its body ends, or not so that the server reads it.")
    READ = "read", _("Its body did not come in full.")
    PAYLOAD = "payload", _("Its body is not what its content type says.")
    SIGNATURE = "signature", _("Its signature did not hold.")
    TIMESTAMP = "timestamp", _("Its signature holds, but its time is too far from ours.")
    SECRETS = "secrets", _("There was no secret to verify it with, or none that is well formed.")


_HTTP = re.compile(r"http_([1-9][0-9]{2})\Z")


def parse(code: str) -> ReasonCode:
    """Return the reason of a code, or raise ValueError that says which there are."""
    if found := _HTTP.match(code):
        return HttpReason(int(found[1]))
    try:
        return Reason(code)
    except ValueError:
        _refuse(code)


def help_text(code: str) -> str:
    """Return the sentence of any code of these lists, not translated; "" for what is none."""
    if found := _HTTP.match(code):
        return HttpReason(int(found[1])).help_text
    for codes in (Reason, SwitchReason, RejectionReason):
        if code in codes.__members__.values():
            return codes(code).help_text
    return ""


def _refuse(code: str) -> NoReturn:
    raise ValueError(
        f"{code[:40]!r} is no reason: use http_NNN or one of {', '.join(Reason)}."
    ) from None
