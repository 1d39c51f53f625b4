"""Several addresses of a name: one that swallows packets does not hide one that is alive."""

from __future__ import annotations

import contextlib
import errno
import socket
import subprocess
import sys
import threading
import time

import pytest

from django_webhooks.sending import http
from django_webhooks.sending.http import pools, sockets
from tests import certificates
from tests.receivers import Receiver, read_request, receiving, speaking
from tests.timing import in_time

pytestmark = pytest.mark.alike

V4, V6 = socket.AF_INET, socket.AF_INET6
HOSTS = {V4: "127.0.0.1", V6: "::1"}


def _has_ipv6():
    try:
        with socket.create_server(("::1", 0), family=V6):
            return True
    except OSError:
        return False


needs_ipv6 = pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6 loopback")


@contextlib.contextmanager
def swallowing(family=V4):
    """A port whose packets are dropped: its queue of connections is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(family))
        listener.bind((HOSTS[family], 0))
        listener.listen(0)
        for _ in range(4):
            one = stack.enter_context(socket.socket(family))
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
        time.sleep(0.1)
        yield family, listener.getsockname()[1]


@contextlib.contextmanager
def alive(family=V4):
    """A port that answers 204, over IPv6 as well."""
    if family == V4:
        with receiving(204) as receiver:
            yield family, receiver.port
        return
    with socket.create_server(("::1", 0), family=V6) as listener:

        def serve():
            with contextlib.suppress(OSError):
                connection, _ = listener.accept()
                with connection:
                    read_request(connection)
                    connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

        threading.Thread(target=serve, daemon=True).start()
        yield family, listener.getsockname()[1]


@contextlib.contextmanager
def refusing(family=V4):
    """A port that nobody listens on."""
    with socket.socket(family) as sock:
        sock.bind((HOSTS[family], 0))
        yield family, sock.getsockname()[1]


@pytest.fixture
def resolves(monkeypatch, settings):
    """Let a name resolve to these families and ports on loopback."""
    settings.WEBHOOKS_ALLOWED_NETWORKS = ["127.0.0.0/8", "::1/128"]
    real = socket.getaddrinfo

    def to(*places):
        def getaddrinfo(host, port, *args, **kwargs):
            if host != "many.test":
                return real(host, port, *args, **kwargs)
            if kwargs.get("flags"):
                raise socket.gaierror("no address")
            return [
                (
                    family,
                    socket.SOCK_STREAM,
                    6,
                    "",
                    (HOSTS[family], one) if family == V4 else (HOSTS[family], one, 0, 0),
                )
                for family, one in places
            ]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    pools.start_afresh()
    yield to
    pools.start_afresh()


def ask(*, timeout=60.0, how="post", url="http://many.test/"):
    """Ask, and return what came of it."""
    if how == "post":
        answer = http.post(url, headers={}, body=b"{}", timeout=timeout)
    elif how == "get":
        answer = http.get(url, headers={}, timeout=timeout)
    else:
        answer = http.connect(url, timeout=timeout)
    return getattr(answer, "status", None) or getattr(answer, "reason", None)


#: What a name resolves to, what comes of it, and whether the next address has to wait for a moment.
NAMES = {
    "dead, alive": ([swallowing, alive], 204, True),
    "dead, dead, alive": ([swallowing, swallowing, alive], 204, True),
    "dead seven times, alive": ([swallowing] * 7 + [alive], 204, True),
    "refused, alive": ([refusing, alive], 204, False),
    "refused seven times, alive": ([refusing] * 7 + [alive], 204, False),
    "dead, refused, alive": ([swallowing, refusing, alive], 204, True),
    "refused, dead, alive": ([refusing, swallowing, alive], 204, True),
    "alive, dead": ([alive, swallowing], 204, False),
    "refused, refused": ([refusing, refusing], "connection", False),
}


@pytest.mark.parametrize("row", NAMES)
@pytest.mark.parametrize("how", ["post", "connect"])
def test_the_first_that_accepts_is_taken(resolves, monkeypatch, row, how):
    makers, told, waits = NAMES[row]
    if not waits:
        # The time of nine addresses, one after the other, is a minute: 6.7 s or more for each.
        monkeypatch.setattr(sockets, "STAGGER", 15.0)

    def afresh():
        pools.start_afresh()
        return ask(how=how)

    with contextlib.ExitStack() as stack:
        resolves(*[stack.enter_context(one()) for one in makers])
        found = in_time(afresh, seconds=6)

    assert found == (None if how == "connect" and told == 204 else told)
    # Those that lost are closed.
    assert pools.count()[0] <= 1


@pytest.mark.parametrize("count", [1, 2, 9])
@pytest.mark.parametrize("how", ["post", "get", "connect"])
def test_where_all_are_dead_the_deadline_holds(resolves, count, how):
    with contextlib.ExitStack() as stack:
        resolves(*[stack.enter_context(swallowing()) for _ in range(count)])
        told = in_time(lambda: ask(timeout=0.7, how=how), seconds=1.2)

    assert told == "connect_timeout"
    assert pools.count() == (0, 0)


def test_of_a_short_time_each_address_has_its_part(resolves, monkeypatch):
    monkeypatch.setattr(sockets, "STAGGER", 30.0)
    with swallowing() as dead, swallowing() as other, alive() as good:
        resolves(dead, other, good)
        for _ in range(3):  # A busy machine adds time: the best one counts.
            told = ask(timeout=6.0)
            if told == 204:
                break

    assert told == 204


@needs_ipv6
@pytest.mark.parametrize(
    ("dead", "good"), [(V6, V4), (V4, V6)], ids=["IPv6 is dead", "IPv4 is dead"]
)
def test_a_family_that_is_dead_does_not_hide_the_other(resolves, dead, good):
    with contextlib.ExitStack() as stack:
        hanging = [stack.enter_context(swallowing(dead))] * 9
        resolves(*hanging, stack.enter_context(alive(good)))
        told = in_time(ask, seconds=20, tries=1)

    assert told == 204


def test_a_machine_without_a_family_uses_the_other(resolves, monkeypatch):
    real = sockets.Socket

    def socket_of(family, *args):
        if family == V6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return real(family, *args)

    monkeypatch.setattr(sockets, "Socket", socket_of)
    with alive() as good:
        resolves((V6, 1), good)
        assert ask() == 204
        resolves((V6, 1))
        pools.start_afresh()
        assert ask() == "connection"

    assert pools.count() == (0, 0)


def test_a_slot_is_enough_for_several_addresses(resolves, settings):
    settings.WEBHOOKS_MAX_CONNECTIONS = 1
    with swallowing() as dead, alive() as good:
        resolves(dead, good)
        assert ask() == 204

    assert pools.count()[0] == 1


def test_all_are_judged_before_any_is_called(resolves, settings, monkeypatch):
    settings.WEBHOOKS_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    with receiving(204) as receiver:
        resolves((V4, receiver.port), (V6, 1))

        assert ask() == "blocked"
        assert receiver.connections == 0


def test_the_way_of_a_proxy_is_found_likewise(resolves, settings):
    def speak(connection):
        connection.recv(65_536)
        connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    with swallowing() as dead, speaking(speak) as proxy:
        resolves(dead, (V4, int(proxy.rpartition(":")[2])))
        settings.WEBHOOKS_PROXY_URL = "http://many.test:3128"
        told = in_time(lambda: ask(url="http://hooks.example.com/"), seconds=20, tries=1)

    assert told == 204


def test_a_proxy_that_is_dead_is_our_own_affair(resolves, settings):
    settings.WEBHOOKS_PROXY_URL = "http://many.test:3128"
    with swallowing() as dead, swallowing() as other:
        resolves(dead, other)
        told = in_time(lambda: ask(timeout=0.6, url="http://hooks.example.com/"), seconds=1.1)

    assert told == "internal"


def test_tls_is_agreed_on_with_the_one_that_accepted(resolves, settings, tmp_path):
    made = certificates.make(tmp_path, names=["many.test"])
    settings.WEBHOOKS_CA_BUNDLE = str(made.certificate)
    pools.start_afresh()
    receiver = Receiver(tls=made.server())
    try:
        with swallowing() as dead:
            resolves(dead, (V4, receiver.port))
            assert ask(url="https://many.test/") == 204
    finally:
        receiver.close()


GEVENT = """
from gevent import monkey; monkey.patch_all()
import sys, pytest
chosen = "accepts and post and refused or judged or proxy"
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "-k", chosen, *sys.argv[1:]]))
"""


@pytest.mark.timeout(330)
def test_all_of_this_holds_with_gevent():
    ran = subprocess.run(
        [sys.executable, "-c", GEVENT, __file__], capture_output=True, text=True, timeout=300
    )

    assert ran.returncode == 0, ran.stdout[-3000:]
