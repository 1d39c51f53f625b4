"""A guarded session of requests: the rules of sending, for other URLs of strangers."""

from __future__ import annotations

import pytest
import requests

from django_webhooks import guarded
from tests import receivers
from tests.receivers import receiving, speaking


@pytest.fixture
def http():
    with guarded.session(max_bytes=1000) as session:
        yield session


def saying(answer):
    """A server that gives this answer to each request, and keeps the requests."""
    seen = []

    def speak(connection):
        seen.append(connection.recv(65_536))
        connection.sendall(answer)

    return speaking(speak), seen


def test_it_sends_and_returns_what_requests_would(http):
    with receiving(receivers.Answer(201, {"Content-Type": "application/json"}, b'{"a": 1}')) as one:
        answer = http.post(one.url, json={"b": 2}, headers={"X-One": "1"}, timeout=60)

    assert (answer.status_code, answer.json(), answer.url) == (201, {"a": 1}, one.url)
    assert answer.headers["content-type"] == "application/json"
    [request] = one.requests
    assert (request.body, request.headers["x-one"]) == (b'{"b": 2}', "1")
    assert request.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("http://10.0.0.1/", id="a private address"),
        pytest.param("http://169.254.169.254/latest/meta-data/", id="metadata of a cloud"),
        pytest.param("http://[::ffff:10.0.0.1]/", id="an address inside another"),
        pytest.param("http://localhost/", id="a special name"),
        pytest.param("http://127.0.0.1/", id="loopback"),
        pytest.param("http://127.1/", id="a spelling that parsers read differently"),
    ],
)
def test_what_is_not_allowed_is_not_called(url, http, settings):
    settings.WEBHOOKS_ALLOWED_NETWORKS = []

    with pytest.raises(guarded.NotAllowed):
        http.get(url, timeout=60)


def test_https_alone_unless_the_setting_says_otherwise(http, settings):
    settings.WEBHOOKS_REQUIRE_HTTPS = True

    with receiving() as one, pytest.raises(guarded.NotAllowed, match="https"):
        http.get(one.url, timeout=60)


def test_where_a_redirect_leads_is_vetted_as_well(http):
    server, _ = saying(
        b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/#x\r\nContent-Length: 0\r\n\r\n"
    )
    with server as place, pytest.raises(guarded.NotAllowed):
        http.get(f"http://{place}/", timeout=60)


def test_a_redirect_to_what_is_allowed_is_followed(http):
    with receiving() as one:
        one.health, one.document = 200, b"there"
        moved = f"HTTP/1.1 302 Found\r\nLocation: {one.url}\r\nContent-Length: 0\r\n\r\n"
        server, _ = saying(moved.encode())
        with server as place:
            assert http.get(f"http://{place}/", timeout=60).text == "there"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        pytest.param(b"content-length: 1001\r\n\r\n" + b"x" * 1001, guarded.TooLarge, id="long"),
        pytest.param(b"\r\n" + b"x" * 2000, guarded.TooLarge, id="long, without a length"),
        pytest.param(
            b"content-length: 9\r\n\r\nx", requests.exceptions.ChunkedEncodingError, id="broken off"
        ),
        pytest.param(
            b"transfer-encoding: chunked\r\n\r\n2\r\nab\r\n",
            requests.exceptions.ChunkedEncodingError,
            id="a chunk is missing",
        ),
    ],
)
def test_a_body_that_is_not_whole_is_an_error(answer, error, http):
    server, _ = saying(b"HTTP/1.1 200 OK\r\n" + answer)
    with server as place, pytest.raises(error):
        http.get(f"http://{place}/", timeout=60)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"content-length: 2\r\n\r\nab", id="a length"),
        pytest.param(b"\r\nab", id="until the end"),
        pytest.param(b"content-length: 2\r\ncontent-length: 2\r\n\r\nab", id="two lengths"),
        pytest.param(b"transfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", id="chunks"),
    ],
)
def test_a_body_that_is_whole_is_read_whatever_frames_it(answer, http):
    server, _ = saying(b"HTTP/1.1 200 OK\r\n" + answer)
    with server as place:
        assert http.get(f"http://{place}/", timeout=60).content == b"ab"


def test_the_answer_to_a_head_has_no_body(http):
    server, seen = saying(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n")
    with server as place:
        answer = http.head(f"http://{place}/", timeout=60)

    assert (answer.headers["content-length"], answer.content) == ("500", b"")
    assert seen[0].startswith(b"HEAD / ")


@pytest.mark.parametrize("timeout", [0.3, (0.1, 0.2), (0.3, None), None])
def test_one_deadline_is_over_everything(timeout, http, settings):
    settings.WEBHOOKS_TIMEOUT_SECONDS = 0.3
    with (
        receiving(receivers.Answer(delay=30)) as one,
        pytest.raises(requests.exceptions.ReadTimeout),
    ):
        http.post(one.url, data="x", timeout=timeout)


def test_where_nobody_listens_the_error_is_that_of_requests(http):
    with pytest.raises(requests.exceptions.ConnectionError):
        http.get("http://127.0.0.1:9/", timeout=60)


@pytest.mark.parametrize(
    "how",
    [
        pytest.param({"verify": False}, id="unverified"),
        pytest.param({"cert": "client.pem"}, id="a certificate"),
        pytest.param({"data": iter([b"x"])}, id="a body of unknown length"),
    ],
)
def test_what_is_not_to_be_had_is_refused(how, http):
    with pytest.raises(ValueError, match="A guarded session"):
        http.post("https://example.com/", timeout=60, **how)


def test_a_method_that_is_none_is_not_sent(http):
    with receiving() as one, pytest.raises(requests.exceptions.ConnectionError, match="method"):
        http.request("GET / HTTP/1.1\r\nX:", one.url, timeout=60)


def test_nothing_is_read_from_the_environment(http, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    with receiving() as one:
        assert http.post(one.url, timeout=60).status_code == 204


def test_other_schemes_reach_nothing(http):
    with pytest.raises(requests.exceptions.InvalidSchema):
        http.get("file:///etc/passwd")
