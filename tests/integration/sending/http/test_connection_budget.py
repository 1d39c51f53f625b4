"""The budget of connections: however many hosts there are, descriptors stay under the bound."""

from __future__ import annotations

import contextlib
import os
import resource
import selectors
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from django_webhooks.sending import http
from django_webhooks.sending.http import NoAnswer, pools
from tests import certificates
from tests.receivers import read_request, receiving, speaking
from tests.timing import in_time

pytestmark = pytest.mark.alike

#: Files that this process opens beside connections: look-ups, databases, the tests themselves.
OTHERS = 40


class Crowd:
    """Many hosts behind one listener: each 127.x.y.z is one, and every connection is kept."""

    def __init__(self, *, answer=b"HTTP/1.1 204 No Content\r\n\r\n", closes=False):
        self.answer, self.closes = answer, closes
        self.listener = socket.create_server(("0.0.0.0", 0), backlog=1024)
        self.port = self.listener.getsockname()[1]
        self.accepted = 0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def url(self, number):
        return f"http://127.1.{number // 250}.{1 + number % 250}:{self.port}/"

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._ending.set()
        self._thread.join(10)

    def _serve(self):
        with selectors.DefaultSelector() as ready, self.listener:
            self.listener.setblocking(False)
            ready.register(self.listener, selectors.EVENT_READ)
            while not self._ending.is_set():
                for key, _ in ready.select(0.05):
                    if key.fileobj is self.listener:
                        connection, _ = self.listener.accept()
                        self.accepted += 1
                        connection.setblocking(False)
                        ready.register(connection, selectors.EVENT_READ)
                        continue
                    connection = key.fileobj
                    with contextlib.suppress(OSError):
                        if connection.recv(65_536):
                            connection.sendall(self.answer)
                            if not self.closes:
                                continue
                    ready.unregister(connection)
                    connection.close()
            for key in list(ready.get_map().values()):
                if key.fileobj is not self.listener:
                    key.fileobj.close()


@pytest.fixture
def crowd():
    """Run hosts in a process of their own, so that the descriptors here are the sender's."""
    pools.start_afresh()
    with contextlib.ExitStack() as stack:

        def run(*, closes=False):
            code = (
                "import sys, time, resource\n"
                "_, most = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
                "resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))\n"
                "from tests.integration.sending.http.test_connection_budget import Crowd\n"
                f"with Crowd(closes={closes}) as crowd:\n"
                "    print(crowd.port, flush=True)\n"
                "    sys.stdin.read()\n"
            )
            server = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", code],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"},
                )
            )
            stack.callback(server.stdin.close)
            found = Crowd.__new__(Crowd)
            found.port = int(server.stdout.readline())
            return found

        yield run
    pools.start_afresh()


def opened():
    return len(os.listdir("/proc/self/fd"))


def post(url, *, timeout=60.0, tenant=None):
    return http.post(url, headers={}, body=b"{}", timeout=timeout, tenant=tenant)


