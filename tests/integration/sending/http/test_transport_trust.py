"""Who we say we are, who we believe, and the proxy: client certificates, authorities, CONNECT."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
from contextlib import contextmanager

import pytest
from django.core.exceptions import ValidationError

from django_webhooks import validators
from django_webhooks.conf import settings as settings_
from django_webhooks.models import Attempt, Endpoint, EndpointHealth
from django_webhooks.sending import health_checks, http, worker
from django_webhooks.sending.http import Trust, pools, tls, transport
from tests import certificates, factories
from tests.receivers import Receiver, receiving, speaking

LOCAL = "127.0.0.1"


@pytest.fixture(autouse=True)
def _no_adapter_is_kept():
    pools.start_afresh()
    yield
    pools.start_afresh()


def pem(made):
    return made.certificate.read_text(), made.key.read_text()


@pytest.fixture
def server_of(tmp_path):
    folder = tmp_path / "server"
    folder.mkdir()
    return certificates.make(folder, names=[LOCAL])


@pytest.fixture
def client_of(tmp_path):
    folder = tmp_path / "client"
    folder.mkdir()
    return certificates.make(folder, common_name="sender")


@pytest.fixture
def receiver(server_of, client_of):
    """A receiver that asks for the certificate of the client."""
    context = server_of.server()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(client_of.certificate)
    made = Receiver(tls=context)
    yield made
    made.close()


def post(url, trust=transport.PUBLIC):
    return http.post(url, headers={}, body=b"{}", timeout=60, trust=trust)


def test_a_client_certificate_is_shown(receiver, server_of, client_of):
    trust = Trust(client_certificate="".join(pem(client_of)), ca_bundle=pem(server_of)[0])

    assert post(receiver.url, trust).status == 204
    assert http.connect(receiver.url, timeout=60, trust=trust) is None
    assert http.get(receiver.url, headers={}, timeout=60, trust=trust).status == 204


def asking_later(connection):
    """Ask for the certificate of the client once its request was read, as TLS 1.3 allows."""
    connection.recv(65_536)
    connection.verify_client_post_handshake()
    connection.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\n")
    connection.settimeout(0.05)
    while not connection.getpeercert():
        # It comes without data, which a read waits for in vain.
        with contextlib.suppress(TimeoutError):
            if not connection.recv(1):
                return
    name = dict(one[0] for one in connection.getpeercert()["subject"])["commonName"].encode()
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(name), name))


@pytest.mark.parametrize("shows", [True, False], ids=["with one", "without"])
def test_a_server_may_ask_for_it_after_the_handshake(server_of, client_of, shows):
    context = server_of.server()
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.post_handshake_auth = True
    context.load_verify_locations(client_of.certificate)
    trust = Trust(
        client_certificate="".join(pem(client_of)) if shows else "", ca_bundle=pem(server_of)[0]
    )

    def speak(connection):
        with contextlib.suppress(ssl.SSLError):
            asking_later(connection)

    with speaking(speak, tls=context) as server:
        answer = http.post(f"https://{server}/", headers={}, body=b"{}", timeout=60, trust=trust)

    if shows:
        assert (answer.status, answer.body) == (200, b"sender")
    else:
        assert answer.reason in {"tls", "connection"}


def test_authorities_that_cannot_be_loaded_are_our_own_fault(settings):
    settings.WEBHOOKS_CA_BUNDLE = "/no/such/file"
    pools.start_afresh()

    answer = post("https://127.0.0.1:9/")

    assert answer.reason == "internal"
    assert "WEBHOOKS_CA_BUNDLE" in answer.detail
    assert http.fault() == answer.detail


@pytest.mark.parametrize(
    "trust", [Trust(ca_bundle="nonsense"), Trust(client_certificate="nonsense")], ids=repr
)
def test_certificates_of_an_old_row_that_cannot_be_loaded_are_told(trust):
    answer = post("https://127.0.0.1:9/", trust)

    assert answer.reason == "tls"
    assert "cannot be loaded" in answer.detail


def test_without_it_the_handshake_fails(receiver, server_of):
    assert post(receiver.url, Trust(ca_bundle=pem(server_of)[0])).reason in {"tls", "connection"}


def test_a_private_authority_is_trusted_by_its_endpoint_alone(server_of):
    made = Receiver(tls=server_of.server())
    try:
        trusted = post(made.url, Trust(ca_bundle=pem(server_of)[0]))
        others = post(made.url)
    finally:
        made.close()

    assert trusted.status == 204
    assert others.reason == "tls"


def test_the_authorities_of_the_setting_are_trusted(server_of, settings):
    settings.WEBHOOKS_CA_BUNDLE = str(server_of.certificate)
    made = Receiver(tls=server_of.server())
    try:
        assert post(made.url).status == 204
    finally:
        made.close()


def test_connections_of_one_identity_are_not_used_by_another(receiver, server_of, client_of):
    authority = pem(server_of)[0]
    mine = Trust(client_certificate="".join(pem(client_of)), ca_bundle=authority)

    assert post(receiver.url, mine).status == 204
    assert post(receiver.url, Trust(ca_bundle=authority)).reason in {"tls", "connection"}


def test_identities_are_bounded(server_of, monkeypatch):
    monkeypatch.setattr(tls, "MAX_CONTEXTS", 2)
    authority = pem(server_of)[0]
    made = Receiver(tls=server_of.server())
    try:
        for number in range(5):
            assert post(made.url, Trust(ca_bundle=authority + "\n" * number)).status == 204
    finally:
        made.close()

    assert len(tls._contexts) == 2


def test_what_is_secret_is_not_shown(client_of):
    assert "PRIVATE" not in repr(Trust(client_certificate="".join(pem(client_of))))


def test_certificates_are_validated(server_of, client_of):
    certificate, key = pem(client_of)
    validators.validate_client_certificate(certificate + key)
    validators.validate_ca_bundle(certificate)

    for wrong in ("x", certificate, key, pem(server_of)[0] + key):
        with pytest.raises(ValidationError) as caught:
            validators.validate_client_certificate(wrong)
        assert "PRIVATE KEY" not in str(caught.value)
    for wrong in ("x", certificate + key):
        with pytest.raises(ValidationError) as caught:
            validators.validate_ca_bundle(wrong)
        assert "PRIVATE KEY" not in str(caught.value)


@pytest.mark.django_db
def test_an_endpoint_has_them(receiver, server_of, client_of):
    delivery = factories.delivery(receiver.url)
    Endpoint.objects.update(client_certificate="".join(pem(client_of)), ca_bundle=pem(server_of)[0])

    worker.drain([delivery.pk], clock=factories.Clock())

    assert Attempt.objects.get().status_code == 204


@contextmanager
def proxying(*, answer=b"HTTP/1.1 200 Connected\r\n\r\n", target=None):
    """A proxy that connects to ``target`` whatever it is asked for, and keeps what it was asked."""
    asked = []

    def speak(connection):
        head = b""
        while b"\r\n\r\n" not in head:
            if not (more := connection.recv(65_536)):
                return
            head += more
        asked.append(head)
        if not head.startswith(b"CONNECT"):
            connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
            return
        connection.sendall(answer)
        if target is None:
            return
        with socket.create_connection(target) as other:
            ends = [connection, other]
            while True:
                ready, _, _ = select.select(ends, [], [], 60)
                for one in ready:
                    data = one.recv(65_536)
                    if not data:
                        return
                    ends[ends.index(one) - 1].sendall(data)
                if not ready:
                    return

    with speaking(speak) as server:
        yield server, asked


class TestProxy:
    @pytest.fixture
    def named(self, tmp_path):
        """A receiver whose name only the proxy knows."""
        folder = tmp_path / "named"
        folder.mkdir()
        made = certificates.make(folder, names=["hooks.example.com"])
        receiver = Receiver(tls=made.server())
        yield receiver, Trust(ca_bundle=pem(made)[0])
        receiver.close()

    def test_requests_go_through_it_by_connect(self, named, settings):
        receiver, trust = named
        with proxying(target=(LOCAL, receiver.port)) as (proxy, asked):
            settings.WEBHOOKS_PROXY_URL = f"http://user:pass@{proxy}"
            answers = [post("https://hooks.example.com/hook", trust) for _ in range(2)]
            probed = http.connect("https://hooks.example.com/hook", timeout=60, trust=trust)

        assert [one.status for one in answers] == [204, 204]
        assert probed is None
        assert receiver.requests[0].path == "/hook"
        assert len(asked) == 2
        for head in asked:
            assert head.startswith(b"CONNECT hooks.example.com:443 HTTP/1.")
            assert b"Proxy-Authorization: Basic dXNlcjpwYXNz" in head
        assert "proxy-authorization" not in receiver.requests[0].headers

    def test_the_certificate_is_that_of_the_receiver(self, named, settings):
        receiver, trust = named
        with proxying(target=(LOCAL, receiver.port)) as (proxy, _):
            settings.WEBHOOKS_PROXY_URL = f"http://{proxy}"
            assert post("https://other.example.com/", trust).reason == "tls"

    def test_plain_http_goes_through_it_too(self, settings):
        with proxying() as (proxy, asked):
            settings.WEBHOOKS_PROXY_URL = f"http://{proxy}"
            answer = post("http://hooks.example.com/hook")

        assert answer.status == 204
        assert asked[0].startswith(b"POST http://hooks.example.com/hook HTTP/1.1\r\n")

    @pytest.mark.parametrize("ask", [post, lambda url: http.connect(url, timeout=60)])
    def test_what_it_refuses_is_told(self, settings, ask):
        refusal = b"HTTP/1.1 407 Denied by policy\r\nContent-Length: 0\r\n\r\n"
        with proxying(answer=refusal) as (proxy, _):
            settings.WEBHOOKS_PROXY_URL = f"http://user:planted@{proxy}"
            answer = ask("https://hooks.example.com/hook")

        assert answer.reason == "proxy"
        assert "407 Denied by policy" in answer.detail
        assert "planted" not in answer.detail

    @pytest.mark.parametrize("ask", [post, lambda url: http.connect(url, timeout=60)])
    def test_one_that_cannot_be_reached_says_nothing_of_the_receiver(self, settings, ask):
        settings.WEBHOOKS_PROXY_URL = "http://127.0.0.1:9"

        answer = ask("https://hooks.example.com/hook")

        assert answer.reason == "internal"
        assert "proxy cannot be reached" in answer.detail

    @pytest.mark.parametrize("ask", [post, lambda url: http.connect(url, timeout=60)])
    @pytest.mark.parametrize(
        "proxy",
        ["proxy.internal:4750", "https://proxy", "http://", "http://a:b", "http://a:0", "http://a/b",
         "socks5://a", "http://user:planted@", "http://a\r\nX: y", "http://planted@a b", 5, ["a"]],
        ids=repr,
    )  # fmt: skip
    def test_one_that_is_malformed_is_our_own_fault(self, settings, proxy, ask):
        settings.WEBHOOKS_PROXY_URL = proxy
        with receiving(204) as receiver:
            answer = ask(receiver.url)

        assert answer.reason == "internal"
        assert answer.detail == http.fault()
        assert answer.detail
        assert "planted" not in answer.detail
        assert receiver.connections == 0

    @pytest.mark.django_db
    def test_while_it_is_malformed_deliveries_wait_and_no_attempt_is_made(self, settings, caplog):
        clock = factories.Clock()
        with receiving(204) as receiver:
            delivery = factories.delivery(receiver.url)
            settings.WEBHOOKS_PROXY_URL = "proxy.internal:4750"
            for _ in range(5):
                worker.drain(clock=clock)
                health_checks.check_all(clock=clock, endpoints=[Endpoint.objects.get().pk])
                clock.move(seconds=settings_.WEBHOOKS_LEASE_SECONDS + 1)
            delivery.refresh_from_db()
            waited = (delivery.status, delivery.attempts_made, delivery.reason)
            state = EndpointHealth.objects.get().state
            settings.WEBHOOKS_PROXY_URL = ""
            worker.drain(clock=clock)

        delivery.refresh_from_db()
        assert waited == ("waiting", 0, "internal")
        assert state == "healthy"
        assert "WEBHOOKS_PROXY_URL" in caplog.text
        assert (delivery.status, delivery.attempts_made) == ("succeeded", 1)

    @pytest.mark.parametrize(
        "answer",
        [
            b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
            b"HTTP/1.1 +200 OK\r\n\r\n",
            b"nonsense\r\n\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\n" * 5000,
            b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 500,
        ],
        ids=["surplus", "sign", "no HTTP", "flood", "headers"],
    )
    def test_what_it_answers_is_read_as_strictly(self, settings, answer):
        with proxying(answer=answer) as (proxy, _):
            settings.WEBHOOKS_PROXY_URL = f"http://{proxy}"
            found = post("https://hooks.example.com/hook")

        assert found.reason in {"proxy", "protocol"}

    @pytest.mark.parametrize("status", [200, 403])
    def test_plain_hosts_are_knocked_at_through_it_too(self, settings, status):
        with proxying(answer=b"HTTP/1.1 %d X\r\n\r\n" % status) as (proxy, asked):
            settings.WEBHOOKS_PROXY_URL = f"http://{proxy}"
            found = http.connect("http://hooks.example.com/hook", timeout=60)

        assert asked[0].startswith(b"CONNECT hooks.example.com:80 HTTP/1.1\r\n")
        assert found is None if status == 200 else found.reason == "proxy"

    def test_its_interim_answers_are_read_past(self, named, settings):
        receiver, trust = named
        answer = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 Connected\r\n\r\n"
        with proxying(answer=answer, target=(LOCAL, receiver.port)) as (proxy, _):
            settings.WEBHOOKS_PROXY_URL = f"http://{proxy}"
            assert post("https://hooks.example.com/hook", trust).status == 204

    @pytest.mark.parametrize("url", ["https://10.0.0.1/", "https://db.internal/", "https://a:b@c/"])
    def test_the_rules_of_urls_hold_all_the_same(self, settings, url):
        settings.WEBHOOKS_ALLOWED_NETWORKS = []
        with proxying() as (proxy, asked):
            settings.WEBHOOKS_PROXY_URL = f"http://{proxy}"
            assert post(url).reason == "blocked"

        assert asked == []

    def test_the_deadline_holds(self, settings):
        def silent(connection):
            while connection.recv(65_536):
                pass

        with speaking(silent) as proxy:
            settings.WEBHOOKS_PROXY_URL = f"http://{proxy}"
            answer = http.post("https://hooks.example.com/", headers={}, body=b"{}", timeout=0.5)

        assert answer.reason == "timeout"
