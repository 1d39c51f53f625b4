"""What an answer repeats of our secrets is not stored: paths, queries, credentials."""

from __future__ import annotations

import base64
import html
import json
from urllib.parse import quote, quote_plus

import pytest

from django_webhooks.models import Attempt, Endpoint, Probe
from django_webhooks.policies import health
from django_webhooks.sending import attempts, health_checks, http, worker
from django_webhooks.sending.health_checks import probe
from tests import factories
from tests.receivers import Answer, receiving, speaking

pytestmark = pytest.mark.django_db
PATH = "/hooks/planted-path-7f3a?token=planted%2Dquery-91"
SECRETS = {
    "authorization": "Bearer planted-token",
    "headers": {"X-Key": "planted-header"},
}


def stored(answer, **fields):
    """What is kept of an answer, as one text."""
    with receiving(answer) as receiver:
        delivery = factories.delivery(receiver.url.replace("/hook", PATH))
        endpoint = Endpoint.objects.get()
        for name, value in {**SECRETS, **fields}.items():
            setattr(endpoint, name, value)
        endpoint.save()
        worker.drain([delivery.pk], clock=factories.Clock())
    found = Attempt.objects.get()
    return found, json.dumps(
        [found.detail, found.response_headers, found.response_body], ensure_ascii=False
    )


def test_a_redirect_to_the_same_path_does_not_tell_it():
    where = f"https://example.com{PATH.replace('?', '/?')}"

    found, text = stored(Answer(301, {"Location": where}))

    assert found.detail == "Redirects are not followed; it names https://example.com…/?…"
    assert "planted" not in text


@pytest.mark.parametrize("status", [200, 404])
def test_a_page_that_quotes_the_request_does_not_tell_it(status):
    page = f"Cannot POST {PATH} or planted-query-91, Bearer planted-token planted-header; a pity."

    found, text = stored(Answer(status, {"X-Echo": page}, page.encode()))

    assert "planted" not in text
    assert found.response_body == "Cannot POST … or …, … …; a pity."


def test_no_half_of_a_secret_is_left_where_the_body_is_cut(settings):
    settings.WEBHOOKS_RESPONSE_EXCERPT_BYTES = 10

    found, text = stored(Answer(500, body=b"12345 planted-token and more"))

    assert found.response_body == "12345 … "
    assert "plant" not in text


def test_short_words_are_left_as_they_are():
    found, _ = stored(Answer(500, body=b"no hooks here"), headers={"X-Key": "here"})

    assert found.response_body == "no hooks here"


def test_what_is_no_text_is_kept_as_before():
    found, _ = stored(Answer(500, body=b"\xff\x00planted-token\xfe"))

    assert found.response_body == "\ufffd\ufffd…\ufffd"


@pytest.mark.parametrize(
    ("url", "headers"),
    [("https://[::1/planted-path", {}), ("planted", []), ("", {"X": 5}), ("", "x" * 20)],
)
def test_whatever_an_old_row_holds_nothing_is_raised(url, headers):
    masker = attempts.masker(Endpoint(url=url, headers=headers))

    assert masker.mask("text") == "text"
    assert "planted" not in repr(masker)


