"""Kept connections: what is reused, what is tried again, what is bounded."""

from __future__ import annotations

import gzip
import os
import signal
import socket
import struct
import threading
import time

import pytest

from django_webhooks.sending import http
from django_webhooks.sending.http import pools, tls, transport
from tests.receivers import Answer, read_request, receiving, saying, speaking

NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\n"


def post(url, *, timeout=60.0, body=b"{}"):
    return http.post(url, headers={}, body=body, timeout=timeout)


def reset(connection):
    """End a connection by a reset rather than in peace."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


class Script:
    """A server that answers the first request of its first connection, then misbehaves."""

    def __init__(self, misbehave):
        self.misbehave = misbehave
        self.connections = 0

    def __call__(self, connection):
        self.connections += 1
        read_request(connection)
        connection.sendall(NO_CONTENT)
        if self.connections == 1:
            self.misbehave(connection)


def resets_at_once(connection):
    connection.recv(1)
    reset(connection)


def closes_at_once(connection):
    connection.recv(1)


@pytest.mark.parametrize("body", [b"{}", b"x" * 5_000_000], ids=["small", "large"])
@pytest.mark.parametrize("misbehave", [resets_at_once, closes_at_once])
def test_a_kept_connection_that_ends_without_an_answer_is_replaced_at_once(misbehave, body):
    script = Script(misbehave)

    with speaking(script) as server:
        assert post(f"http://{server}/").status == 204
        answer = post(f"http://{server}/", body=body)

    assert getattr(answer, "status", answer) == 204
    assert script.connections == 2


def half_an_answer(connection):
    read_request(connection)
    connection.sendall(b"HTTP/1.1 20")
    time.sleep(0.05)
    reset(connection)


def half_the_headers(connection):
    read_request(connection)
    connection.sendall(OK + b"a: ")
    time.sleep(0.05)
    reset(connection)


@pytest.mark.parametrize("misbehave", [half_an_answer, half_the_headers])
def test_a_kept_connection_that_breaks_within_the_answer_is_a_failure(misbehave):
    script = Script(misbehave)

    with speaking(script) as server:
        post(f"http://{server}/")
        answer = post(f"http://{server}/")

    assert answer.reason == "connection"
    assert script.connections == 1


@pytest.mark.parametrize("misbehave", [half_an_answer, half_the_headers, resets_at_once])
def test_a_fresh_connection_that_breaks_is_a_failure(misbehave):
    with speaking(misbehave) as server:
        assert post(f"http://{server}/").reason == "connection"


@pytest.mark.parametrize(
    "surplus",
    [
        pytest.param(OK + b"Content-Length: 2\r\n\r\nokHTTP/1.1 500 No\r\n\r\n", id="too long"),
        pytest.param(NO_CONTENT + b"HTTP/1.1 500 No\r\n\r\n", id="body after 204"),
    ],
)
def test_nothing_of_an_answer_leaks_into_the_next(surplus):
    answers = [surplus, NO_CONTENT]

    def speak(connection):
        while read_request(connection):
            connection.sendall(answers.pop(0))

    with speaking(speak) as server:
        found = [post(f"http://{server}/").status for _ in range(2)]

    assert found in ([200, 204], [204, 204])


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffffff\r\nx",
        b"Transfer-Encoding: chunked\r\n\r\n5;" + b"a" * 70_000 + b"\r\nhello\r\n0\r\n\r\n",
        b"Content-Length: nonsense\r\n\r\nhello",
        b"Content-Length: -5\r\n\r\nhello",
    ],
)
def test_whatever_length_is_claimed_the_status_decides(head):
    with speaking(saying(OK + head)) as server:
        answer = post(f"http://{server}/")

    assert getattr(answer, "status", answer) == 200


@pytest.mark.parametrize("status", [200, 302])
def test_a_body_without_end_is_cut_whatever_the_status(status, monkeypatch):
    monkeypatch.setattr(transport, "MAX_RESPONSE_BYTES", 5_000)
    sent = 0

    def speak(connection):
        nonlocal sent
        read_request(connection)
        connection.sendall(b"HTTP/1.1 %d X\r\nLocation: /\r\n\r\n" % status)
        for _ in range(10_000):
            connection.sendall(b"x" * 10_000)
            sent += 10_000

    with speaking(speak) as server:
        answer = post(f"http://{server}/")

    assert (answer.status, len(answer.body)) == (status, 5_000)
    assert sent < 50_000_000


def test_a_compressed_body_is_not_inflated(monkeypatch):
    monkeypatch.setattr(transport, "MAX_RESPONSE_BYTES", 20_000)
    bomb = gzip.compress(b"\0" * 10_000_000)

    with receiving(Answer(200, {"Content-Encoding": "gzip"}, bomb)) as receiver:
        answer = post(receiver.url)

    assert answer.body == bomb[:20_000]


def test_an_answer_that_comes_before_the_request_was_read_counts():
    def speak(connection):
        connection.sendall(OK + b"Content-Length: 0\r\nConnection: close\r\n\r\n")
        time.sleep(0.3)

    with speaking(speak) as server:
        answer = post(f"http://{server}/", body=b"x" * 50_000)

    assert answer.status == 200


@pytest.mark.parametrize("sent", [3, 11], ids=["cut by the deadline", "cut at the bound"])
def test_a_connection_with_half_an_answer_is_not_used_again(sent, monkeypatch):
    monkeypatch.setattr(transport, "MAX_RESPONSE_BYTES", 10)
    connections = []

    def speak(connection):
        connections.append(connection)
        read_request(connection)
        connection.sendall(OK + b"Content-Length: 20\r\n\r\n" + b"x" * sent)
        if read_request(connection):
            connection.sendall(b"x" * (20 - sent) + OK + b"Content-Length: 0\r\n\r\n")

    for timeout in (0.6, 5, 30):  # A busy machine may be late with the status as well.
        connections.clear()
        with speaking(speak) as server:
            answers = [post(f"http://{server}/", timeout=timeout) for _ in range(2)]
        found = [getattr(one, "status", None) or one.reason for one in answers]
        if "timeout" not in found:
            break

    assert found == [200, 200]
    assert len(connections) == 2


def test_an_empty_answer_is_a_failure():
    with speaking(saying(b"")) as server:
        assert post(f"http://{server}/").reason == "connection"


@pytest.mark.parametrize(
    "answer",
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00", b"HTTP/1.1 99999 X\r\n"],
)
def test_another_protocol_is_a_protocol_failure(answer):
    with speaking(saying(answer)) as server:
        assert post(f"http://{server}/").reason == "protocol"


def test_bytes_of_a_header_that_are_no_text_are_kept_as_they_are():
    with speaking(saying(b"HTTP/1.1 301 X\r\nLocation: /\xff\xfe\r\n\r\n")) as server:
        answer = post(f"http://{server}/")

    assert (answer.status, answer.headers["location"]) == (301, "/\xff\xfe")


def test_a_thousand_requests_leak_neither_connections_nor_threads():
    with receiving(200) as receiver:
        post(receiver.url)
        # The one that looks for idle connections ends, and begins again, where there are none.
        before = {one.name for one in threading.enumerate()}
        count = threading.active_count()
        for _ in range(1_000):
            assert post(receiver.url).status == 200

        assert {one.name for one in threading.enumerate()} <= before
        assert threading.active_count() <= count
    assert receiver.connections == 1


def test_threads_that_begin_at_once_share_the_work_of_trust(monkeypatch):
    """Loading the authorities takes milliseconds."""
    made, real = [], tls._make

    def make(trust):
        made.append(trust)
        time.sleep(0.2)
        return real(trust)

    def run():
        ready.wait(60)
        found.append(tls.context(transport.PUBLIC))

    monkeypatch.setattr(tls, "_make", make)
    pools.start_afresh()
    ready, found = threading.Barrier(2), []
    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    pools.start_afresh()

    assert len(found) == 2
    assert found[0] is found[1]
    assert made == [transport.PUBLIC]


def test_no_time_at_all_is_a_timeout():
    assert post("http://127.0.0.1:9/", timeout=0).reason == "timeout"


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_shares_no_connection():
    with receiving(204) as receiver:
        post(receiver.url)
        child = os.fork()
        if child == 0:
            signal.alarm(100)
            os._exit(0 if getattr(post(receiver.url), "status", None) == 204 else 1)
        _, status = os.waitpid(child, 0)
        assert post(receiver.url).status == 204

    assert status == 0
    assert receiver.connections == 2