@contextlib.contextmanager
def files(limit):
    """Let this process open so many files."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("closes", [False, True], ids=["kept", "closed by the receivers"])
def test_two_thousand_hosts_in_turn_stay_under_the_bound(crowd, settings, closes):
    settings.WEBHOOKS_MAX_CONNECTIONS = 100
    hosts, before, most, found = crowd(closes=closes), opened(), 0, set()

    for number in range(2000):
        answer = post(hosts.url(number))
        found.add(getattr(answer, "status", answer))
        most = max(most, opened() - before)

    assert found == {204}
    assert most <= 100
    assert pools.count()[0] <= 100


@pytest.mark.parametrize("limit", [256, 1024])
def test_many_hosts_at_once_never_use_the_files_up(crowd, limit):
    """16 requests at once to each of 140 hosts."""
    hosts = crowd()
    urls = [hosts.url(number) for number in range(140) for _ in range(16)]
    with files(limit), ThreadPoolExecutor(64) as threads:
        found = {getattr(one, "status", one) for one in threads.map(post, urls)}
        bound, (taken, idle) = http.slots().limit, pools.count()

    assert found == {204}
    assert bound == limit // 2
    assert taken == idle <= bound


def test_more_requests_at_once_than_connections_wait_for_each_other(settings):
    settings.WEBHOOKS_MAX_CONNECTIONS = 4
    pools.start_afresh()
    taken = []

    def speak(connection):
        while read_request(connection):
            taken.append(pools.count()[0])
            time.sleep(0.02)
            connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    with speaking(speak) as server, ThreadPoolExecutor(20) as threads:
        # Each tenant has connections of its own.
        found = list(threads.map(lambda one: post(f"http://{server}/", tenant=one), range(40)))
    pools.start_afresh()

    assert {getattr(one, "status", one) for one in found} == {204}
    assert max(taken) <= 4


def test_where_none_gets_free_in_time_the_receiver_is_not_blamed(settings):
    settings.WEBHOOKS_MAX_CONNECTIONS = 1
    pools.start_afresh()

    begun, ending = threading.Event(), threading.Event()

    def slow(connection):
        read_request(connection)
        begun.set()
        ending.wait(60)
        connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    with speaking(slow) as server, ThreadPoolExecutor(1) as threads:
        first = threads.submit(post, f"http://{server}/")
        assert begun.wait(60)
        second = in_time(lambda: post(f"http://{server}/", timeout=0.3), seconds=0.8)
        ending.set()
        assert first.result().status == 204
    pools.start_afresh()

    assert isinstance(second, NoAnswer)
    assert second.reason == "internal"
    assert "WEBHOOKS_MAX_CONNECTIONS" in second.detail


@pytest.mark.parametrize(
    "ask",
    [
        lambda url: http.get(url, headers={}, timeout=60),
        lambda url: http.connect(url, timeout=60),
    ],
    ids=["get", "connect"],
)
def test_probes_are_within_the_budget(crowd, settings, ask):
    settings.WEBHOOKS_MAX_CONNECTIONS = 10
    hosts, before = crowd(), opened()

    with ThreadPoolExecutor(50) as threads:
        urls = [hosts.url(number) for number in range(300)]
        found = {getattr(one, "reason", None) for one in threads.map(ask, urls)}

    assert found == {None}
    assert opened() - before <= 10
    assert pools.count()[0] <= 10


def test_the_connection_that_was_used_the_longest_ago_makes_room(crowd, settings):
    settings.WEBHOOKS_MAX_CONNECTIONS = 2
    hosts = crowd()
    for number in (1, 2, 1, 3):
        post(hosts.url(number))

    kept = [one.place.host for one in pools._pool._idle]

    assert kept == ["127.1.0.2", "127.1.0.4"]


def until(condition):
    ends = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.02)


def test_what_nobody_uses_is_closed(monkeypatch):
    monkeypatch.setattr(pools, "LOOK_EVERY", 0.05)
    pools.start_afresh()
    with receiving(204) as receiver:
        post(receiver.url)
        assert pools.count() == (1, 1)
        monkeypatch.setattr(pools, "IDLE_SECONDS", 0.2)
        until(lambda: pools.count() == (0, 0))


def test_a_connection_that_idled_for_too_long_is_not_used(monkeypatch):
    monkeypatch.setattr(pools, "LOOK_EVERY", 100.0)
    pools.start_afresh()
    with receiving(204) as receiver:
        post(receiver.url)
        monkeypatch.setattr(pools, "IDLE_SECONDS", 0.0)
        post(receiver.url)
        monkeypatch.setattr(pools, "IDLE_SECONDS", 30.0)
        post(receiver.url)
    pools.start_afresh()

    assert receiver.connections == 2


def test_what_the_receiver_closed_is_let_go(monkeypatch):
    monkeypatch.setattr(pools, "LOOK_EVERY", 0.05)
    pools.start_afresh()
    with receiving(204) as receiver:
        post(receiver.url)
        assert pools.count() == (1, 1)
    until(lambda: pools.count() == (0, 0))


@pytest.mark.parametrize(
    "speak",
    [
        lambda connection: read_request(connection),
        lambda connection: connection.sendall(b"nonsense\r\n"),
        lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\n\r\nno end"),
        lambda connection: time.sleep(0.5),
    ],
    ids=["hangs up", "no HTTP", "no length", "silence"],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_request_that_fails_leaves_nothing_open(speak, scheme):
    pools.start_afresh()
    before = opened()
    with speaking(speak) as server:
        post(f"{scheme}://{server}/", timeout=0.2)
        http.connect(f"{scheme}://{server}/", timeout=0.2)

    assert pools.count() == (0, 0)
    until(lambda: opened() <= before)


def test_a_forked_process_lets_go_of_what_is_its_parents_without_a_lock():
    pools.start_afresh()
    with receiving(204) as receiver:
        post(receiver.url)
        [one] = pools._pool._idle
        slots, before = http.slots(), pools._pool
        # As if another thread had been in the middle of something when the process was forked.
        holding, ending = threading.Event(), threading.Event()

        def hold():
            with slots.lock:
                holding.set()
                ending.wait(5)

        thread = threading.Thread(target=hold)
        thread.start()
        holding.wait(5)
        pools._after_fork()
        assert one.channel.sock.fileno() == -1
        assert pools.count() == (0, 0)
        assert post(receiver.url).status == 204
        ending.set()
        thread.join()
        before.close()
    pools.start_afresh()


def test_a_connection_that_is_closed_is_not_clean():
    pools.start_afresh()
    with receiving(204) as receiver:
        post(receiver.url)
        [one] = pools._pool._idle
        one.channel.sock.detach()
        assert not one.is_clean()
    pools.start_afresh()


def test_a_handshake_that_is_refused_leaves_nothing_open(tmp_path):
    pools.start_afresh()
    with speaking(read_request, tls=certificates.make(tmp_path).server()) as server:
        assert post(f"https://{server}/").reason == "tls"

    assert pools.count() == (0, 0)
