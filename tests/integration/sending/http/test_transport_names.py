"""Names: one address, several, or none, looked up by a few threads."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from django_webhooks.sending import http
from django_webhooks.sending.http import pools, resolver, sockets
from tests.receivers import Answer, receiving


def post(url, *, timeout=60.0, body=b"{}"):
    return http.post(url, headers={}, body=body, timeout=timeout)


@pytest.fixture
def resolves(monkeypatch):
    """Let a name resolve to these ports on loopback."""
    real = socket.getaddrinfo

    def to(*ports):
        def getaddrinfo(host, port, *args, **kwargs):
            if host != "many.test":
                return real(host, port, *args, **kwargs)
            if kwargs.get("flags"):
                raise socket.gaierror("no address")
            kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
            return [(*kind, ("127.0.0.1", one)) for one in ports]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    pools.start_afresh()
    yield to
    pools.start_afresh()


@pytest.fixture
def closed():
    """A port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


def test_the_next_address_is_tried_where_one_refuses(resolves, closed):
    with receiving(204) as receiver:
        resolves(closed, receiver.server.server_port)
        assert post("http://many.test/").status == 204


def test_a_few_addresses_are_tried_at_the_most(resolves, closed):
    with receiving(204) as receiver:
        resolves(*[closed] * sockets.MAX_ADDRESSES, receiver.server.server_port)
        answer = post("http://many.test/")

    assert answer.reason == "connection"
    assert receiver.connections == 0


def test_a_name_without_addresses_does_not_resolve(resolves):
    resolves()

    assert post("http://many.test/").reason == "dns"


def test_a_name_that_cannot_be_one_does_not_resolve():
    assert post(f"http://{'a' * 64}.test/").reason == "blocked"


def resolvers():
    return {one for one in threading.enumerate() if one.name == "webhooks-resolver"}


def test_one_thread_suffices_for_one_after_the_other(resolves):
    before = resolvers()
    pools.start_afresh()
    with receiving(Answer(204, {"Connection": "close"})) as receiver:
        resolves(receiver.server.server_port)
        for _ in range(20):
            assert post("http://many.test/").status == 204
            # The thread may still have to see that nobody else asks.
            until(lambda: not sockets._resolver._busy)

    assert len(resolvers() - before) == 1


def hang(monkeypatch, free):
    """Let names that begin with ``slow`` take their time, and find no other; count look-ups."""
    asked = []

    def getaddrinfo(host, port, *args, **kwargs):
        if kwargs.get("flags"):
            raise socket.gaierror("no literal")
        asked.append(host)
        if host.startswith("slow"):
            free.wait(100)
        raise socket.gaierror("unknown")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    sockets.start_afresh()
    return asked


def ask(name, tenant, timeout):
    began = time.monotonic()
    answer = http.post(
        f"http://{name}.example.com/", headers={}, body=b"", timeout=timeout, tenant=tenant
    )
    return answer.reason, time.monotonic() - began


def ask_slowly(*tenants, timeout):
    """Ask for a slow name for each tenant at once; return the threads."""
    threads = [
        threading.Thread(target=ask, args=(f"slow{number}", tenant, timeout))
        for number, tenant in enumerate(tenants)
    ]
    for thread in threads:
        thread.start()
    return threads


def until(condition):
    ends = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.01)


def test_slow_name_servers_of_several_tenants_do_not_hold_up_another(monkeypatch):
    free, before = threading.Event(), resolvers()
    asked = hang(monkeypatch, free)
    others = resolver.RESOLVERS // resolver.RESOLVERS_PER_TENANT - 1
    slow = ask_slowly(*[number for number in range(others) for _ in range(10)], timeout=60.0)
    until(lambda: len(asked) == others * resolver.RESOLVERS_PER_TENANT)

    reason, took = ask("quick", "another", 60.0)
    free.set()
    for thread in slow:
        thread.join(60)
    sockets.start_afresh()

    assert reason == "dns"
    assert took < 30  # The slow ones hold for longer.
    assert len(resolvers() - before) <= resolver.RESOLVERS


def test_a_name_for_which_nobody_waits_any_more_is_not_looked_up(monkeypatch):
    free = threading.Event()
    asked = hang(monkeypatch, free)
    tenants = resolver.RESOLVERS // resolver.RESOLVERS_PER_TENANT
    slow = ask_slowly(*[number % tenants for number in range(resolver.RESOLVERS)], timeout=60.0)
    until(lambda: len(asked) == resolver.RESOLVERS)

    reason, _ = ask("late", "another", 0.3)
    free.set()
    for thread in slow:
        thread.join(60)
    again, _ = ask("later", "another", 60.0)
    sockets.start_afresh()

    assert (reason, again) == ("dns", "dns")
    assert asked[-1] == "later.example.com"
    assert "late.example.com" not in asked


def test_slow_name_servers_of_one_tenant_do_not_hold_up_another(monkeypatch):
    free = threading.Event()
    asked = hang(monkeypatch, free)
    slow = ask_slowly(*["one"] * 20, timeout=60.0)
    until(lambda: len(asked) == resolver.RESOLVERS_PER_TENANT)

    reason, took = ask("quick", "two", 60.0)
    own_reason, own_took = ask("quick", "one", 0.3)
    free.set()
    for thread in slow:
        thread.join(60)
    again, again_took = ask("quick", "one", 60.0)
    sockets.start_afresh()

    assert (reason, own_reason, again) == ("dns", "dns", "dns")
    assert max(took, again_took) < 30  # Whoever waits for the slow ones waits for 60.
    assert own_took >= 0.3  # its own slow ones hold it up