#: How answers repeat a text.
FORMS = {
    "plain": str,
    "upper": str.upper,
    "title": str.title,
    "percent": lambda text: quote(text, safe=""),
    "percent, lower": lambda text: quote(text, safe="").lower(),
    "plus": quote_plus,
    "percent twice": lambda text: quote(quote(text, safe=""), safe=""),
    "html": html.escape,
    "json": json.dumps,
    "json with slashes": lambda text: json.dumps(text).replace("/", "\\/"),
    "hexadecimal": lambda text: text.encode().hex(),
    **{
        f"base64 behind {before}": lambda text, before=before: base64.b64encode(
            b"x" * before + text.encode() + b"tail"
        ).decode()
        for before in range(3)
    },
    "base64 for URLs": lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
}
#: Where an answer may repeat it.
PLACES = {
    "body": lambda text: b"HTTP/1.1 500 No\r\nContent-Length: %d\r\n\r\n%b" % (len(text), text),
    "header": lambda text: b"HTTP/1.1 500 No\r\nX-Echo: %b\r\nContent-Length: 0\r\n\r\n" % text,
    "name of a header": lambda text: (
        b"HTTP/1.1 500 No\r\nx-%b: 1\r\nContent-Length: 0\r\n\r\n"
        % bytes(one for one in text if chr(one).isalnum() or one in b"-._~%")
    ),
    "location": lambda text: b"HTTP/1.1 302 Found\r\nLocation: https://x.example/%b\r\n\r\n" % text,
    "reason phrase": lambda text: b"HTTP/1.1 500 %b\r\nContent-Length: 0\r\n\r\n" % text,
    "first line": lambda text: b"%b\r\n\r\n" % text,
    "version": lambda text: b"HTTP/1.1 %b\r\n\r\n" % text,
}
CREDENTIALS = {
    "authorization": "Bearer planted/to+ken=\"&<a b>'7f",
    "headers": {"X-Key": "planted\\header/9?c=&\xe4x-secret"},
}
#: No eight characters of these may be stored.
TOLD = [
    CREDENTIALS["authorization"],
    CREDENTIALS["authorization"].partition(" ")[2],
    CREDENTIALS["headers"]["X-Key"],
    "/hooks/planted-path-7f3a?token=planted%2Dquery-91",
    "planted-query-91",
]


def leaked(secret, texts):
    """Return the pieces of a secret, of 12 characters, that stand in texts."""
    text = " ".join(texts).lower()
    pieces = [secret[at : at + 12].lower() for at in range(max(1, len(secret) - 11))]
    return [one for one in pieces if one in text]


def shown(rows):
    """Return what rows hold, as one text that hides nothing behind escapes."""
    text = " ".join(str(value) for row in rows for value in row)
    return text.lower()


class TestEveryFormInEveryPlace:
    """Stored by attempts and by probes."""

    @pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
    def test_no_form_of_a_secret_is_kept(self, form):
        masker = attempts.masker(Endpoint(url=f"https://example.com{PATH}", **CREDENTIALS))

        for secret in TOLD:
            told = f"before {form(secret)} behind"
            answer = http.Answer(status=302, headers={"location": told}, body=told.encode())
            for said in (
                masker.said(answer),
                masker.said(http.NoAnswer(reason="tls", detail=told)),
            ):
                assert leaked(form(secret), [said.detail, *said.headers.values(), said.body]) == []

    @pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
    def test_no_secret_is_stored_wherever_it_is_repeated(self, settings, monkeypatch, place):
        settings.WEBHOOKS_HEALTH_FALL = 1000
        monkeypatch.setattr(health, "WINDOW_ATTEMPTS", 1000)
        secret = factories.SECRET
        told = [*TOLD, secret, secret.removeprefix("whsec_")]
        left = [place(text.encode("latin-1")) for text in told] * 2

        def speak(connection):
            connection.recv(65_536)
            connection.sendall(left.pop(0))

        with speaking(speak) as receiver:
            subscription = factories.subscription(url=None, signing_secret=secret)
            fields = {"url": f"http://{receiver}{PATH}", "probe": "ping", **CREDENTIALS}
            candidate = Endpoint.objects.create(subscription=subscription, **fields)
            clock = factories.Clock()
            for _ in told:
                health_checks.check_all(endpoints=[candidate.pk], clock=clock)
            for number in range(len(told)):
                [delivery] = factories.record(data={"id": number})
                worker.drain([delivery.pk], clock=clock)

        assert left == []
        rows = [*Attempt.objects.values_list("detail", "response_headers", "response_body"),
                *Probe.objects.values_list("detail", "reason")]  # fmt: skip
        assert [one for text in told for one in leaked(text, [str(row) for row in rows])] == []

    def test_a_password_is_masked_although_it_was_sent_in_base64(self):
        basic = base64.b64encode(b"user:planted-password").decode()

        found, text = stored(
            Answer(500, body=b"user planted-password is unknown"), authorization=f"Basic {basic}"
        )

        assert "planted" not in text
        assert found.response_body == "user … is unknown"

    def test_a_secret_behind_the_cut_of_a_detail_is_masked_before(self):
        first = b"x" * 490 + b"Bearer planted-token"

        def speak(connection):
            connection.recv(65_536)
            connection.sendall(first + b"\r\n\r\n")

        with speaking(speak) as receiver:
            subscription = factories.subscription(url=None)
            Endpoint.objects.create(
                subscription=subscription, url=f"http://{receiver}/", probe="ping", **SECRETS
            )
            health_checks.check_all(clock=factories.Clock())

        assert "Bear" not in Probe.objects.get().detail
        assert len(Probe.objects.get().detail) <= 500

    @pytest.mark.parametrize("kept", [5, 8, 16, 19])
    def test_half_of_a_secret_at_the_end_of_what_was_cut_is_masked(self, kept):
        masker = attempts.masker(Endpoint(url=f"https://example.com{PATH}", **SECRETS))
        body = b"you sent " + SECRETS["authorization"].encode()[:kept]

        cut = masker.said(http.Answer(status=500, body=body, is_whole=False))

        assert cut.body == "you sent …"

    def test_what_is_whole_keeps_its_end(self):
        masker = attempts.masker(Endpoint(url=f"https://example.com{PATH}", **SECRETS))

        said = masker.said(http.Answer(status=500, body=b"you sent Bearer", is_whole=True))

        assert said.body == "you sent Bearer"


