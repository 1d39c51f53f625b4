"""One POST against receivers that behave, and receivers that do not."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from django_webhooks.sending import http
from django_webhooks.sending.http import Answer, NoAnswer, transport
from tests import receivers
from tests.receivers import dripping, read_request, receiving, saying, speaking
from tests.timing import in_time

OK = b"HTTP/1.1 200 OK\r\n"


def post(url, *, timeout=60.0, headers=None, body=b"{}"):
    return http.post(url, headers=headers or {}, body=body, timeout=timeout)


def test_it_returns_status_headers_and_body():
    with receiving(receivers.Answer(503, {"Retry-After": "7"}, b"busy")) as receiver:
        answer = post(receiver.url, headers={"x-one": "1"}, body=b'{"a":1}')

    assert isinstance(answer, Answer)
    assert (answer.status, answer.headers["retry-after"], answer.body) == (503, "7", b"busy")
    [request] = receiver.requests
    assert (request.body, request.headers["x-one"], request.path) == (b'{"a":1}', "1", "/hook")
    assert request.headers["accept-encoding"] == "identity"


def test_head_and_body_leave_in_one_piece():
    pieces = []

    def speak(connection):
        pieces.append(connection.recv(65_536))
        connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    with speaking(speak) as place:
        assert post(f"http://{place}/", headers={"x-one": "1"}, body=b"x" * 1000).status == 204

    head, _, body = pieces[0].partition(b"\r\n\r\n")
    assert body == b"x" * 1000
    assert head.lower().split(b"\r\n")[1:] == [
        b"host: " + place.encode(), b"accept-encoding: identity", b"x-one: 1",
        b"content-length: 1000",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("entered", "sent"),
    [
        ("", "/"),
        ("?a=1", "/?a=1"),
        ("/a/../b;c=d?e=f&g[]=h", "/a/../b;c=d?e=f&g%5B%5D=h"),
        ("/ü?ü=%C3%BC", "/%C3%BC?%C3%BC=%C3%BC"),
        ("/100%/%zz/%2f", "/100%25/%25zz/%2f"),
        ("/{id}|~'()*!$,:@", "/%7Bid%7D%7C~'()*!$,:@"),
    ],
)
def test_the_target_is_sent_as_it_was_entered(entered, sent):
    with receiving(204) as receiver:
        assert post(receiver.url.removesuffix("/hook") + entered).status == 204

    assert [request.path for request in receiver.requests] == [sent]


def test_headers_that_occur_twice_are_one_list():
    answer = b"HTTP/1.1 503 Busy\r\nX-A: 1\r\nx-a: 2\r\nContent-Length: 0\r\n\r\n"
    with speaking(saying(answer)) as place:
        assert post(f"http://{place}/").headers["x-a"] == "1, 2"


def test_connections_are_kept():
    with receiving(204) as receiver:
        for _ in range(5):
            assert post(receiver.url).status == 204

    assert receiver.connections == 1


def test_connections_are_kept_after_a_body():
    with receiving(receivers.Answer(200, body=b"x" * 1000)) as receiver:
        for _ in range(3):
            assert post(receiver.url).body == b"x" * 1000

    assert receiver.connections == 1


def test_a_kept_connection_that_was_closed_meanwhile_is_replaced():
    count = 0

    def speak(connection):
        nonlocal count
        count += 1
        # Says that it keeps the connection, and closes it at the next request.
        read_request(connection)
        connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
        connection.recv(10)

    with speaking(speak) as server:
        answers = [post(f"http://{server}/") for _ in range(3)]

    assert [answer.status for answer in answers] == [204, 204, 204]
    assert count == 3


def test_a_first_connection_that_is_closed_is_a_failure():
    count = 0

    def speak(connection):
        nonlocal count
        count += 1
        read_request(connection)

    with speaking(speak) as server:
        answer = post(f"http://{server}/")

    assert answer.reason == "connection"
    assert count == 1


@pytest.mark.parametrize(
    "speak",
    [
        pytest.param(lambda connection: time.sleep(3), id="never reads"),
        pytest.param(saying(b"", then_wait=3), id="never answers"),
        pytest.param(dripping(b"", b"H"), id="drips the status line"),
        pytest.param(dripping(OK, b"a: b\r\n", every=0.2), id="drips headers"),
        pytest.param(dripping(b"", b"HTTP/1.1 100 Continue\r\n\r\n", every=0.05), id="100s"),
    ],
)
def test_the_deadline_holds(speak):
    with speaking(speak) as server:
        answer = in_time(lambda: post(f"http://{server}/", timeout=1), seconds=1.5)

    assert answer.reason == "timeout"


@pytest.mark.parametrize(
    "speak",
    [
        pytest.param(dripping(OK + b"Content-Length: 99\r\n\r\n", b"x"), id="drips the body"),
        pytest.param(saying(OK + b"Content-Length: 9\r\n\r\nx", then_wait=3), id="hangs in it"),
        pytest.param(saying(OK + b"Content-Length: 9\r\n\r\nx"), id="ends it early"),
        pytest.param(saying(OK + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nx"), id="bad chunk"),
        pytest.param(saying(OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nx"), id="no chunk"),
    ],
)
def test_the_status_decides_whatever_the_body_does(speak):
    with speaking(speak) as server:
        for timeout in (1, 5, 30):  # A busy machine may be late with the status as well.
            answer = in_time(
                lambda: post(f"http://{server}/", timeout=timeout),  # noqa: B023
                seconds=timeout + 0.5,
            )
            if isinstance(answer, Answer):
                break

    assert isinstance(answer, Answer)
    assert answer.status == 200


def test_an_endless_body_is_cut(monkeypatch):
    monkeypatch.setattr(transport, "MAX_RESPONSE_BYTES", 1000)

    def speak(connection):
        read_request(connection)
        connection.sendall(OK + b"\r\n")
        for _ in range(10_000):
            connection.sendall(b"x" * 10_000)

    with speaking(speak) as server:
        answer = post(f"http://{server}/")

    assert answer.status == 200
    assert answer.body == b"x" * 1000


def test_a_redirect_is_not_followed():
    with receiving(receivers.Answer(302, {"Location": "http://127.0.0.1:1/"})) as receiver:
        answer = post(receiver.url)

    assert answer.status == 302
    assert answer.headers["location"] == "http://127.0.0.1:1/"
    assert len(receiver.requests) == 1


def test_no_cookie_is_sent_back():
    with receiving(receivers.Answer(200, {"Set-Cookie": "a=b"})) as receiver:
        post(receiver.url)
        post(receiver.url)

    assert "cookie" not in receiver.requests[1].headers


def test_the_environment_has_no_effect(monkeypatch, tmp_path):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password secret")
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1/")
    with receiving(204) as receiver:
        answer = post(receiver.url)

    assert answer.status == 204
    assert "authorization" not in receiver.requests[0].headers


def test_a_refused_connection():
    # Bound, so that nobody else listens there meanwhile.
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        assert post(f"http://127.0.0.1:{sock.getsockname()[1]}/").reason == "connection"


def test_a_connection_that_is_never_accepted_ends_by_the_deadline():
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        port = listener.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        time.sleep(0.2)
        answer = in_time(lambda: post(f"http://127.0.0.1:{port}/", timeout=1), seconds=1.5)
        for filler in fillers:
            filler.close()

    assert answer.reason == "connect_timeout"


@pytest.mark.parametrize(
    "answer",
    [
        b"\x00\x01\x02 noise\r\n\r\n",
        b"hello\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        OK + b"a: b\r\n" * 1000 + b"\r\n",
        OK + b"a: " + b"x" * 100_000 + b"\r\n\r\n",
    ],
)
def test_what_is_not_http_is_a_protocol_failure(answer):
    with speaking(saying(answer)) as server:
        assert post(f"http://{server}/").reason == "protocol"


def test_a_plain_server_behind_https_is_a_tls_failure():
    def speak(connection):
        connection.recv(1000)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with speaking(speak) as server:
        assert post(f"https://{server}/").reason == "tls"


def test_a_stalled_handshake_ends_by_the_deadline():
    with speaking(lambda connection: time.sleep(3)) as server:
        answer = in_time(lambda: post(f"https://{server}/", timeout=1), seconds=1.5)

    assert answer.reason == "timeout"


def test_a_name_that_does_not_resolve():
    assert post("http://does-not-exist.invalid/", timeout=5).reason == "dns"


def test_a_resolver_that_hangs_ends_by_the_deadline(monkeypatch):
    ending = threading.Event()
    real = socket.getaddrinfo

    def hang(host, *args, **kwargs):
        if host == "slow.test" and not kwargs.get("flags"):
            ending.wait(60)
        return real(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    answer = in_time(lambda: post("http://slow.test/", timeout=0.5), seconds=1)
    ending.set()

    assert answer.reason == "dns"


def test_http_is_blocked_where_https_is_required(settings):
    settings.WEBHOOKS_REQUIRE_HTTPS = True

    with receiving(204) as receiver:
        answer = post(receiver.url)

    assert answer.reason == "blocked"
    assert receiver.connections == 0


@pytest.mark.parametrize("name", ["", "a b", "a:", "a\r\nb", "ä"])
def test_a_header_whose_name_is_none_is_not_sent(name):
    assert post("http://127.0.0.1:9/", headers={name: "1"}).reason == "internal"


@pytest.mark.parametrize("value", ["a\r\nb: c", "a\x00", "€"])
def test_a_header_that_cannot_be_sent_is_not_quoted(value):
    answer = post("http://127.0.0.1:9/", headers={"authorization": f"secret{value}"})

    assert isinstance(answer, NoAnswer)
    assert answer.reason == "internal"
    assert "secret" not in answer.detail
    assert "authorization" in answer.detail


def test_the_path_of_a_url_is_not_told():
    answer = post("http://127.0.0.1:99999/very-secret")

    assert isinstance(answer, NoAnswer)
    assert "very-secret" not in answer.detail


def test_an_error_of_ours_says_nothing_of_the_receiver_and_quotes_nothing(monkeypatch, caplog):
    def fail(place, message, call):
        raise ValueError(f"cannot parse {message}")

    monkeypatch.setattr(transport, "_send", fail)
    answer = post("http://example.com/very-secret")

    assert (answer.reason, answer.detail) == ("internal", "ValueError in the sender.")
    assert "ValueError at" in caplog.text
    assert "very-secret" not in caplog.text
