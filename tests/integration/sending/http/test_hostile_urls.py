"""Hostile URLs at the transport: what is refused is never connected to, whatever led there.

Names are looked up by a stub, sockets are real: a packet to a forbidden address would be a
connection that the trap, which listens on loopback, accepts.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
from contextlib import suppress

import pytest
from django.core.exceptions import ValidationError
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from django_webhooks.models import Attempt, Endpoint, Probe
from django_webhooks.policies import urls as policy
from django_webhooks.policies.addresses import SPECIAL, Networks, judge
from django_webhooks.sending import health_checks, http, worker
from django_webhooks.sending.http import pools, sockets
from django_webhooks.validators import url_rules, validate_endpoint_url
from tests import factories
from tests.receivers import receiving
from tests.unit.policies.test_urls import ALLOWED, REFUSED

LOOPBACK = "127.0.0.1"
GLOBAL = "203.0.114.7"


@pytest.fixture(autouse=True)
def _production(settings):
    """The policy of production, but for https."""
    settings.WEBHOOKS_ALLOWED_NETWORKS = []
    settings.WEBHOOKS_REQUIRE_HTTPS = False
    pools.start_afresh()
    yield
    pools.start_afresh()


@pytest.fixture
def trap():
    """A receiver that nobody may reach."""
    with receiving(204) as receiver:
        yield receiver
        assert receiver.connections == 0


@pytest.fixture
def names(monkeypatch):
    """Answers of the resolver by name: addresses, or a list of them for one look-up each."""
    real, known, asked = socket.getaddrinfo, {}, []

    def getaddrinfo(host, port, *args, **kwargs):
        if host not in known or kwargs.get("flags"):
            return real(host, port, *args, **kwargs)
        asked.append(host)
        answer = known[host]
        if answer and isinstance(answer[0], list):
            answer = answer[min(asked.count(host), len(answer)) - 1]
        return [
            (
                socket.AF_INET6 if ":" in one else socket.AF_INET,
                socket.SOCK_STREAM,
                6,
                "",
                (one, port, 0, 0) if ":" in one else (one, port),
            )
            for one in answer
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return known


@pytest.fixture
def connected(monkeypatch):
    """Addresses that a connection was begun to; none leaves the machine."""
    found, real = [], sockets.Socket.connect

    def connect(self, address):
        found.append(address[0])
        if address[0] not in {LOOPBACK, "::1"}:
            raise ConnectionRefusedError("not in a test")
        real(self, address)

    monkeypatch.setattr(sockets.Socket, "connect", connect, raising=False)
    return found


def post(url, *, timeout=5.0):
    return http.post(url, headers={}, body=b"{}", timeout=timeout)


@pytest.mark.parametrize("ask", [post, lambda url: http.connect(url, timeout=5.0)])
@pytest.mark.parametrize(
    "url",
    [
        pytest.param(url.replace("https:", "http:"), id=f"{id} {url!a}")
        for id, urls in REFUSED.items()
        for url in urls
        if id != "U05"
    ],
)
def test_what_validation_refuses_is_blocked_where_it_is_sent_all_the_same(url, ask, connected):
    with pytest.raises(ValidationError):
        validate_endpoint_url(url)
    answer = ask(url)

    assert answer.reason == "blocked"
    assert answer.detail.endswith(".")
    assert connected == []


@pytest.mark.parametrize("url", [url for url, _ in ALLOWED.values()], ids=ALLOWED)
def test_what_is_allowed_is_connected_to_where_it_leads(url, settings, names, connected):
    settings.WEBHOOKS_REQUIRE_HTTPS = True
    validate_endpoint_url(url)
    host = policy.parse(url, url_rules()).host
    is_literal = host[-1].isdigit()
    names.update({} if is_literal else {host: [GLOBAL]})

    assert post(url).reason == "connection"
    assert connected == [host if is_literal else GLOBAL]


def test_what_is_too_long_is_not_remembered():
    before = policy._parse.cache_info()
    with pytest.raises(ValidationError):
        validate_endpoint_url("https://example.com/" + "a" * 1_000_000)

    assert policy._parse.cache_info() == before


def test_u05_plain_http_is_blocked(settings, connected):
    settings.WEBHOOKS_REQUIRE_HTTPS = True

    assert post("http://example.com/").reason == "blocked"
    assert connected == []


def test_a_literal_address_is_blocked(trap, connected):
    assert post(trap.url).reason == "blocked"
    assert connected == []


@pytest.mark.parametrize("answer", [[GLOBAL, LOOPBACK], [LOOPBACK, GLOBAL]])
def test_u40_one_forbidden_answer_refuses_the_name(names, trap, connected, answer):
    names["two.example.com"] = answer
    answer = post(f"http://two.example.com:{trap.port}/")

    assert answer.reason == "blocked"
    assert "127.0.0.1 is loopback" in answer.detail
    assert connected == []


def test_u41_a_name_that_moved_to_loopback_is_blocked(names, trap, connected):
    names["moved.example.com"] = [LOOPBACK]
    url = f"http://moved.example.com:{trap.port}/"
    validate_endpoint_url(url)

    assert post(url).reason == "blocked"
    assert connected == []


def test_u42_a_name_that_alternates_is_never_followed(names, trap, connected):
    names["rebinding.example.com"] = [[GLOBAL], [LOOPBACK]] * 10
    reasons = {post(f"http://rebinding.example.com:{trap.port}/").reason for _ in range(8)}

    assert reasons == {"blocked", "connection"}
    assert set(connected) == {GLOBAL}


@pytest.mark.parametrize(
    "address", ["::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:7f00:1::", "fe80::1"]
)
def test_u43_addresses_within_addresses(names, connected, address):
    names["six.example.com"] = [address]

    assert post("http://six.example.com/").reason == "blocked"
    assert connected == []


def test_u44_many_answers_are_all_judged_and_a_few_are_tried(names, connected):
    names["many.example.com"] = [f"203.0.114.{number}" for number in range(200)]
    assert post("http://many.example.com/").reason == "connection"
    assert len(connected) == sockets.MAX_ADDRESSES

    names["many.example.com"] += ["10.0.0.1"]
    assert post("http://many.example.com/").reason == "blocked"
    assert len(connected) == sockets.MAX_ADDRESSES


def test_u44_no_answer_and_no_name(names, monkeypatch):
    names["none.example.com"] = []
    assert post("http://none.example.com/").reason == "dns"

    hangs = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: _hang(hangs, kwargs))
    answer = post("http://hangs.example.com/", timeout=0.3)
    hangs.set()
    assert answer.reason == "dns"


def _hang(event, options):
    if options.get("flags"):
        raise socket.gaierror("no address")
    event.wait(5)
    return []


def test_u45_the_environment_is_without_effect(monkeypatch, names, connected, trap):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{trap.port}")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere")
    names["plain.example.com"] = [GLOBAL]

    assert post("http://plain.example.com/").reason == "connection"
    assert connected == [GLOBAL]


def test_u47_an_opened_network_is_reached_and_no_other(settings, names, connected):
    settings.WEBHOOKS_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    with receiving(204) as receiver:
        assert post(receiver.url).status == 204
        names["db.internal"] = [LOOPBACK]
        assert post(f"http://db.internal:{receiver.port}/").status == 204
    assert post("http://10.2.0.1/").reason == "blocked"
    assert set(connected) == {LOOPBACK}


def test_u47_an_opened_network_is_opened_in_either_spelling(settings, names, connected):
    settings.WEBHOOKS_ALLOWED_NETWORKS = ["10.1.0.0/16"]
    names["db.internal"] = ["::ffff:10.1.2.3"]
    names["other.internal"] = ["::ffff:10.2.0.1"]

    for url in ("http://10.1.2.3/", "http://[::ffff:10.1.2.3]/", "http://db.internal/"):
        assert post(url).reason == "connection"
    for url in ("http://10.2.0.1/", "http://[::ffff:10.2.0.1]/", "http://other.internal/"):
        assert post(url).reason == "blocked"
    assert connected == ["10.1.2.3", "::ffff:10.1.2.3", "::ffff:10.1.2.3"]


def test_a_denied_network_is_blocked(settings, names, connected):
    settings.WEBHOOKS_DENIED_NETWORKS = ["203.0.114.0/24"]
    names["ours.example.com"] = [GLOBAL]

    assert "WEBHOOKS_DENIED_NETWORKS" in post("http://ours.example.com/").detail
    assert connected == []


def test_a_port_that_is_not_allowed_is_blocked(settings, connected):
    settings.WEBHOOKS_ALLOWED_PORTS = [443]

    assert "WEBHOOKS_ALLOWED_PORTS" in post("http://example.com:22/").detail
    assert connected == []


def _spelled(address):
    """Ways to write an IPv4 address that one parser or the other understands."""
    number, parts = int(address), str(address).split(".")
    return st.sampled_from(
        [
            str(address),
            str(number),
            hex(number),
            f"0{number:o}",
            ".".join(hex(int(part)) for part in parts),
            ".".join(f"0{int(part):o}" for part in parts),
            f"{parts[0]}.{int.from_bytes(address.packed[1:], 'big')}",
            f"[::ffff:{address}]",
            f"[64:ff9b::{address}]",
            f"[::{address}]",
            f"{address}.",
        ]
    )


NAMES = st.from_regex(r"[a-z]{1,8}\.example\.(com|org)", fullmatch=True)
NOISE = st.from_regex(r"[0-9a-fx.\[\]:]{1,24}", fullmatch=True)
HOSTS = st.one_of(NAMES, NOISE, st.ip_addresses(v=4).flatmap(_spelled))
FORBIDDEN = st.sampled_from(list(SPECIAL)).flatmap(lambda network: st.ip_addresses(network=network))
ANSWERS = st.lists(
    st.one_of(st.just(ipaddress.ip_address(GLOBAL)), FORBIDDEN, st.ip_addresses()),
    min_size=1,
    max_size=6,
)


@hypothesis_settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(host=HOSTS, answers=ANSWERS)
def test_nothing_that_the_validator_passes_reaches_a_forbidden_address(
    names, connected, host, answers
):
    names[host] = [str(one) for one in answers]
    connected.clear()
    url, passes = f"http://{host}/", False
    with suppress(ValidationError):
        validate_endpoint_url(url)
        passes = True
    answer = post(url)

    for reached in connected:
        assert judge(reached, Networks()) is None
        assert ipaddress.ip_address(reached).is_global
    if not passes or (host[-1] == "m" and any(judge(str(one), Networks()) for one in answers)):
        assert (answer.reason, connected) == ("blocked", [])


BAD_HEADERS = [
    {"Host": "db.internal"},
    {"Content-Length": "1"},
    {"Transfer-Encoding": "chunked"},
    {"Connection": "upgrade"},
    {"Webhook-Signature": "v1,x"},
    {"Proxy-Authorization": "Basic x"},
    {"X": "a\r\nb: c"},
    {"X": "a\0"},
    {"X": "€"},
    {"X": 5},
    {"X\r\nY": "a"},
]


@pytest.mark.django_db
@pytest.mark.parametrize("headers", BAD_HEADERS, ids=ascii)
def test_u46_headers_of_an_old_row_are_not_sent(settings, headers):
    settings.WEBHOOKS_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    with receiving(204) as receiver:
        delivery = factories.delivery(receiver.url)
        Endpoint.objects.update(headers=headers, probe="ping")
        worker.drain([delivery.pk], clock=factories.Clock())
        health_checks.check_all(endpoints=[Endpoint.objects.get().pk])

    assert receiver.connections == 0
    for recorded in (Attempt.objects.get(), Probe.objects.get()):
        assert recorded.reason == "blocked"
        assert recorded.detail.endswith(".")


def test_a_process_without_files_says_so(monkeypatch, names):
    names["fine.example.com"] = [GLOBAL]

    def socket_without_files(*args):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(sockets, "Socket", socket_without_files)
    answer = post("http://fine.example.com/")

    assert answer.reason == "internal"
    assert "Too many open files" in answer.detail


def test_a_machine_without_ports_says_so(monkeypatch, names):
    names["fine.example.com"] = [GLOBAL]

    def connect(self, address):
        raise OSError(99, "Cannot assign requested address")

    monkeypatch.setattr(sockets.Socket, "connect", connect, raising=False)

    assert post("http://fine.example.com/").reason == "internal"
