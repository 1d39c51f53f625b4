"""Receiving: what a request must be before a handler sees it."""

from __future__ import annotations

import ipaddress
import json

import pytest
from django.core.exceptions import ImproperlyConfigured, RequestDataTooBig
from django.http import HttpResponse
from django.http.request import RawPostDataException
from django.test import Client, RequestFactory, override_settings
from django.urls import path

from django_webhooks import signing
from django_webhooks.checks.receiving import check_receiving
from django_webhooks.inbox.models import InboxMessage, Rejection
from django_webhooks.policies.addresses import networks
from django_webhooks.receiving import GitHub, Guard, Rejected, Token, WebhookView, client, webhook
from django_webhooks.receiving import views as receiving_views

pytestmark = pytest.mark.django_db
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = b'{"type":"order.paid","data":{"id":7}}'
seen = []


@webhook(secrets=[SECRET])
def plain(request, message):
    seen.append(message)


@webhook(secrets=lambda request: [SECRET], scheme=Token(), require_https=False)
def loud(request, message, key):
    return HttpResponse(f"{key} {message.payload['type']}", status=202)


class Classy(WebhookView):
    secrets = SECRET

    def handle(self, message):
        seen.append(message)


class Bare(WebhookView):
    pass


urlpatterns = [
    path("plain/", plain),
    path("loud/<int:key>/", loud),
    path("class/", Classy.as_view()),
    path("bare/", Bare.as_view()),
]


@pytest.fixture(autouse=True)
def _urls(settings):
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = [
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.auth.middleware.LoginRequiredMiddleware",
    ]
    seen.clear()


def signed(body=BODY, **changed):
    import time

    at = int(time.time())
    signature = signing.sign(secret=SECRET, message_id="msg_1", timestamp=at, body=body)
    return {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(at),
        "webhook-signature": signature,
    } | changed


def post(address="/plain/", body=BODY, *, headers=None, secure=True, **extra):
    sender = Client(enforce_csrf_checks=True)
    extra = {"content_type": "application/json"} | extra
    return sender.post(
        address, body, headers=signed(body) if headers is None else headers, secure=secure, **extra
    )


class TestViews:
    @pytest.mark.parametrize("address", ["/plain/", "/class/"])
    def test_a_verified_message_reaches_the_handler(self, address):
        answer = post(address)

        [message] = seen
        assert answer.status_code == 204
        assert (message.id, message.payload["data"]) == ("msg_1", {"id": 7})

    def test_the_handler_has_the_arguments_of_the_url_and_the_last_word(self):
        answer = post("/loud/5/", headers={"authorization": f"Bearer {SECRET}"}, secure=False)

        assert (answer.status_code, answer.content) == (202, b"5 order.paid")

    @pytest.mark.parametrize(
        ("how", "status", "reason"),
        [
            ({"headers": {}}, 401, b"signature\n"),
            ({"secure": False}, 403, b"https\n"),
            ({"content_type": "text/plain"}, 415, b"content_type\n"),
            ({"content_type": "multipart/form-data; boundary=x"}, 415, b"content_type\n"),
            ({"body": b"x" * 1_048_577}, 413, b"size\n"),
            ({"CONTENT_LENGTH": "-1"}, 413, b"size\n"),
            ({"CONTENT_LENGTH": "9" * 30}, 413, b"size\n"),
        ],
    )
    def test_what_is_refused_learns_the_kind_of_reason(self, how, status, reason):
        answer = post(**how)

        assert (answer.status_code, answer.content) == (status, reason)
        assert seen == []

    @pytest.mark.parametrize("method", ["get", "put", "delete", "head", "options"])
    def test_other_methods(self, method):
        answer = getattr(Client(), method)("/plain/", secure=True)

        assert answer.status_code == 405
        assert answer["Allow"] == "POST"

    def test_a_content_type_may_have_parameters(self):
        assert post(content_type="application/json; charset=utf-8").status_code == 204

    def test_a_refusal_is_logged_without_what_was_sent(self, caplog):
        post(headers=signed() | {"webhook-signature": "v1,planted"})

        assert "was refused (signature)" in caplog.text
        assert "planted" not in caplog.text
        assert SECRET not in caplog.text

    def test_behind_a_proxy_https_is_what_it_says(self, settings):
        settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

        assert post(secure=False).status_code == 403
        assert post(secure=False, HTTP_X_FORWARDED_PROTO="https").status_code == 204

    def test_what_a_handler_raises_is_for_the_sender_to_repeat(self):
        @webhook(secrets=SECRET, require_https=False)
        def breaks(request, message):
            raise RuntimeError("not now")

        request = RequestFactory().post(
            "/", BODY, content_type="application/json", headers=signed()
        )

        answer = breaks(request)

        assert (answer.status_code, answer["Retry-After"]) == (500, "10")

    def test_a_class_without_secrets_or_handler_says_what_to_write(self):
        with pytest.raises(ImproperlyConfigured, match="Set secrets"):
            post("/bare/")
        with pytest.raises(NotImplementedError, match="handle"):
            Bare().handle(None)

    @pytest.mark.parametrize("once", [True, False])
    def test_a_payload_that_is_none_is_the_sender_s_to_mend(self, once, caplog):
        @webhook(secrets=SECRET, require_https=False, once=once, name="needs JSON")
        def view(request, message):
            seen.append(message.payload)

        request = RequestFactory().post(
            "/", b"{", content_type="application/json", headers=signed(b"{")
        )

        answer = view(request)

        assert (answer.status_code, answer.content) == (400, b"payload\n")
        assert answer["webhook-rejected"] == "payload"
        assert "was not understood: The body is not JSON" in caplog.text
        assert Rejection.objects.get().reason == "payload"
        assert not InboxMessage.objects.exists()
        assert seen == []

    def test_a_malformed_secret_is_no_error_of_a_stranger_s_request(self, caplog):
        @webhook(secrets="whsec_", require_https=False)
        def view(request, message):
            """Never."""

        request = RequestFactory().post(
            "/", BODY, content_type="application/json", headers=signed()
        )

        answer = view(request)

        assert (answer.status_code, answer["Retry-After"]) == (503, "10")
        assert "is malformed" in caplog.text


