"""One bound of what is read in an attempt, and a turn for others, whatever a receiver sends.

All of it runs with threads and with gevent, in the clear and with TLS.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as some

from django_webhooks.sending import http
from django_webhooks.sending.http import Answer, NoAnswer, pools, sockets, transport
from django_webhooks.sending.http.channels import MAX_FRAMING_BYTES, MAX_HEAD_BYTES, Call, Failed
from tests import certificates
from tests.receivers import read_request, speaking
from tests.timing import in_time

pytestmark = pytest.mark.alike

BODY = 10_000
BOUND = MAX_HEAD_BYTES + BODY + MAX_FRAMING_BYTES
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
#: What comes first, what follows without end, and what is made of it.
FLOODS = {
    "trailers": (CHUNKED + b"2\r\nok\r\n0\r\n", b"X-Trailer: y\r\n", 200),
    "a trailer": (CHUNKED + b"2\r\nok\r\n0\r\nX: ", b"x" * 1000, 200),
    "an extension": (CHUNKED + b"2;a=", b"x" * 1000, 200),
    "extensions": (CHUNKED, b"1;a=b\r\nx\r\n", 200),
    "a chunk size": (CHUNKED, b"0" * 1000, 200),
    "small chunks": (CHUNKED, b"1\r\nx\r\n", 200),
    "a large chunk": (CHUNKED + b"ffffffffffff\r\n", b"x" * 1000, 200),
    "a body": (OK + b"\r\n", b"x" * 1000, 200),
    "a body with a length": (OK + b"Content-Length: 99999999999\r\n\r\n", b"x" * 1000, 200),
    "surplus": (OK + b"Content-Length: 2\r\n\r\nok", b"x" * 1000, 200),
    "surplus after 204": (b"HTTP/1.1 204 No Content\r\n\r\n", b"x" * 1000, 204),
    "headers": (OK, b"X: y\r\n", "protocol"),
    "a header": (OK + b"X: ", b"x" * 1000, "protocol"),
    "folds": (OK + b"X: y\r\n", b" z\r\n", "protocol"),
    "a phrase": (b"HTTP/1.1 200 ", b"x" * 1000, "protocol"),
    "100": (b"", b"HTTP/1.1 100 Continue\r\n\r\n", "protocol"),
    "103": (b"", b"HTTP/1.1 103 Early\r\nLink: </a>\r\n\r\n", "protocol"),
    "lines": (b"", b"\r\n", "protocol"),
    "zeros": (b"", b"\0" * 1000, "protocol"),
}


@pytest.fixture(params=["http", "https"])
def scheme(request, tmp_path, settings, monkeypatch):
    monkeypatch.setattr(transport, "MAX_RESPONSE_BYTES", BODY)
    made = certificates.make(tmp_path, names=["127.0.0.1"])
    settings.WEBHOOKS_CA_BUNDLE = str(made.certificate)
    pools.start_afresh()
    yield request.param, made.server() if request.param == "https" else None
    pools.start_afresh()


@pytest.fixture
def received(monkeypatch):
    """Count what leaves the sockets of the sender."""
    count = [0]

    def recv(self, size, *flags):
        data = socket.socket.recv(self, size, *flags)
        if not flags:  # Those that only look take nothing.
            count[0] += len(data)
        return data

    def recv_into(self, *args):
        size = socket.socket.recv_into(self, *args)
        count[0] += size
        return size

    monkeypatch.setattr(sockets.Socket, "recv", recv, raising=False)
    monkeypatch.setattr(sockets.Socket, "recv_into", recv_into, raising=False)
    return count


def flooding(first, again, *, piece=None):
    def speak(connection):
        read_request(connection)
        connection.sendall(first)
        rest = again * (1 + 65_536 // len(again))
        ends = time.monotonic() + 100
        while time.monotonic() < ends:
            for start in range(0, len(rest), piece or len(rest)):
                connection.sendall(rest[start : start + (piece or len(rest))])
                # With gevent both sides share a thread.
                time.sleep(0)

    return speak


def post(url, *, timeout=60.0):
    return http.post(url, headers={}, body=b"{}", timeout=timeout)


@pytest.mark.parametrize("flood", FLOODS)
def test_what_is_read_is_bounded(scheme, received, flood):
    first, again, told = FLOODS[flood]
    name, tls = scheme
    with speaking(flooding(first, again), tls=tls) as server:
        began = time.monotonic()
        answer = post(f"{name}://{server}/")
        took = time.monotonic() - began

    assert getattr(answer, "status", None) == told or getattr(answer, "reason", None) == told
    assert len(getattr(answer, "body", b"")) <= BODY
    assert received[0] <= BOUND
    # It is the bound that ends it, not the deadline.
    assert took < 30


@pytest.mark.parametrize("flood", ["small chunks", "headers", "103", "a body", "an extension"])
def test_small_pieces_are_bounded_as_well(received, flood, monkeypatch):
    monkeypatch.setattr(transport, "MAX_RESPONSE_BYTES", BODY)
    first, again, _ = FLOODS[flood]
    with speaking(flooding(first, again, piece=3)) as server:

        def ask():
            received[0] = 0
            post(f"http://{server}/", timeout=1)

        in_time(ask, seconds=1.5)

    assert received[0] <= BOUND


def test_others_have_their_turn_while_a_socket_always_has_data(monkeypatch):
    """As with gevent, whose sockets wait only where nothing has come yet."""
    monkeypatch.setattr(transport, "MAX_RESPONSE_BYTES", 10**8)

    def longest_gap(server):
        gaps, ending = [], threading.Event()

        def tick():
            last = time.monotonic()
            while not ending.is_set():
                time.sleep(0.01)
                gaps.append(time.monotonic() - last)
                last = time.monotonic()

        ticking = threading.Thread(target=tick)
        ticking.start()
        try:
            assert len(post(f"http://{server}/", timeout=1).body) > 10**6
        finally:
            ending.set()
            ticking.join()
        return max(gaps)

    with speaking(flooding(OK + b"\r\n", b"x" * 65_536)) as server:
        # A busy machine makes gaps too: the best one counts.
        assert any(longest_gap(server) < 0.5 for _ in range(3))


def test_a_handshake_is_bounded_too(received, monkeypatch):
    monkeypatch.setattr(transport, "MAX_RESPONSE_BYTES", BODY)
    # Records of a handshake whose message never ends.
    record = b"\x16\x03\x03\x3f\xff" + b"\x02\xff\xff\xff" + b"\0" * (0x3FFF - 4)

    def speak(connection):
        connection.recv(1000)
        connection.sendall(record)
        while True:
            connection.sendall(b"\x16\x03\x03\x3f\xff" + b"\0" * 0x3FFF)

    with speaking(speak) as server:
        answer = post(f"https://{server}/")

    assert answer.reason in {"tls", "protocol", "connection"}
    assert received[0] <= BOUND


def test_a_call_has_one_bound():
    call = Call(deadline=time.monotonic() + 1, max_bytes=10)
    bound = MAX_HEAD_BYTES + 10 + MAX_FRAMING_BYTES
    while call.received < bound:
        call.count(call.room())

    assert call.received == bound
    with pytest.raises(Failed):
        call.room()


PIECES = some.sampled_from(
    [
        OK, b"HTTP/1.1 204 X\r\n", b"HTTP/1.1 103 E\r\n\r\n", b"HTTP/1.0 500 X\r\n", b"\r\n", b"\n",
        b"Content-Length: 3\r\n", b"Content-Length: 99999\r\n", b"Transfer-Encoding: chunked\r\n",
        b"Connection: close\r\n", b"3\r\nabc\r\n", b"0\r\n\r\n", b"fff\r\n", b" fold\r\n", b"abc",
        b"X: y\r\n", b"x" * 70_000, b"HTTP/1.1 101 S\r\n\r\n", b"\x15\x03\x03\x00\x02\x02\x28",
    ]
) | some.binary(max_size=30)  # fmt: skip
ANSWERS = some.lists(PIECES, max_size=8).map(b"".join)
ENDS = some.sampled_from(["close", "hang", "reset"])


@hypothesis_settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    # To shrink an example takes minutes of time-outs.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(answers=some.lists(some.tuples(ANSWERS, ENDS), min_size=1, max_size=3))
def test_whatever_is_answered_nothing_is_raised_and_all_is_bounded(received, scheme, answers):
    """The last request is answered by a marked answer: no other may be taken for it."""
    left, (name, tls) = list(answers), scheme
    ending = threading.Event()

    def speak(connection):
        while request := read_request(connection):
            if request.startswith(b"POST /marked"):
                connection.sendall(b"HTTP/1.1 299 Marked\r\nContent-Length: 0\r\n\r\n")
                continue
            answer, end = left.pop(0) if left else (b"", "close")
            connection.sendall(answer)
            if end == "hang":
                ending.wait(60)
            if end != "close" or b"Content-Length" not in answer:
                return

    received[0] = 0
    with speaking(speak, tls=tls) as server:
        for _ in answers:
            before, began = received[0], time.monotonic()
            answer = post(f"{name}://{server}/", timeout=0.3)
            assert isinstance(answer, Answer | NoAnswer)
            assert time.monotonic() - began < 20
            assert received[0] - before <= BOUND
        marked = post(f"{name}://{server}/marked")
        ending.set()
        # A kept connection would hold the server up.
        pools.start_afresh()

    assert getattr(marked, "status", marked) == 299


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": None}, {"url": 5}, {"url": "https://[::1/"}, {"url": "http://\ud800.example.com/"},
        {"url": "http://example.com:99999999999999999999/"}, {"url": b"http://example.com/"},
        {"headers": {"X": 5}}, {"headers": {5: "x"}}, {"headers": None}, {"headers": [("a", "b")]},
        {"headers": {"X": "\u20ac"}}, {"body": "text"}, {"body": 5}, {"timeout": None},
        {"timeout": "soon"}, {"timeout": float("nan")}, {"timeout": float("inf")},
        {"timeout": -1}, {"trust": None}, {"tenant": []},
    ],
    ids=repr,
)  # fmt: skip
def test_what_cannot_be_sent_is_a_reason_too(wrong):
    fine = {
        "url": "http://127.0.0.1:9/", "headers": {}, "body": b"{}", "timeout": 0.5,
        "trust": transport.PUBLIC, "tenant": None,
    }  # fmt: skip

    answer = http.post(**{**fine, **wrong})

    assert isinstance(answer, NoAnswer)
    assert answer.detail.endswith(".")


@pytest.mark.parametrize("ask", ["post", "get", "connect"])
def test_no_error_of_ours_leaves(monkeypatch, ask):
    for error in (MemoryError(), RecursionError(), UnicodeError("x"), KeyError("x"), OSError(24)):
        monkeypatch.setattr(sockets, "connect_to", raising(error))
        options = {"timeout": 1} | ({} if ask == "connect" else {"headers": {}})
        if ask == "post":
            options["body"] = b"{}"
        assert isinstance(getattr(transport, ask)("http://127.0.0.1:9/", **options), NoAnswer)


def raising(error):
    def fail(*args):
        raise error

    return fail


@pytest.mark.parametrize("name", ["KeyboardInterrupt", "SystemExit", "SoftTimeLimitExceeded"])
def test_what_ends_the_task_is_passed_on(monkeypatch, name):
    from billiard.exceptions import SoftTimeLimitExceeded

    kinds = [KeyboardInterrupt, SystemExit, SoftTimeLimitExceeded]
    kind = next(one for one in kinds if one.__name__ == name)
    monkeypatch.setattr(sockets, "connect_to", raising(kind()))

    with pytest.raises(kind):
        post("http://127.0.0.1:9/")


GEVENT = """
from gevent import monkey; monkey.patch_all()
import sys, pytest
chosen = "is_read and https or turn"
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "-k", chosen, *sys.argv[1:]]))
"""


@pytest.mark.timeout(330)
def test_all_of_this_holds_with_gevent():
    ran = subprocess.run(
        [sys.executable, "-c", GEVENT, __file__], capture_output=True, text=True, timeout=300
    )

    assert ran.returncode == 0, ran.stdout[-3000:]
