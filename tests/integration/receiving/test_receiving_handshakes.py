"""Handshakes: answered in bounds and as no page, before or behind the signature, and never kept."""

from __future__ import annotations

import logging
import time

import pytest
from django.http import HttpResponse
from django.test import Client, RequestFactory
from django.urls import path

from django_webhooks.inbox.models import InboxMessage, Rejection
from django_webhooks.policies.reasons import RejectionReason
from django_webhooks.receiving import (
    CloudEventsHandshake,
    DropboxHandshake,
    EchoHandshake,
    GitHub,
    GraphHandshake,
    Guard,
    Handshake,
    MetaHandshake,
    OktaHandshake,
    Rejected,
    Slack,
    Token,
    WebhookView,
    webhook,
)
from django_webhooks.receiving.handshakes import MAX_ECHO
from tests import senders
from tests.senders import SECRET

# They look at requests: all databases behave alike.
pytestmark = [pytest.mark.django_db, pytest.mark.alike]
handled = []


def keep(request, message):
    handled.append(message)


class Both(Handshake):
    """A handshake by PUT, and one that is a message."""

    methods = ("PUT",)

    def answer(self, request):
        return HttpResponse("put") if request.method == "PUT" else None

    def answer_message(self, request, message):
        if message.body == b'"refuse"':
            raise Rejected(RejectionReason.HANDSHAKE, 403, "Not so.")
        return HttpResponse("said") if message.body == b'"hello"' else None


class Classy(WebhookView):
    scheme, secrets, handshake = Token(), SECRET, [DropboxHandshake(), OktaHandshake()]
    background = True

    def handle(self, message):
        handled.append(message)


def view(handshake, scheme=None, **options):
    return webhook(
        scheme=scheme or Token(),
        secrets=SECRET,
        handshake=handshake,
        name=repr(handshake)[:100],
        **options,
    )(keep)


urlpatterns = [
    path("dropbox/", view(DropboxHandshake())),
    path("meta/", view(MetaHandshake(verify_token=["", "new", "old"]), GitHub(id_from_body=True))),
    path("nobody/", view(MetaHandshake(verify_token=""))),
    path("graph/", view(GraphHandshake())),
    path("okta/", view(OktaHandshake())),
    path("events/", view(CloudEventsHandshake(allowed_origins=["a.example", "B.example"]))),
    path("anybody/", view(CloudEventsHandshake(allowed_origins=["*"], rate=5))),
    path("slack/", view(None, Slack())),
    path("both/", view([Both(), EchoHandshake(parameter="q", methods=("GET", "PUT"))])),
    path("few/", view(DropboxHandshake(), allowed_networks=["192.0.2.0/24"])),
    path("class/", Classy.as_view()),
]


@pytest.fixture(autouse=True)
def _site(settings):
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = []
    handled.clear()
    yield
    assert not InboxMessage.objects.exists() or handled


def ask(method, address, *, secure=True, **options):
    return Client().generic(method, address, secure=secure, **options)


@pytest.mark.parametrize("size", [1, MAX_ECHO])
def test_what_is_said_back_is_plain_and_no_page(size):
    answer = ask("GET", f"/dropbox/?challenge={'x' * size}")

    assert (answer.status_code, len(answer.content)) == (200, size)
    assert answer["Content-Type"] == "text/plain; charset=utf-8"
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert answer["Cache-Control"] == "no-store"
    assert answer["Content-Length"] == str(size)


NO_VALUES = {
    "empty": "",
    "too long": "x" * (MAX_ECHO + 1),
    "a line break": "a%0d%0aSet-Cookie:%20x",
    "NUL": "a%00",
    "an escape": "%1b%5b2J",
    "a mark of direction": "%e2%80%ae",
}


@pytest.mark.parametrize("value", NO_VALUES.values(), ids=NO_VALUES)
@pytest.mark.parametrize(
    ("method", "address", "status"),
    [
        ("GET", "/dropbox/?challenge=", 400),
        ("POST", "/graph/?validationToken=", 400),
        ("GET", "/meta/?hub.mode=subscribe&hub.verify_token=new&hub.challenge=", 400),
    ],
)
def test_what_is_no_plain_value_is_not_said_back(method, address, status, value):
    answer = ask(method, address + value)

    assert (answer.status_code, answer.content) == (status, b"handshake\n")
    assert Rejection.objects.get().reason == "handshake"


@pytest.mark.parametrize("value", ["", "x" * (MAX_ECHO + 1), "a\0"])
def test_a_header_that_is_no_plain_value(value):
    assert ask("GET", "/okta/", headers={"X-Okta-Verification-Challenge": value}).status_code == 400


@pytest.mark.parametrize("address", ["/dropbox/?challenge=x", "/few/?challenge=x"])
def test_https_and_network_are_asked_first(address, settings):
    is_few = address.startswith("/few/")

    assert ask("GET", address, secure=False).content == b"https\n"
    answer = ask("GET", address, REMOTE_ADDR="192.0.2.7" if is_few else "203.0.113.7")
    assert answer.status_code == 200
    if is_few:
        assert ask("GET", address, REMOTE_ADDR="203.0.113.7").content == b"network\n"


