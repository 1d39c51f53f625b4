"""Each answer belongs to its request, whatever a receiver sends, and when, on a kept connection.

All of it runs with threads, with processes forked from this one, and with gevent.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from django_webhooks.sending import http
from django_webhooks.sending.http import pools
from tests import certificates
from tests.receivers import read_request, speaking
from tests.timing import in_time

pytestmark = pytest.mark.alike

NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"
FORGED = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"


@pytest.fixture(params=["http", "https"])
def serve(request, tmp_path, settings):
    """Return how to run a server in the clear, or with TLS that is trusted."""
    tls = None
    if request.param == "https":
        made = certificates.make(tmp_path, names=["127.0.0.1"])
        settings.WEBHOOKS_CA_BUNDLE = str(made.certificate)
        tls = made.server()
    pools.start_afresh()

    class Serving:
        def __init__(self, speak):
            self._server = speaking(speak, tls=tls)

        def __enter__(self):
            return f"{request.param}://{self._server.__enter__()}"

        def __exit__(self, *error):
            pools.start_afresh()
            return self._server.__exit__(*error)

    yield Serving
    pools.start_afresh()


def post(url, *, tenant=None, timeout=60.0):
    return http.post(url, headers={}, body=b"{}", timeout=timeout, tenant=tenant)


def until(condition):
    ends = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.01)


def told(answer):
    return getattr(answer, "status", answer), getattr(answer, "body", b"")


def by_path(answers, seen=None):
    """Answer each request by its path: pieces of bytes, and pauses in seconds between them."""

    def speak(connection):
        while request := read_request(connection):
            if seen is not None:
                seen.append(connection)
            for one in answers[request.split(b" ")[1].decode()]:
                if isinstance(one, bytes):
                    connection.sendall(one)
                else:
                    time.sleep(one)

    return speak


def ok(body):
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def interim(status):
    return b"HTTP/1.1 %d Interim\r\nX-Interim: yes\r\n\r\n" % status


INTERIM = {
    "100": [interim(100)],
    "102": [interim(102)],
    "103": [interim(103)],
    "199": [interim(199)],
    "several": [interim(103), 0.05, interim(100) + interim(103)],
    "103 with a length": [b"HTTP/1.1 103 Early\r\nContent-Length: 4\r\n\r\n"],
    "cut within": [b"HTTP/1.1 103 Ea", 0.05, b"rly\r\n", 0.05, b"\r\n"],
}


@pytest.mark.parametrize("before", INTERIM.values(), ids=INTERIM)
@pytest.mark.parametrize("pause", [0, 0.1], ids=["at once", "later"])
def test_an_interim_answer_is_none_yet(serve, before, pause):
    """A's receiver sends 103 and later 200; B's, behind the same server, 503."""
    seen = []
    answers = {
        "/a": [*before, pause, ok(b"of a")],
        "/b": [b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nof b"],
    }
    with serve(by_path(answers, seen)) as server:
        found = []
        for _ in range(2):
            found.append(told(post(f"{server}/a", tenant="a")))
            found.append(told(post(f"{server}/b", tenant="b")))
            found.append(told(post(f"{server}/b", tenant="a")))

    assert found == [(200, b"of a"), (503, b"of b"), (503, b"of b")] * 2
    # The final answers are over, so that both connections are kept.
    assert len(set(map(id, seen))) == 2


def test_101_is_a_failure_and_ends_the_connection(serve):
    seen = []
    answers = {"/": [b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", 0.1, FORGED]}
    with serve(by_path(answers, seen)) as server:
        found = [told(post(f"{server}/")) for _ in range(2)]

    assert found == [(101, b""), (101, b"")]
    assert seen[0] is not seen[1]


LATE = {
    "after 204": [NO_CONTENT],
    "after a length": [ok(b"x")],
    "after chunks": [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"],
    "after 304": [b"HTTP/1.1 304 Not Modified\r\n\r\n"],
    "after 103 and 204": [interim(103), 0.05, NO_CONTENT],
}


@pytest.mark.parametrize("before", LATE.values(), ids=LATE)
@pytest.mark.parametrize(
    "surplus", [FORGED, b"\r\n", b"x", interim(103)], ids=["answer", "line", "byte", "103"]
)
def test_what_was_sent_after_an_answer_is_nobodys_next_one(serve, before, surplus):
    """It came while nobody was asking: the connection is not used again, not even by its owner."""
    seen, answers = [], {"/a": [*before, 0.03, surplus], "/b": [NO_CONTENT]}
    with serve(by_path(answers, seen)) as server:
        post(f"{server}/a", tenant="a")
        until(lambda: not any(one.is_clean() for one in list(pools._pool._idle)))
        found = [told(post(f"{server}/b", tenant=tenant)) for tenant in ("a", "b")]

    assert found == [(204, b""), (204, b"")]
    assert len(set(map(id, seen))) == 3


def test_what_comes_within_the_next_request_reaches_no_other_tenant(serve):
    """Between the look at a connection and the next answer, bytes cannot be told apart."""
    answers = {"/a": [NO_CONTENT, 0.02, FORGED], "/b": [0.2, NO_CONTENT]}
    with serve(by_path(answers)) as server:
        for _ in range(5):
            post(f"{server}/a", tenant="a")
            assert told(post(f"{server}/b", tenant="b")) == (204, b"")


UNPROVEN = {
    "gzip, chunked, and a length": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\nContent-Length: 5\r\n\r\n"
        b"1\r\nx\r\n0\r\n\r\n"
    ),
    "a length twice": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
    "a folded coding": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\n chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
    ),
    "an extension": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;a=b\r\nx\r\n0\r\n\r\n"
    ),
    "LF alone": b"HTTP/1.1 200 OK\nContent-Length: 1\n\nx",
    "a header that is none": b"HTTP/1.1 200 OK\r\nno colon\r\nContent-Length: 1\r\n\r\nx",
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx",
    "close": b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx",
    "surplus at once": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxHTTP/1.1 500 No\r\n\r\n",
}


@pytest.mark.parametrize("answer", UNPROVEN.values(), ids=UNPROVEN)
def test_a_connection_whose_answer_may_go_on_is_not_used_again(serve, answer):
    seen = []
    with serve(by_path({"/a": [answer], "/b": [NO_CONTENT]}, seen)) as server:
        first = told(post(f"{server}/a"))
        second = told(post(f"{server}/b"))

    assert (first, second) == ((200, b"x"), (204, b""))
    assert seen[0] is not seen[1]


def crowd(server, *, requests):
    """Send for several tenants at once; return what was answered to whom."""

    def ask(number):
        tenant = "abc"[number % 3]
        return tenant, told(post(f"{server}/{tenant}", tenant=tenant))

    with ThreadPoolExecutor(9) as threads:
        return list(threads.map(ask, range(requests)))


CROWD = {
    "/a": [interim(103), 0.01, ok(b"a")],
    "/b": [b"HTTP/1.1 503 Busy\r\nContent-Length: 1\r\n\r\nb"],
    "/c": [ok(b"c"), 0.005, FORGED],
}
#: Surplus may come within the next request of its own tenant, and of none else.
EXPECTED = {"a": {(200, b"a")}, "b": {(503, b"b")}, "c": {(200, b"c"), (200, b"forged")}}


def test_of_many_threads_each_gets_the_answer_to_its_own_request(serve):
    with serve(by_path(CROWD)) as server:
        found = crowd(server, requests=150)

    for tenant, answer in found:
        assert answer in EXPECTED[tenant]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.skipif("gevent" in sys.modules, reason="gevent does not fork here")
def test_of_forked_processes_each_gets_the_answer_to_its_own_request():
    """In the clear: OpenSSL's locks of the server's threads here would be held in the children."""
    pools.start_afresh()
    with speaking(by_path(CROWD)) as place:
        server = f"http://{place}"
        crowd(server, requests=6)
        children = []
        for _ in range(3):
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    signal.signal(signal.SIGALRM, signal.SIG_DFL)
                    signal.alarm(100)
                    found = crowd(server, requests=30)
                    status = int(any(one not in EXPECTED[tenant] for tenant, one in found))
                finally:
                    os._exit(status)
            children.append(child)
        found = crowd(server, requests=30)
        statuses = [os.waitpid(child, 0)[1] for child in children]
    pools.start_afresh()

    assert statuses == [0, 0, 0]
    assert all(answer in EXPECTED[tenant] for tenant, answer in found)


def test_tenants_share_no_connection_and_requests_of_one_do(serve):
    seen = []
    with serve(by_path({"/": [NO_CONTENT]}, seen)) as server:
        for tenant in "abab":
            post(f"{server}/", tenant=tenant)

    assert [seen.index(one) for one in seen] == [0, 1, 0, 1]


@pytest.mark.parametrize("hangs_up", [True, False], ids=["hangs up", "stays"])
def test_an_early_answer_to_a_request_that_is_not_read_counts(serve, hangs_up):
    """413 before the body was read: the answer is there to be read."""
    ending = threading.Event()

    def speak(connection):
        connection.recv(1000)
        connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        if hangs_up:
            connection.shutdown(1)
            while connection.recv(65_536):
                pass
        ending.wait(60)

    def ask():
        return http.post(f"{server}/", headers={}, body=b"x" * 30_000_000, timeout=timeout)

    with serve(speak) as server:
        for timeout in (1.5, 6, 30):  # A busy machine may be late with the answer as well.
            answer = in_time(ask, seconds=timeout + 0.5)
            if told(answer) == (413, b""):
                break
        ending.set()

    assert told(answer) == (413, b"")


def test_a_connection_closed_while_it_was_kept_costs_nobody_anything(serve):
    count = itertools.count()

    def speak(connection):
        next(count)
        read_request(connection)
        connection.sendall(NO_CONTENT)

    with serve(speak) as server:
        found = []
        for _ in range(3):
            found.append(told(post(f"{server}/")))
            time.sleep(0.1)

    assert found == [(204, b"")] * 3
    assert next(count) == 3


GEVENT = """
from gevent import monkey; monkey.patch_all()
import sys, pytest
chosen = "interim and later and 103 or threads or early"
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "-k", chosen, *sys.argv[1:]]))
"""


@pytest.mark.timeout(330)
def test_all_of_this_holds_with_gevent():
    ran = subprocess.run(
        [sys.executable, "-c", GEVENT, __file__], capture_output=True, text=True, timeout=300
    )

    assert ran.returncode == 0, ran.stdout[-3000:]


def test_threads_that_watch_end_with_what_they_watch():
    pools.start_afresh()

    until(lambda: "webhooks-connections" not in {one.name for one in threading.enumerate()})
