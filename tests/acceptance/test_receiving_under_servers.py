"""Receiving under the servers that sites run: what is answered 2xx was received in full, and kept.

Each request is written byte by byte to a socket, since a library would repair what is tried here.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import urlopen

import pytest

from tests import senders

from .harness import PATIENCE, free_port, until
from .receiving_site import KINDS, VERIFY_TOKEN

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.essential,
    pytest.mark.files,
    pytest.mark.timeout(300),
]

SITE = "tests.acceptance.receiving_site"
BIN = Path(sys.executable).parent
PYTHON = (sys.executable, "-W", "ignore")
GUNICORN = (*PYTHON, "-m", "gunicorn", "--no-control-socket", "--bind", "127.0.0.1:{port}")
UWSGI = (str(BIN / "uwsgi"), "--need-app", "--die-on-term", "--enable-threads", "--threads", "4")
UVICORN = (*PYTHON, "-m", "uvicorn", f"{SITE}.app:asgi", "--port", "{port}", "--http")
WSGI = f"{SITE}.app:wsgi"
#: The command of each server, and whether it reads chunks.
SERVERS = {
    "gunicorn sync": ((*GUNICORN, "-k", "sync", WSGI), True),
    "gunicorn gthread": ((*GUNICORN, "-k", "gthread", "--threads", "4", WSGI), True),
    "gunicorn gevent": ((*GUNICORN, "-k", "gevent", WSGI), True),
    "gunicorn gevent_pywsgi": ((*GUNICORN, "-k", "gevent_pywsgi", WSGI), True),
    "uvicorn h11": ((*UVICORN, "h11"), True),
    "uvicorn httptools": ((*UVICORN, "httptools"), True),
    "uwsgi": ((*UWSGI, "--http-socket", "127.0.0.1:{port}", "--module", WSGI), True),
    "uwsgi router": (
        (*UWSGI, "--http", "127.0.0.1:{port}", "--http-chunked-input", "--module", WSGI),
        True,
    ),
    "uwsgi router without chunks": (
        (*UWSGI, "--http", "127.0.0.1:{port}", "--socket-timeout", "{wait}", "--module", WSGI),
        False,
    ),
    "runserver": (
        (*PYTHON, "-m", "django", "runserver", "--noreload", "--skip-checks", "{port}"),
        False,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Server:
    """A server that runs, and what its site was given."""

    name: str
    port: int
    #: Of one that soon gives up what does not come, where that is waited for.
    impatient_port: int
    folder: Path
    reads_chunks: bool

    @property
    def is_slow(self) -> bool:
        """Whether it waits for chunks that never come."""
        return self.name == "uwsgi router without chunks"

    def handled(self) -> list[dict[str, Any]]:
        """Return what handlers were given."""
        handled = self.folder / "handled"
        lines = handled.read_text().splitlines() if handled.exists() else []
        return [json.loads(line) for line in lines]

    def records(self) -> list[tuple[str, bytes]]:
        """Return path and body of all that was handled or stored, in any order."""
        found = self.handled()
        assert all(one["is_the_request_s"] for one in found)
        with closing(sqlite3.connect(self.folder / "site.sqlite3", timeout=20)) as connection:
            rows = connection.execute(
                "SELECT path, body FROM django_webhooks_inbox_message WHERE status = 'waiting'"
            ).fetchall()
        return [(one["path"], base64.b64decode(one["body"])) for one in found] + [
            (path, bytes(body)) for path, body in rows
        ]

    def ask(self, *sent: bytes, and_close: bool = False, pause: float = 0.0) -> tuple[int, bytes]:
        """Send bytes in pieces; return the status of the answer, 0 where none came, and all."""
        answer = b""
        is_whole = not (and_close or CHUNKED.encode() in sent[0])
        port = self.port if is_whole else self.impatient_port
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
            try:
                for piece in sent:
                    connection.sendall(piece)
                    time.sleep(pause)
                if and_close:
                    connection.shutdown(socket.SHUT_WR)
                while piece := connection.recv(65_536):
                    answer += piece
            except TimeoutError:
                raise
            except OSError:
                # Who refuses early hangs up on the rest, and the answer may be lost with it.
                pass
        while answer.startswith(b"HTTP/1.1 100"):
            answer = answer.partition(b"\r\n\r\n")[2]
        return int(answer.split(maxsplit=2)[1]) if answer else 0, answer


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a database, to be copied."""
    folder = tmp_path_factory.mktemp("receiving")
    command = [*PYTHON, "-m", "django", "migrate", "--skip-checks", "-v", "0"]
    subprocess.run(command, env=environment(folder), check=True)
    return folder / "site.sqlite3"


