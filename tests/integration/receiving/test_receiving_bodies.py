"""Bodies: read to their end whatever the server, the framing and the middleware, or refused."""

from __future__ import annotations

import io
import sys
import types

import pytest
from django.core.handlers.asgi import ASGIRequest
from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpResponse
from django.test import Client, RequestFactory
from django.urls import path

from django_webhooks.inbox import worker
from django_webhooks.inbox.models import InboxMessage
from django_webhooks.receiving import Rejected, Token, body, targets, webhook
from tests.senders import SECRET

TEXT = b'{"type":"order.paid"}'
#: How much one read of a stream gives at the most.
STEP = 7


class Stream(io.BytesIO):
    """A stream that gives little at a time, and ends with an error where it is told to."""

    def __init__(self, content, error=None):
        super().__init__(content)
        self.error = error

    def read(self, size=-1):
        found = super().read(STEP if size < 0 else min(size, STEP))
        if not found and self.error:
            raise self.error
        return found


class Malformed(Exception):
    """As servers raise their own, such as gunicorn's InvalidChunkSize."""


def wsgi(stream=None, **environ):
    """A request in chunks under a server that ends the stream, or as ``environ`` says."""
    found = {
        "REQUEST_METHOD": "POST",
        "SERVER_NAME": "testserver",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_SOFTWARE": "gunicorn/23.0.0",
        "wsgi.url_scheme": "https",
        "wsgi.input": Stream(TEXT) if stream is None else stream,
        "wsgi.input_terminated": True,
        "HTTP_TRANSFER_ENCODING": "chunked",
    } | environ
    return WSGIRequest({name: value for name, value in found.items() if value is not None})


def asgi(content=TEXT, *headers, **scope):
    found = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": headers}
    return ASGIRequest(found | scope, io.BytesIO(content))


def read(request, *, limit=1_000, is_signed=True):
    """Return the body, or status and reason of the refusal."""
    try:
        return body.read(request, limit=limit, is_signed=is_signed)
    except Rejected as rejected:
        return rejected.status, str(rejected.reason)


LENGTH, READ, SIZE = (411, "length"), (400, "read"), (413, "size")
CHUNKS = (b"transfer-encoding", b"chunked")
SAID = (b"content-length", b"%d" % len(TEXT))
#: A request, and what is read of it where the scheme signs the body, and where it does not.
REQUESTS = {
    "chunks, ended by the server": (lambda: wsgi(), TEXT, TEXT),
    "chunks, by another name": (lambda: wsgi(HTTP_TRANSFER_ENCODING=" Chunked "), TEXT, TEXT),
    "chunks of nothing": (lambda: wsgi(Stream(b"")), b"", b""),
    "chunks, not ended": (lambda: wsgi(**{"wsgi.input_terminated": False}), LENGTH, LENGTH),
    "chunks, nothing said of an end": (
        lambda: wsgi(**{"wsgi.input_terminated": None}),
        LENGTH,
        LENGTH,
    ),
    "chunks, under a server that is not known": (
        lambda: wsgi(SERVER_SOFTWARE="Granian"),
        TEXT,
        LENGTH,
    ),
    "chunks, under a server without a name": (
        lambda: wsgi(SERVER_SOFTWARE=None),
        TEXT,
        LENGTH,
    ),
    "chunks, hung up": (lambda: wsgi(Stream(TEXT, OSError("gone"))), READ, READ),
    "chunks, malformed": (lambda: wsgi(Stream(TEXT, Malformed())), READ, READ),
    "another coding": (lambda: wsgi(HTTP_TRANSFER_ENCODING="gzip, chunked"), LENGTH, LENGTH),
    "identity": (lambda: wsgi(HTTP_TRANSFER_ENCODING="identity"), LENGTH, LENGTH),
    "chunks and a length": (
        lambda: wsgi(CONTENT_LENGTH=str(len(TEXT))),
        (400, "length"),
        (400, "length"),
    ),
    "a length": (
        lambda: wsgi(io.BytesIO(TEXT), CONTENT_LENGTH=str(len(TEXT)), HTTP_TRANSFER_ENCODING=None),
        TEXT,
        TEXT,
    ),
    "a length of 0": (lambda: wsgi(CONTENT_LENGTH="0", HTTP_TRANSFER_ENCODING=None), b"", b""),
    "a length too long": (
        lambda: wsgi(CONTENT_LENGTH="99", HTTP_TRANSFER_ENCODING=None),
        READ,
        READ,
    ),
    "no length": (lambda: wsgi(HTTP_TRANSFER_ENCODING=None), b"", LENGTH),
    "an empty length": (lambda: wsgi(HTTP_TRANSFER_ENCODING=None, CONTENT_LENGTH=""), b"", LENGTH),
    "HTTP/2 under WSGI": (
        lambda: wsgi(HTTP_TRANSFER_ENCODING=None, SERVER_PROTOCOL="HTTP/2.0"),
        b"",
        b"",
    ),
    "ASGI, a length": (lambda: asgi(TEXT, SAID), TEXT, TEXT),
    "ASGI, chunks": (lambda: asgi(TEXT, CHUNKS), TEXT, TEXT),
    "ASGI, chunks of nothing": (lambda: asgi(b"", CHUNKS), b"", b""),
    "ASGI, another coding": (
        lambda: asgi(TEXT, (b"transfer-encoding", b"gzip, chunked")),
        LENGTH,
        LENGTH,
    ),
    "ASGI, a length too long": (lambda: asgi(TEXT[:-1], SAID), READ, READ),
    "ASGI, something and no length": (lambda: asgi(TEXT), TEXT, TEXT),
    "ASGI, nothing and no length": (lambda: asgi(b""), b"", LENGTH),
    "ASGI, HTTP/1.0": (lambda: asgi(b"", http_version="1.0"), b"", LENGTH),
    "ASGI, HTTP/2": (lambda: asgi(b"", http_version="2"), b"", b""),
}