@pytest.mark.parametrize(
    ("token", "status"),
    [("new", 200), ("old", 200), ("", 403), ("new ", 403), ("x", 403), ("ü", 403)],
)
def test_the_verify_token_of_meta(token, status):
    query = {"hub.mode": "subscribe", "hub.challenge": "1", "hub.verify_token": token}

    assert Client().get("/meta/", query, secure=True).status_code == status
    assert Client().get("/nobody/", query, secure=True).status_code == 403


def test_a_verify_token_is_in_no_repr():
    assert "planted" not in repr(MetaHandshake(verify_token="planted"))
    assert "planted" not in repr(Guard(secrets="planted", scheme=Token()))


def test_a_message_with_a_stranger_s_query_is_a_message():
    answer = ask(
        "POST",
        "/graph/?validationToken=x",
        data=b'{"n":1}',
        content_type="application/json",
        headers=senders.token(),
    )

    assert answer.status_code == 204
    assert [one.payload for one in handled] == [{"n": 1}]


@pytest.mark.parametrize(
    ("method", "address", "allow"),
    [
        ("GET", "/dropbox/", "POST, GET"),
        ("HEAD", "/dropbox/?challenge=x", "POST, GET"),
        ("PUT", "/dropbox/?challenge=x", "POST, GET"),
        ("GET", "/graph/?validationToken=x", "POST"),
        ("OPTIONS", "/events/", "POST, OPTIONS"),
        ("GET", "/okta/", "POST, GET"),
        ("GET", "/both/", "POST, PUT, GET"),
        ("GET", "/class/", "POST, GET"),
        ("GET", "/slack/?challenge=x", "POST"),
    ],
)
def test_what_is_no_handshake_is_no_allowed_method(method, address, allow):
    answer = ask(method, address)

    assert (answer.status_code, answer["Allow"]) == (405, allow)


@pytest.mark.parametrize(
    ("address", "origin", "allowed", "rate"),
    [
        ("/events/", "a.example", "a.example", "*"),
        ("/events/", "A.Example", "A.Example", "*"),
        ("/events/", "b.example", "b.example", "*"),
        ("/events/", "a.example.evil", None, None),
        ("/events/", "*", None, None),
        ("/events/", "", None, None),
        ("/anybody/", "evil.example", "*", "5"),
    ],
)
def test_which_origins_may_send(address, origin, allowed, rate):
    answer = ask("OPTIONS", address, headers={"WebHook-Request-Origin": origin})

    assert answer.status_code == (200 if allowed else 403)
    assert answer.get("WebHook-Allowed-Origin") == allowed
    assert answer.get("WebHook-Allowed-Rate") == rate


SLACK = {
    "a challenge": (b'{"type":"url_verification","challenge":"abc"}', 200),
    "no challenge": (b'{"type":"url_verification"}', 400),
    "a challenge that is no text": (b'{"type":"url_verification","challenge":7}', 400),
    "an event": (b'{"type":"event_callback","event_id":"Ev1"}', 204),
    "a list": (b"[]", 204),
    "no JSON": (b"{", 204),
}


@pytest.mark.parametrize(("body", "status"), SLACK.values(), ids=SLACK)
def test_slack(body, status):
    headers = senders.slack(body, at=int(time.time()))

    answer = ask("POST", "/slack/", data=body, content_type="application/json", headers=headers)

    assert answer.status_code == status
    assert len(handled) == (status == 204)
    unsigned = ask("POST", "/slack/", data=body, content_type="application/json")
    assert unsigned.status_code == 401


def test_a_form_of_slack_is_no_handshake():
    body = b"payload=%7B%22type%22%3A%22url_verification%22%2C%22challenge%22%3A%22x%22%7D"
    headers = senders.slack(body, at=int(time.time()))
    form = "application/x-www-form-urlencoded"

    answer = ask("POST", "/slack/", data=body, content_type=form, headers=headers)

    assert answer.status_code == 204


def test_several_handshakes_and_one_s_own(caplog):
    def post(body):
        return ask(
            "POST",
            "/both/",
            data=body,
            content_type="application/json",
            headers=senders.token(body),
        )

    assert ask("PUT", "/both/").content == b"put"
    assert ask("GET", "/both/?q=x").content == b"x"
    assert post(b'"hello"').content == b"said"
    with caplog.at_level(logging.WARNING):
        assert post(b'"refuse"').content == b"handshake\n"
    assert "Not so." in caplog.text
    assert post(b'"other"').status_code == 204
    assert len(handled) == 1


def test_a_class():
    assert ask("GET", "/class/?challenge=x").content == b"x"
    answer = ask("GET", "/class/", headers={"X-Okta-Verification-Challenge": "y"})
    assert answer.json() == {"verification": "y"}


def test_a_handshake_that_answers_nothing():
    request = RequestFactory().get("/")

    assert Handshake().answer(request) is None
    assert Handshake().answer_message(request, None) is None