def environment(folder: Path) -> dict[str, str]:
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": f"{SITE}.settings",
        "RECEIVING_FOLDER": str(folder),
    }


@pytest.fixture(scope="module", params=SERVERS)
def server(
    request: pytest.FixtureRequest, tables: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Each server in turn, for all that is asked of it."""
    command, reads_chunks = SERVERS[request.param]
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(tables, folder / "site.sqlite3")
    # Where a server waits for bytes: for those of whom is slow, and for those that never come.
    waits = (PATIENCE, 1) if any("{wait}" in part for part in command) else (PATIENCE,)
    with ExitStack() as running:
        ports = [running.enter_context(serving(command, folder, wait=wait)) for wait in waits]
        yield Server(
            name=request.param,
            port=ports[0],
            impatient_port=ports[-1],
            folder=folder,
            reads_chunks=reads_chunks,
        )


@contextmanager
def serving(command: Sequence[str], folder: Path, *, wait: int) -> Iterator[int]:
    """Run a server, and yield its port."""
    port = free_port()
    with (folder / f"log-{wait}").open("wb") as log:
        process = subprocess.Popen(
            [part.format(port=port, wait=wait) for part in command],
            env=environment(folder),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def answers() -> bool:
        assert process.poll() is None, (folder / f"log-{wait}").read_text()
        try:
            with urlopen(f"http://127.0.0.1:{port}/", timeout=PATIENCE):
                return False
        except HTTPError as error:
            with error:
                return error.code == 404
        except OSError:
            return False

    try:
        until(answers, f"{command} did not start")
        yield port
    finally:
        process.terminate()
        process.wait(PATIENCE)


_numbers = itertools.count(1)


@dataclass(frozen=True, kw_only=True)
class Sending:
    """A message of its own, as its sender would write it."""

    path: str
    body: bytes
    headers: dict[str, str]

    def head(self, *lines: str, version: str = "1.1", **others: str) -> bytes:
        said = {"Host": "x", "Connection": "close", **self.headers, **others}
        return "\r\n".join(
            [
                f"POST {self.path} HTTP/{version}",
                *(f"{name}: {value}" for name, value in said.items()),
                *lines,
                "\r\n",
            ]
        ).encode()

    @property
    def length(self) -> str:
        return f"Content-Length: {len(self.body)}"


def sending(path: str, scheme: str, content_type: str, *, body: bytes | None = None) -> Sending:
    number = next(_numbers)
    if body is None:
        text = json.dumps({"type": "order.paid", "number": number, "name": "Zoë"})
        is_form = content_type.startswith("application/x-www-form-urlencoded")
        body = f"payload={quote(text)}".encode() if is_form else text.encode()
    headers = {
        "standard": lambda: senders.standard(body, at=int(time.time()), message_id=f"m_{number}"),
        "github": lambda: senders.github(body) | {"x-github-delivery": f"g-{number}"},
        "token": lambda: senders.token(body),
    }[scheme]()
    return Sending(path=path, body=body, headers={"Content-Type": content_type, **headers})


def chunk(body: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(body), body)


CHUNKED = "Transfer-Encoding: chunked"
END = b"0\r\n\r\n"
TAKEN, REFUSED, EITHER = "taken", "refused", "either"


def by_length(one: Sending) -> list[bytes]:
    return [one.head(one.length), one.body]


def in_one_chunk(one: Sending) -> list[bytes]:
    return [one.head(CHUNKED), chunk(one.body) + END]


def in_many_chunks(one: Sending) -> list[bytes]:
    pieces = [one.body[at : at + 7] for at in range(0, len(one.body), 7)]
    return [one.head(CHUNKED), *(chunk(piece) for piece in pieces), END]


def with_extension(one: Sending) -> list[bytes]:
    return [one.head(CHUNKED), b"%X;a=b\r\n%s\r\n" % (len(one.body), one.body), END]


def cut_in_a_chunk(one: Sending) -> list[bytes]:
    return [one.head(CHUNKED), chunk(one.body)[:-9]]


def cut_between_chunks(one: Sending) -> list[bytes]:
    return [one.head(CHUNKED), chunk(one.body[:20]) + chunk(one.body[20:])]


def malformed_chunk(one: Sending) -> list[bytes]:
    return [one.head(CHUNKED), chunk(one.body[:20]) + b"zz\r\n" + one.body[20:] + b"\r\n" + END]


def without_end(one: Sending) -> list[bytes]:
    return [one.head(), one.body]


def of_http_1_0(one: Sending) -> list[bytes]:
    return [one.head(one.length, version="1.0"), one.body]


def of_http_1_0_without_end(one: Sending) -> list[bytes]:
    return [one.head(version="1.0"), one.body]


def longer_than_sent(one: Sending) -> list[bytes]:
    return [one.head(f"Content-Length: {len(one.body) + 9}"), one.body]


def shorter_than_sent(one: Sending) -> list[bytes]:
    return [one.head(f"Content-Length: {len(one.body) - 9}"), one.body]


def with_both(one: Sending) -> list[bytes]:
    return [one.head(one.length, CHUNKED), chunk(one.body) + END]


def another_coding(one: Sending) -> list[bytes]:
    return [one.head("Transfer-Encoding: gzip, chunked"), chunk(one.body) + END]


def compressed(one: Sending) -> list[bytes]:
    return [one.head(one.length, "Content-Encoding: gzip"), one.body]


def expecting(one: Sending) -> list[bytes]:
    return [one.head(one.length, "Expect: 100-continue"), one.body]


def expecting_chunks(one: Sending) -> list[bytes]:
    return [one.head(CHUNKED, "Expect: 100-continue"), chunk(one.body) + END]


def slowly(one: Sending) -> list[bytes]:
    return [one.head(one.length), one.body[:10], one.body[10:20], one.body[20:]]


def chunks_slowly(one: Sending) -> list[bytes]:
    return [one.head(CHUNKED), chunk(one.body[:10]), chunk(one.body[10:]), END]


EXTENDED = "a chunk with an extension"
#: How the body is written, and what becomes of it where the server reads chunks.
FRAMINGS = {
    "by length": (by_length, TAKEN),
    "in one chunk": (in_one_chunk, TAKEN),
    "in many chunks": (in_many_chunks, TAKEN),
    EXTENDED: (with_extension, TAKEN),
    "cut in a chunk": (cut_in_a_chunk, REFUSED),
    "cut between chunks": (cut_between_chunks, REFUSED),
    "a malformed chunk": (malformed_chunk, REFUSED),
    "no length": (without_end, REFUSED),
    "HTTP/1.0": (of_http_1_0, TAKEN),
    "HTTP/1.0 without a length": (of_http_1_0_without_end, REFUSED),
    "a length longer than what is sent": (longer_than_sent, REFUSED),
    "a length shorter than what is sent": (shorter_than_sent, EITHER),
    "a length and chunks": (with_both, EITHER),
    "another transfer coding": (another_coding, REFUSED),
    "compressed": (compressed, REFUSED),
    "expecting 100": (expecting, TAKEN),
    "expecting 100, in chunks": (expecting_chunks, TAKEN),
    "slowly": (slowly, TAKEN),
    "slowly, in chunks": (chunks_slowly, TAKEN),
}
SLOW = {"slowly", "slowly, in chunks"}
SHORTER = "a length shorter than what is sent"
#: After which the sender says that there is no more.
CUT = {
    "cut in a chunk",
    "cut between chunks",
    "a malformed chunk",
    "no length",
    "HTTP/1.0 without a length",
    "a length longer than what is sent",
}
TYPES = {
    "json": "application/json",
    "form": "application/x-www-form-urlencoded",
    "cloudevents": "application/cloudevents+json; charset=UTF-8",
}


@pytest.mark.parametrize("framing", FRAMINGS)
def test_nothing_is_answered_2xx_that_was_not_received_and_kept(server, framing):
    make, expected = FRAMINGS[framing]
    kept = Counter(server.records())
    cases = list(itertools.product(KINDS, ("standard", "token"), TYPES.values()))
    if framing in SLOW or server.is_slow:
        cases = [("once", "standard", TYPES["json"]), ("background", "token", TYPES["form"])]
    for kind, scheme, content_type in cases:
        one = sending(f"/{kind}/{scheme}/", scheme, content_type)
        pause = 0.05 if framing in SLOW else 0.0
        status, answer = server.ask(*make(one), and_close=framing in CUT, pause=pause)
        added = Counter(server.records()) - kept
        kept += added
        case = f"{kind}, {scheme}, {content_type}: {added} {answer[:300]!r}"

        if 200 <= status < 300:
            [(path, body)] = added.elements()
            assert path == one.path, case
            # What a length says that is too short is all that was sent, for the server.
            assert body == (one.body[:-9] if framing == SHORTER else one.body), case
        else:
            assert not added, case
            assert status < 200 or 400 <= status < 500, case
        if expected == TAKEN and is_read(server, framing, scheme):
            assert status == (202 if kind == "background" else 204), case
        elif expected in (TAKEN, REFUSED):
            assert not 200 <= status < 300, case
        if expected == TAKEN and not is_read(server, framing, scheme):
            assert status in {0, 411}, case
    assert Counter(server.records()) == kept


def is_read(server: Server, framing: str, scheme: str) -> bool:
    """Say whether a server reads a body so that all of it is known to be there."""
    if "chunk" not in framing:
        return True
    if server.name.startswith("uwsgi"):
        # It takes a malformed chunk for the end, so that the body needs a proof.
        return server.reads_chunks and scheme != "token" and framing != EXTENDED
    return server.reads_chunks


LIMIT = 20_000
#: Bodies that are not as others are, and how they are answered.
BODIES = {
    "empty": (b"", {"standard": 204, "token": 204}),
    "as long as it may be": (b'"' + b"x" * (LIMIT - 2) + b'"', {"standard": 204, "token": 204}),
    "too long": (b'"' + b"x" * LIMIT + b'"', {"standard": 413, "token": 413}),
    "far too long": (b'"' + b"x" * 3_000_000 + b'"', {"standard": 413, "token": 413}),
    "with a byte order mark": (b'\xef\xbb\xbf{"a": 1}', {"standard": 204, "token": 204}),
    "no JSON": (b"{", {"standard": 400, "token": 400}),
}


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("make", [by_length, in_one_chunk], ids=["by length", "in one chunk"])
def test_a_body_that_is_not_as_others_are(server, name, make):
    body, statuses = BODIES[name]
    for scheme, status in statuses.items():
        if server.is_slow and make is in_one_chunk:
            continue
        kept = Counter(server.records())
        path = "/plain/standard-any/" if scheme == "standard" else "/plain/token-any/"
        one = sending(path, scheme, "application/json", body=body)
        if not is_read(server, "chunk" if make is in_one_chunk else "", scheme):
            status = 411
        # Who refuses early hangs up on the rest, and the answer may be lost with it.
        lost = {0} if status in {411, 413} else set()
        if server.name.startswith("uwsgi"):
            # One chunk is more than it takes.
            lost |= {411} if name == "far too long" else set()

        found, answer = server.ask(*make(one))

        assert found in {status} | lost, (scheme, answer[:300])
        added = Counter(server.records()) - kept
        assert list(added.elements()) == ([(path, body)] if found == 204 else []), scheme


@pytest.mark.parametrize("scheme", ["standard", "token"])
@pytest.mark.parametrize("kind", ["once", "background"])
def test_two_copies_are_kept_once(server, kind, scheme):
    one = sending(f"/{kind}/{scheme}/", scheme, TYPES["json"])
    kept = Counter(server.records())

    statuses = [server.ask(*by_length(one))[0] for _ in range(2)]

    assert statuses == [202 if kind == "background" else 204, 200]
    assert list((Counter(server.records()) - kept).elements()) == [(one.path, one.body)]


def test_what_follows_a_refused_body_is_no_second_request(server):
    inner = sending("/once/standard/", "standard", TYPES["json"])
    hidden = b"".join(by_length(inner))
    outer = sending("/once/standard/", "standard", "text/plain", body=hidden)
    kept = server.records()

    for make in (by_length, in_one_chunk):
        head, *rest = make(outer)
        kept_alive = head.replace(b"Connection: close", b"Connection: keep-alive")
        status, _ = server.ask(kept_alive, *rest, and_close=True)
        assert status in {0, 415}

    assert server.records() == kept


def test_what_a_form_of_github_says_is_the_json_in_it(server):
    one = sending("/once/github/", "github", TYPES["form"])

    assert server.ask(*by_length(one))[0] == 204
    assert server.handled()[-1]["payload"]["type"] == "order.paid"
    assert server.handled()[-1]["payload"]["name"] == "Zoë"


def get(target: str, *lines: str, method: str = "GET") -> bytes:
    # So that the answer comes in one piece.
    said = [f"{method} {target} HTTP/1.0", "Host: x", *lines]
    return "\r\n".join([*said, "\r\n"]).encode()


MARKUP = "<script>alert(1)</script>"
#: A request, the status and the body of its answer, and a header that it has.
HANDSHAKES = {
    "meta": (
        get(f"/meta/?hub.mode=subscribe&hub.challenge=1158&hub.verify_token={VERIFY_TOKEN}"),
        (200, b"1158", b"text/plain"),
    ),
    "meta, another token": (
        get("/meta/?hub.mode=subscribe&hub.challenge=1158&hub.verify_token=other"),
        (403, b"handshake\n", b"text/plain"),
    ),
    "meta, no token": (
        get("/meta/?hub.mode=subscribe&hub.challenge=1158"),
        (403, b"handshake\n", b"text/plain"),
    ),
    "graph": (
        get(
            "/graph/?validationToken=Validation%3A+Testing+a%2Bb",
            "Content-Length: 0",
            "Content-Type: text/plain; charset=utf-8",
            method="POST",
        ),
        (200, b"Validation: Testing a+b", b"text/plain"),
    ),
    "graph, no length": (
        get("/graph/?validationToken=abc", method="POST"),
        (200, b"abc", b"text/plain"),
    ),
    "okta": (
        get("/okta/", "X-Okta-Verification-Challenge: Me_rShK8"),
        (200, b'{"verification": "Me_rShK8"}', b"application/json"),
    ),
    "dropbox": (get("/dropbox/?challenge=abc123"), (200, b"abc123", b"text/plain")),
    "dropbox, markup": (
        get(f"/dropbox/?challenge={quote(MARKUP)}"),
        (200, MARKUP.encode(), b"text/plain"),
    ),
    "dropbox, nothing asked": (get("/dropbox/"), (405, b"method\n", b"text/plain")),
    "cloudevents": (
        get("/cloudevents/", "WebHook-Request-Origin: events.example.com", method="OPTIONS"),
        (200, b"", b"WebHook-Allowed-Origin: events.example.com"),
    ),
    "cloudevents, another origin": (
        get("/cloudevents/", "WebHook-Request-Origin: evil.example.com", method="OPTIONS"),
        (403, b"handshake\n", b"text/plain"),
    ),
}


@pytest.mark.parametrize("name", HANDSHAKES)
def test_a_handshake_is_answered_and_nothing_is_kept(server, name):
    request, (status, body, header) = HANDSHAKES[name]
    kept = server.records()

    found, answer = server.ask(request)

    head, _, content = answer.partition(b"\r\n\r\n")
    assert found == status, answer
    assert content == body
    assert header.lower() in head.lower()
    assert b"text/html" not in head
    assert server.records() == kept


@pytest.mark.parametrize("make", [by_length, in_one_chunk], ids=["by length", "in one chunk"])
def test_slack_s_verification_is_answered_by_a_view_of_the_background(server, make):
    if make is in_one_chunk and not server.reads_chunks:
        pytest.skip("it reads no chunks")
    body = b'{"type": "url_verification", "challenge": "3eZbrw1a"}'
    one = Sending(
        path="/slack/",
        body=body,
        headers={
            "Content-Type": "application/json",
            **senders.slack(body, at=int(time.time())),
        },
    )
    kept = server.records()

    status, answer = server.ask(*make(one))

    assert status == 200, answer
    assert b"3eZbrw1a" in answer
    assert b"text/plain" in answer
    assert server.records() == kept


@pytest.mark.parametrize("target", ["a%20b%2Fc/?x=1&y=%2F+z", "a//b/", "caf%C3%A9/", "plain?=&&"])
def test_a_signature_over_the_url_holds_for_the_url_that_was_sent(server, target):
    if server.name == "runserver" and "%" in target:
        pytest.skip("it keeps no target as it came")
    path = f"/url/{target}"
    body = json.dumps({"event_id": f"event-{next(_numbers)}"}).encode()
    signature = senders.digest(senders.SECRET, f"http://x{path}".encode() + body)
    headers = {"X-Square-HmacSha256-Signature": base64.b64encode(signature).decode()}
    one = Sending(path=path, body=body, headers={"Content-Type": "application/json", **headers})

    status, answer = server.ask(*by_length(one))

    assert status == 204, answer
