"""Handshakes: what senders ask before they send, to learn that a URL takes their messages.

The answer is for the sender alone: nothing is verified unless it says so, nothing is stored, and no
handler runs. The answer is plain text or JSON of a bounded length, never HTML, so that a link
cannot make a page of this site out of it.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse

from ..exceptions import InvalidPayload, Rejected
from ..policies.reasons import RejectionReason
from . import body
from .message import Message

#: Characters that are said back at the most.
MAX_ECHO = 4_096


class Handshake:
    """Answers what a sender asks first. Write ``answer``, ``answer_message``, or both.

    Each returns the answer, None where the request is no handshake, or raises Rejected where it is
    one and is not granted.
    """

    #: Methods besides POST for which ``answer`` is asked.
    methods: Sequence[str] = ()

    def answer(self, request: HttpRequest) -> HttpResponseBase | None:
        """Answer a request that nobody has verified. Leave a POST that has a body alone."""
        return None

    def answer_message(self, request: HttpRequest, message: Message) -> HttpResponseBase | None:
        """Answer a message whose signature holds, and which is then not handled."""
        return None


def plain(value: str) -> HttpResponse:
    """Return an answer that says a value back as plain text. Raise Rejected for no plain value."""
    return _safe(HttpResponse(_bounded(value), content_type="text/plain; charset=utf-8"))


def as_json(values: dict[str, str]) -> HttpResponse:
    """Return an answer that says values back as JSON. Raise Rejected for no plain value."""
    return _safe(JsonResponse({name: _bounded(value) for name, value in values.items()}))


def _bounded(value: str) -> str:
    if not value or len(value) > MAX_ECHO or not value.isprintable():
        raise Rejected(
            RejectionReason.HANDSHAKE, 400, "The challenge is empty, too long, or not plain text."
        )
    return value


def _safe(answer: HttpResponse) -> HttpResponse:
    # Some servers send chunks otherwise, to HTTP/1.0 too.
    answer.headers["Content-Length"] = str(len(answer.content))
    answer.headers["X-Content-Type-Options"] = "nosniff"
    answer.headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
    answer.headers["Cache-Control"] = "no-store"
    return answer


@dataclass(frozen=True, slots=True, kw_only=True)
class MetaHandshake(Handshake):
    """Meta: GET with ``hub.mode=subscribe``, ``hub.verify_token`` and ``hub.challenge``.

    ``verify_token`` is the text of your own that you enter at Meta, several of them, or a callable
    that takes the request and returns them.
    Source: https://developers.facebook.com/docs/graph-api/webhooks/getting-started
    """

    verify_token: str | Iterable[str] | Callable[[HttpRequest], str | Iterable[str]] = field(
        repr=False
    )
    methods: Sequence[str] = ("GET",)

    def answer(self, request: HttpRequest) -> HttpResponseBase | None:
        """See :class:`Handshake`."""
        if request.method != "GET" or request.GET.get("hub.mode") != "subscribe":
            return None
        tokens = self.verify_token
        found = tokens(request) if callable(tokens) else tokens
        known = [found] if isinstance(found, str) else list(found)
        offered = request.GET.get("hub.verify_token", "").encode("utf-8", "surrogatepass")
        # Each is compared, whichever it is; an empty one would let everybody in.
        held = [hmac.compare_digest(offered, one.encode()) for one in known if one]
        if not any(held):
            raise Rejected(
                RejectionReason.HANDSHAKE, 403, "The hub.verify_token is none of this site."
            )
        return plain(request.GET.get("hub.challenge", ""))


@dataclass(frozen=True, slots=True, kw_only=True)
class EchoHandshake(Handshake):
    """A request without a body whose query holds a value to be said back as plain text."""

    parameter: str = "challenge"
    methods: Sequence[str] = ("GET",)

    def answer(self, request: HttpRequest) -> HttpResponseBase | None:
        """See :class:`Handshake`."""
        if request.method not in self.methods or self.parameter not in request.GET:
            return None
        # A message that a stranger's query would have answered is not one that was received.
        return plain(request.GET[self.parameter]) if body.is_empty(request) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class DropboxHandshake(EchoHandshake):
    """Dropbox: GET with ``challenge``.

    Source: https://www.dropbox.com/developers/reference/webhooks
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphHandshake(EchoHandshake):
    """Microsoft Graph: POST with ``validationToken`` in its query, and without a body.

    Source: https://learn.microsoft.com/en-us/graph/change-notifications-delivery-webhooks
    """

    parameter: str = "validationToken"
    methods: Sequence[str] = ("POST",)


@dataclass(frozen=True, slots=True, kw_only=True)
class OktaHandshake(Handshake):
    """Okta: one GET with ``X-Okta-Verification-Challenge``, said back as JSON.

    Source: https://developer.okta.com/docs/concepts/event-hooks/#one-time-verification-request
    """

    methods: Sequence[str] = ("GET",)

    def answer(self, request: HttpRequest) -> HttpResponseBase | None:
        """See :class:`Handshake`."""
        challenge = request.headers.get("X-Okta-Verification-Challenge")
        if request.method != "GET" or challenge is None:
            return None
        return as_json({"verification": challenge})


@dataclass(frozen=True, slots=True, kw_only=True)
class SlackHandshake(Handshake):
    """Slack: a signed message of type ``url_verification``, its ``challenge`` said back.

    ``Slack()`` has it by itself. Source: https://api.slack.com/events/url_verification
    """

    methods: Sequence[str] = ()

    def answer_message(self, request: HttpRequest, message: Message) -> HttpResponseBase | None:
        """See :class:`Handshake`."""
        try:
            said = message.payload if message.is_json else None
        except InvalidPayload:
            return None
        if not isinstance(said, dict) or said.get("type") != "url_verification":
            return None
        challenge = said.get("challenge")
        return plain(challenge if isinstance(challenge, str) else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudEventsHandshake(Handshake):
    """CloudEvents: OPTIONS with ``WebHook-Request-Origin``, as Azure Event Grid sends it.

    ``allowed_origins`` are the names of senders that are let send, such as
    ``eventgrid.azure.net``; ``*`` lets all. ``rate`` is how many requests a minute they may send,
    None as many as they like. Source:
    https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/http-webhook.md#4-abuse-protection
    """

    allowed_origins: Iterable[str]
    rate: int | None = None
    methods: Sequence[str] = ("OPTIONS",)

    def answer(self, request: HttpRequest) -> HttpResponseBase | None:
        """See :class:`Handshake`."""
        origin = request.headers.get("WebHook-Request-Origin")
        if request.method != "OPTIONS" or origin is None:
            return None
        known = {one.lower() for one in self.allowed_origins}
        if "*" not in known and origin.lower() not in known:
            raise Rejected(RejectionReason.HANDSHAKE, 403, "The origin is none that may send.")
        answer = _safe(HttpResponse(status=200, content_type="text/plain; charset=utf-8"))
        answer.headers["Allow"] = "OPTIONS, POST"
        answer.headers["WebHook-Allowed-Origin"] = _bounded(origin) if "*" not in known else "*"
        answer.headers["WebHook-Allowed-Rate"] = "*" if self.rate is None else str(self.rate)
        return answer
