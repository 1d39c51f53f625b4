"""TLS: verified by the authorities that the process trusts, under the deadline of the attempt."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import threading
import time

import pytest

from django_webhooks.sending import http
from django_webhooks.sending.http import Answer, pools, tls
from tests import certificates
from tests.receivers import dripping, read_request, saying, speaking
from tests.timing import in_time

OK = b"HTTP/1.1 200 OK\r\n"


def post(server, *, timeout=60.0, name="localhost"):
    port = server.rpartition(":")[2]
    return http.post(f"https://{name}:{port}/", headers={}, body=b"{}", timeout=timeout)


@pytest.fixture
def trusted(monkeypatch, tmp_path):
    """Make a certificate that this process trusts."""

    def trust(**options):
        made = certificates.make(tmp_path, **options)
        monkeypatch.setattr(tls.certifi, "where", lambda: str(made.certificate))
        pools.start_afresh()
        return made.server()

    yield trust
    pools.start_afresh()


def test_a_good_certificate_is_accepted(trusted):
    with speaking(saying(OK + b"Content-Length: 2\r\n\r\nok"), tls=trusted()) as server:
        answer = post(server)

    assert answer == Answer(status=200, headers={"content-length": "2"}, body=b"ok")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        pytest.param({"names": ["example.com"]}, "match", id="wrong name"),
        pytest.param({"names": [], "common_name": "localhost"}, "match", id="common name alone"),
        pytest.param({"days": (-9, -1)}, "expired", id="expired"),
        pytest.param({"days": (1, 9)}, "not yet valid", id="not yet valid"),
    ],
)
def test_a_bad_certificate_is_a_tls_failure_that_says_why(trusted, options, why):
    with speaking(saying(OK + b"\r\n"), tls=trusted(**options)) as server:
        answer = post(server)

    assert answer.reason == "tls"
    assert why in answer.detail


def test_an_address_needs_a_certificate_of_its_own(trusted):
    with speaking(saying(OK + b"\r\n"), tls=trusted(names=["localhost"])) as server:
        answer = post(server, name="127.0.0.1")

    assert answer.reason == "tls"


def test_an_unknown_authority_is_a_tls_failure(tmp_path):
    unknown = certificates.make(tmp_path).server()

    with speaking(saying(OK + b"\r\n"), tls=unknown) as server:
        answer = post(server)

    assert answer.reason == "tls"
    assert "self-signed certificate" in answer.detail


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
def test_authorities_of_the_environment_are_not_trusted(tmp_path, monkeypatch, name):
    made = certificates.make(tmp_path)
    monkeypatch.setenv(name, str(made.certificate))
    pools.start_afresh()

    with speaking(saying(OK + b"\r\n"), tls=made.server()) as server:
        answer = post(server)

    assert answer.reason == "tls"


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_old_versions_are_refused(trusted):
    old = trusted()
    old.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    old.maximum_version = ssl.TLSVersion.TLSv1_1

    with speaking(saying(OK + b"\r\n"), tls=old) as server:
        answer = post(server)

    assert answer.reason in {"tls", "connection"}


def test_https_where_http_listens_is_told(trusted):
    with speaking(saying(OK + b"\r\n"), tls=trusted()) as server:
        answer = http.post(f"http://{server}/", headers={}, body=b"{}", timeout=60)

    assert answer.reason in {"protocol", "connection"}


@pytest.mark.parametrize(
    ("speak", "reason"),
    [
        pytest.param(saying(b"", then_wait=3), "timeout", id="silence"),
        pytest.param(dripping(b"", b"H"), "timeout", id="status line"),
        pytest.param(dripping(OK, b"a: b\r\n"), "timeout", id="headers"),
        pytest.param(dripping(OK + b"Content-Length: 99\r\n\r\n", b"x"), None, id="body"),
    ],
)
def test_the_deadline_holds_inside_tls(trusted, speak, reason):
    with speaking(speak, tls=trusted()) as server:
        for timeout in (0.7, 5, 30):  # A busy machine may be late with the status as well.
            answer = in_time(
                lambda: post(server, timeout=timeout),  # noqa: B023
                seconds=timeout + 0.5,
            )
            if getattr(answer, "reason", None) == reason:
                break

    assert getattr(answer, "reason", None) == reason


def test_connections_are_kept(trusted):
    count = 0

    def speak(connection):
        nonlocal count
        count += 1
        while read_request(connection):
            connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    with speaking(speak, tls=trusted()) as server:
        answers = [post(server).status for _ in range(3)]
        pools.start_afresh()

    assert answers == [204, 204, 204]
    assert count == 1


def relaying(server, *, after):
    """Stand before a server, and pass on what it says byte by byte, slowly after some of them."""

    def speak(near):
        host, _, port = server.rpartition(":")
        with socket.create_connection((host, int(port))) as far:
            threading.Thread(target=_pass_on, args=(near, far), daemon=True).start()
            passed = 0
            while data := far.recv(65_536):
                for one in data:
                    near.sendall(bytes([one]))
                    passed += 1
                    if passed > after:
                        time.sleep(0.05)

    return speak


def _pass_on(near, far):
    try:
        while data := near.recv(65_536):
            far.sendall(data)
    except OSError:
        pass


#: Bytes of a handshake with these certificates, and a few of the record that follows.
HANDSHAKE = 1_400


@pytest.mark.parametrize("after", [0, HANDSHAKE], ids=["handshake", "record of the answer"])
def test_what_is_dripped_below_tls_ends_at_the_deadline_too(trusted, after):
    body = b"x" * 2_000
    answer = OK + b"Content-Length: 2000\r\n\r\n" + body
    with (
        speaking(saying(answer), tls=trusted()) as server,
        speaking(relaying(server, after=after)) as slow,
    ):
        answer = in_time(lambda: post(slow, timeout=0.7), seconds=1.2)

    assert answer.reason == "timeout"


GEVENT = """
from gevent import monkey; monkey.patch_all()
import sys, pytest
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "-k", "not with_gevent", *sys.argv[1:]]))
"""


@pytest.mark.alike
@pytest.mark.timeout(330)
def test_all_of_this_holds_with_gevent():
    """Its sockets are others: they wait piece by piece, and their handshake takes no argument."""
    ran = subprocess.run(
        [sys.executable, "-c", GEVENT, __file__],
        capture_output=True,
        text=True,
        timeout=300,
    )

    assert ran.returncode == 0, ran.stdout