@pytest.mark.parametrize(("make", "signed", "unsigned"), REQUESTS.values(), ids=REQUESTS)
def test_what_is_read_of_a_request(make, signed, unsigned):
    assert read(make()) == signed
    assert read(make(), is_signed=False) == unsigned


@pytest.mark.parametrize("setting", [None, 5, 100])
def test_the_limits_of_chunks(settings, setting):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = setting
    stream = Stream(b"x" * 1_000_000)

    expected = TEXT if setting != 5 else SIZE
    assert read(wsgi()) == expected
    assert read(wsgi(stream), limit=50) == SIZE
    # It is left where it was.
    assert stream.tell() < 100


def test_what_was_read_is_the_request_s_own_body_too():
    request = wsgi()

    assert read(request) == request.body == TEXT


class TestMiddleware:
    """Who read before: the body, the stream through Django, or the server's own."""

    def test_the_body(self):
        request = wsgi()
        assert request.body == b""

        assert read(request) == TEXT

    def test_the_fields_of_a_form(self):
        request = wsgi(CONTENT_TYPE="application/x-www-form-urlencoded")
        assert dict(request.POST) == {}

        assert read(request) == TEXT

    def test_the_stream(self):
        request = wsgi()
        assert request.read() == b""

        assert read(request) == TEXT

    def test_the_server_s_stream_and_left_what_it_read(self):
        request = wsgi()
        request._body = request.environ["wsgi.input"].read(3)

        assert read(request) == TEXT[:3]
        assert read(request, limit=2) == SIZE

    def test_a_body_with_a_length(self):
        request = RequestFactory().post("/", TEXT, content_type="application/json")
        assert request.read(5)

        assert read(request) == (500, "read")

    @pytest.mark.django_db
    @pytest.mark.parametrize("how", ["body", "POST", "nothing"])
    def test_a_whole_request_that_a_middleware_read(self, settings, how):
        settings.ROOT_URLCONF = __name__
        settings.MIDDLEWARE = [f"{__name__}.reading"]
        reading.how = how

        answer = Client().generic(
            "POST",
            "/hook/",
            TEXT,
            headers={"authorization": f"Bearer {SECRET}"},
            secure=True,
            CONTENT_TYPE="application/json",
        )

        assert answer.content == TEXT


def reading(get_response):
    def middleware(request):
        getattr(request, reading.how, None)
        return get_response(request)

    return middleware


def answering(request, message):
    return HttpResponse(message.body)


handled = []


@webhook(scheme=Token(), secrets=SECRET, background=True, name="later of bodies")
def later(request, message):
    assert message.payload["type"]
    handled.append((request.body, request.headers.get("Transfer-Encoding")))


urlpatterns = [
    path("hook/", webhook(scheme=Token(), secrets=SECRET, name="bodies")(answering)),
    path("later/", later),
]


class TestUWSGI:
    """It makes a module of its own, whose function gives a chunk at a time, and b"" at the end."""

    @pytest.fixture
    def chunks(self, monkeypatch):
        found = []

        def chunked_read():
            piece = found.pop(0)
            if isinstance(piece, Exception):
                raise piece
            return piece

        module = types.ModuleType("uwsgi")
        module.chunked_read = chunked_read
        monkeypatch.setitem(sys.modules, "uwsgi", module)
        return found

    def request(self, **environ):
        none = {
            "wsgi.input_terminated": None,
            "uwsgi.version": b"2.0.30",
            "SERVER_SOFTWARE": None,
        }
        return wsgi(**none | environ)

    @pytest.mark.parametrize(
        ("pieces", "expected"),
        [
            ([TEXT[:9], TEXT[9:], b""], TEXT),
            ([b""], b""),
            ([OSError("no chunk")], LENGTH),
            ([TEXT, OSError("gone")], READ),
            ([b"x" * 2_000, b""], SIZE),
        ],
    )
    def test_its_chunks(self, chunks, pieces, expected):
        chunks[:] = pieces

        assert read(self.request()) == expected

    def test_without_a_proof_of_the_body_they_are_refused(self, chunks):
        chunks[:] = [TEXT, b""]

        assert read(self.request(), is_signed=False) == LENGTH
        assert len(chunks) == 2