def rejected(guard, **extra):
    request = RequestFactory().post(
        "/", BODY, content_type="application/json", headers=signed(), **extra
    )
    with pytest.raises(Rejected) as raised:
        guard.check(request)
    return raised.value.reason, raised.value.status


class TestGuard:
    def test_without_any_secret_it_is_our_fault(self):
        for secrets in ("", [], [""], lambda request: []):
            guard = Guard(secrets=secrets, require_https=False)
            assert rejected(guard) == ("secrets", 503)

    @pytest.mark.parametrize(
        "options",
        [{"allowed_networks": ["10.0.0.1/8"]}, {"trusted_proxies": ["x"]}, {"tolerance": -1}],
    )
    def test_malformed_options_fail_where_they_are_written(self, options):
        with pytest.raises(ValueError, match=r"."):
            Guard(secrets="x", **options)

    @pytest.mark.parametrize(
        ("error", "found"),
        [
            (RequestDataTooBig(), ("size", 413)),
            (RawPostDataException(), ("read", 500)),
            (OSError("hung up"), ("read", 400)),
        ],
    )
    def test_a_body_that_cannot_be_read(self, monkeypatch, error, found):
        from django.http import HttpRequest

        def fails(self):
            raise error

        monkeypatch.setattr(HttpRequest, "body", property(fails))

        assert rejected(Guard(secrets=SECRET, require_https=False)) == found

    def test_a_body_longer_than_it_said(self, monkeypatch):
        from django.http import HttpRequest

        monkeypatch.setattr(HttpRequest, "body", property(lambda self: b"x" * 99))

        guard = Guard(secrets=SECRET, require_https=False, max_bytes=50)

        assert rejected(guard, CONTENT_LENGTH="5") == ("size", 413)

    def test_further_content_types(self):
        guard = Guard(
            secrets=SECRET, scheme=GitHub(), require_https=False, content_types=["text/plain"]
        )

        assert rejected(guard) == ("content_type", 415)


PROXIES = ["10.0.0.0/8", "2001:db8:1::/48"]


