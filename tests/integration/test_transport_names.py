"""Names: one address, several, or none, looked up by a few threads."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from django_webhooks.sending import sockets, transport
from tests.receivers import Answer, receiving


def post(url, *, timeout=1.0, body=b"{}"):
    return transport.post(url, headers={}, body=body, timeout=timeout)


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

    transport._start_afresh()
    yield to
    transport._start_afresh()


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


def test_a_bounded_number_of_threads_resolves(resolves):
    before = set(threading.enumerate())
    transport._start_afresh()
    with receiving(Answer(204, {"Connection": "close"})) as receiver:
        resolves(receiver.server.server_port)
        for _ in range(20):
            assert post("http://many.test/").status == 204

    new = set(threading.enumerate()) - before
    resolvers = [one for one in new if one.name == "webhooks-resolver"]
    assert len(resolvers) == sockets.RESOLVERS


def test_slow_name_servers_of_one_tenant_do_not_hold_up_another(monkeypatch):
    free = threading.Event()

    def getaddrinfo(host, port, *args, **kwargs):
        if kwargs.get("flags"):
            raise socket.gaierror("no literal")
        if host.startswith("slow"):
            free.wait(10)
        raise socket.gaierror("unknown")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    sockets.start_afresh()

    def ask(name, tenant, timeout):
        began = time.monotonic()
        answer = transport.post(
            f"http://{name}.example.com/", headers={}, body=b"", timeout=timeout, tenant=tenant
        )
        return answer.reason, time.monotonic() - began

    slow = [
        threading.Thread(target=ask, args=(f"slow{number}", "one", 2.0)) for number in range(20)
    ]
    for thread in slow:
        thread.start()
    time.sleep(0.2)
    reason, took = ask("quick", "two", 2.0)
    own_reason, own_took = ask("quick", "one", 0.3)
    free.set()
    for thread in slow:
        thread.join(5)
    again, again_took = ask("quick", "one", 2.0)
    sockets.start_afresh()

    assert (reason, own_reason, again) == ("dns", "dns", "dns")
    assert max(took, again_took) < 1
    assert own_took >= 0.3  # its own slow ones hold it up