@pytest.mark.django_db(transaction=True)
def test_what_is_no_json_is_given_up_at_once_in_the_background(settings):
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = []

    answer = Client().generic(
        "POST",
        "/later/",
        b"{",
        headers={"authorization": f"Bearer {SECRET}"},
        secure=True,
        CONTENT_TYPE="application/json",
    )
    worker.drain()

    assert answer.status_code == 202
    row = InboxMessage.objects.get()
    assert (row.status, row.attempts_made) == ("given_up", 1)
    assert row.error.startswith("InvalidPayload")


@pytest.mark.django_db(transaction=True)
def test_a_worker_is_given_what_came_in_chunks_as_a_whole(settings):
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = []
    handled.clear()
    in_chunks = {
        "wsgi.input": Stream(TEXT),
        "wsgi.input_terminated": True,
        "SERVER_SOFTWARE": "gunicorn/23.0.0",
        "HTTP_TRANSFER_ENCODING": "chunked",
        "CONTENT_LENGTH": "",
        "CONTENT_TYPE": "application/json",
    }

    answer = Client().generic(
        "POST", "/later/", headers={"authorization": f"Bearer {SECRET}"}, secure=True, **in_chunks
    )
    worker.drain()

    assert answer.status_code == 202
    assert bytes(InboxMessage.objects.get().body) == TEXT
    assert handled == [(TEXT, None)]


class TestURLs:
    """The URL of a request, as its sender wrote it."""

    @pytest.mark.parametrize(
        ("environ", "url"),
        [
            ({"RAW_URI": "/a%2Fb?x=%20"}, "https://testserver:80/a%2Fb?x=%20"),
            ({"REQUEST_URI": "//a//?"}, "https://testserver:80//a//?"),
            ({"RAW_URI": "http://else.example/a?b"}, "https://testserver:80/a?b"),
            ({"RAW_URI": "https://else.example"}, "https://testserver:80"),
            ({"RAW_URI": "*"}, "https://testserver:80/p%C3%A9/?q=%C3%A9"),
            ({}, "https://testserver:80/p%C3%A9/?q=%C3%A9"),
        ],
    )
    def test_under_wsgi(self, environ, url):
        known = {"PATH_INFO": "/pÃ©/", "QUERY_STRING": "q=%C3%A9"}

        assert targets.url(wsgi(**known | environ)) == url

    @pytest.mark.parametrize(
        ("scope", "url"),
        [
            ({"raw_path": b"/a%2Fb", "query_string": b"x=%20"}, "http://unknown:0/a%2Fb?x=%20"),
            ({"raw_path": b"/a"}, "http://unknown:0/a"),
            ({"path": "/é", "raw_path": None}, "http://unknown:0/%C3%A9"),
        ],
    )
    def test_under_asgi(self, scope, url):
        assert targets.url(asgi(**scope)) == url

    @pytest.mark.parametrize(
        ("request_", "more"),
        [
            (lambda: asgi(raw_path=b"/a"), ["http://unknown:0/a?"]),
            (lambda: asgi(raw_path=b"/a", query_string=b"x"), []),
            (lambda: wsgi(RAW_URI="/a"), []),
        ],
        ids=["asgi", "asgi with a query", "wsgi"],
    )
    def test_a_bare_question_mark_of_which_a_server_does_not_tell(self, request_, more):
        assert targets.urls(request_()) == [targets.url(request_()), *more]

    def test_behind_proxies(self, settings):
        settings.USE_X_FORWARDED_HOST = True
        settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
        request = wsgi(
            RAW_URI="/a",
            HTTP_X_FORWARDED_HOST="hooks.example.com",
            HTTP_X_FORWARDED_PROTO="https",
        )

        assert targets.url(request) == "https://hooks.example.com/a"
        settings.WEBHOOKS_SITE_URL = "https://other.example.com/prefix/"
        assert targets.url(request) == "https://other.example.com/prefix/a"
        assert targets.url(request, base="https://mine.example.com") == "https://mine.example.com/a"

    def test_a_host_of_another_site(self, settings):
        settings.ALLOWED_HOSTS = ["hooks.example.com"]

        with pytest.raises(Rejected) as raised:
            targets.url(wsgi(HTTP_HOST="evil.example"))
        assert (raised.value.status, raised.value.reason) == (400, "host")

    @pytest.mark.parametrize("base", ["hooks.example.com", "https://x/?y", "https://x:70000"])
    def test_a_base_that_is_none_is_refused_where_it_is_written(self, base):
        with pytest.raises(ValueError, match="A base URL is like"):
            webhook(secrets=SECRET, base_url=base)