class TestClient:
    """Where a request comes from, in each layout of proxies, and whatever is claimed."""

    @pytest.mark.parametrize(
        ("remote", "forwarded", "found"),
        [
            # Nobody before us: the header is the client's own words.
            ("203.0.113.7", "", "203.0.113.7"),
            ("203.0.113.7", "192.0.2.1", "203.0.113.7"),
            ("203.0.113.7", "10.0.0.1, 192.0.2.1", "203.0.113.7"),
            # One proxy.
            ("10.0.0.1", "203.0.113.7", "203.0.113.7"),
            ("10.0.0.1", "192.0.2.1, 203.0.113.7", "203.0.113.7"),
            ("10.0.0.1", "", "10.0.0.1"),
            # Two proxies.
            ("10.0.0.1", "203.0.113.7, 10.0.0.2", "203.0.113.7"),
            ("10.0.0.1", "192.0.2.1, 203.0.113.7, 10.0.0.2", "203.0.113.7"),
            ("10.0.0.1", "192.0.2.1,203.0.113.7 ,10.0.0.2", "203.0.113.7"),
            # A client in the proxies' own network.
            ("10.0.0.1", "10.0.0.9", "10.0.0.9"),
            # IPv6, IPv4 within it, ports.
            ("2001:db8:1::5", "2001:db8:2::7", "2001:db8:2::7"),
            ("::ffff:10.0.0.1", "203.0.113.7", "203.0.113.7"),
            ("::ffff:203.0.113.7", "192.0.2.1", "203.0.113.7"),
            ("10.0.0.1", "203.0.113.7:4711", "203.0.113.7"),
            ("10.0.0.1", "[2001:db8:2::7]:4711", "2001:db8:2::7"),
        ],
    )
    def test_the_first_that_no_proxy_of_ours_vouches_for(self, remote, forwarded, found):
        address = client.address(remote, forwarded, trusted=networks(PROXIES))

        assert address == ipaddress.ip_address(found)

    @pytest.mark.parametrize(
        ("remote", "forwarded"),
        [
            ("", ""),
            ("unix:", ""),
            ("10.0.0.1", "unknown"),
            ("10.0.0.1", "203.0.113.7, "),
            ("10.0.0.1", "_hidden"),
            ("10.0.0.1", "fe80::1%eth0"),
            ("10.0.0.1", "1.2.3"),
            ("10.0.0.1", "[2001:db8:2::7"),
            ("10.0.0.1", "[2001:db8:2::7]x"),
            ("10.0.0.1", "[203.0.113.7]"),
            ("10.0.0.1", "203.0.113.7:"),
            ("10.0.0.1", "203.0.113.7:http"),
            ("10.0.0.1", "203.0.113.7:²³"),
        ],
    )
    def test_what_is_malformed_where_it_decides(self, remote, forwarded):
        with pytest.raises(ValueError, match=r"."):
            client.address(remote, forwarded, trusted=networks(PROXIES))

    @pytest.mark.parametrize(
        ("remote", "forwarded", "is_allowed"),
        [
            ("203.0.113.7", "", True),
            ("::ffff:203.0.113.7", "", True),
            ("192.0.2.1", "203.0.113.7", False),
            ("10.0.0.1", "203.0.113.7", True),
            ("10.0.0.1", "203.0.113.7, 192.0.2.1", False),
            ("10.0.0.1", "nonsense", False),
        ],
    )
    def test_who_may_call(self, settings, remote, forwarded, is_allowed):
        settings.WEBHOOKS_TRUSTED_PROXIES = PROXIES
        for allowed in (["203.0.113.0/24"], lambda request: ["203.0.113.0/24"]):
            guard = Guard(secrets=SECRET, allowed_networks=allowed, require_https=False)
            request = RequestFactory().post(
                "/",
                BODY,
                content_type="application/json",
                headers=signed(),
                REMOTE_ADDR=remote,
                HTTP_X_FORWARDED_FOR=forwarded,
            )
            if is_allowed:
                assert guard.check(request).id == "msg_1"
            else:
                with pytest.raises(Rejected) as raised:
                    guard.check(request)
                assert (raised.value.reason, raised.value.status) == ("network", 403)


class TestChecks:
    def ids(self):
        return [one.id for one in check_receiving()]

    def test_a_tolerance_that_is_too_wide(self, monkeypatch):
        monkeypatch.setattr(receiving_views, "tolerances", [300])
        assert self.ids() == []

        webhook(secrets=SECRET, tolerance=7200)

        assert self.ids() == ["webhooks.W012"]

    def test_a_class_that_has_one(self, monkeypatch):
        monkeypatch.setattr(receiving_views, "tolerances", [])

        type("Late", (WebhookView,), {"guard_options": {"tolerance": 7200}})

        assert self.ids() == ["webhooks.W012"]

    def test_without_https(self, monkeypatch):
        monkeypatch.setattr(receiving_views, "tolerances", [300])

        with override_settings(WEBHOOKS_RECEIVING_REQUIRE_HTTPS=False):
            assert self.ids() == ["webhooks.W013"]


def test_our_own_sender_is_taken_by_our_receiver():
    body = json.dumps({"type": "order.paid", "data": {"id": 7}}).encode()

    assert post(body=body).status_code == 204