class TestControlCharacters:
    """F2: what a receiver said can be stored by every database, and is shown inert."""

    UNSAFE = ["\0", "\x1b", "\x08", "\x7f", "\x85", "\x9b", "\u202e", "\u2066", "\u061c", "\u2028"]

    @pytest.mark.parametrize("unsafe", UNSAFE, ids=[f"U+{ord(one):04X}" for one in UNSAFE])
    @pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
    def test_is_cleaned_for_attempts_and_probes(self, unsafe, place):
        told = f"a{unsafe}b".encode()

        def speak(connection):
            connection.recv(65_536)
            connection.sendall(place(told))

        with speaking(speak) as receiver:
            subscription = factories.subscription(url=None)
            candidate = Endpoint.objects.create(
                subscription=subscription, url=f"http://{receiver}/", probe="ping"
            )
            clock = factories.Clock()
            assert health_checks.check_all(endpoints=[candidate.pk], clock=clock) == 1
            factories.record()
            worker.drain(clock=clock)

        text = shown(Attempt.objects.values_list("detail", "response_headers", "response_body"))
        text += shown(Probe.objects.values_list("detail", "reason"))
        assert not [one for one in text.replace("\n", "") if ord(one) in range(0x20)]
        assert not [one for one in text if ord(one) in range(0x7F, 0xA0)]
        assert unsafe not in text

    def test_a_probe_that_is_answered_nul_is_recorded(self):
        def speak(connection):
            connection.recv(65_536)
            connection.sendall(b"\0\r\n\r\n")

        with speaking(speak) as receiver:
            subscription = factories.subscription(url=None)
            candidate = Endpoint.objects.create(
                subscription=subscription, url=f"http://{receiver}/", probe="ping"
            )
            assert health_checks.check_all(endpoints=[candidate.pk], clock=factories.Clock()) == 1

        assert Probe.objects.get().reason == "protocol"
        assert Probe.objects.get().detail == "The answer is not HTTP (\ufffd)."

    def test_one_probe_that_cannot_be_recorded_loses_none_of_the_others(self, monkeypatch, caplog):
        subscription = factories.subscription(url=None)
        candidates = [
            Endpoint.objects.create(
                subscription=subscription, url=f"http://127.0.0.1:9/{number}", position=number
            )
            for number in range(4)
        ]
        whole = probe.row

        def row(checked):
            found = whole(checked)
            if checked.candidate.pk == candidates[1].pk:
                found.succeeded = None
            return found

        monkeypatch.setattr(probe, "row", row)
        clock = factories.Clock()
        health_checks.check_all(endpoints=[one.pk for one in candidates], clock=clock)

        kept = set(Probe.objects.values_list("endpoint_id", flat=True))
        assert kept == {one.pk for one in candidates} - {candidates[1].pk}
        assert str(candidates[1].pk) in caplog.text
