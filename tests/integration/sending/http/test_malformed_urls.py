"""F4: a URL that no form has looked at is recorded as blocked, and no page fails because of it."""

from __future__ import annotations

import contextlib
import io

import pytest
from django.core.management import call_command

from django_webhooks import encryption
from django_webhooks.models import Attempt, Delivery, Endpoint, Probe
from django_webhooks.policies.urls import MAX_SHOWN, host_of
from django_webhooks.sending import health_checks, worker
from tests import factories, pages

#: URLs as create() takes them, and the host that is shown.
URLS = {
    "half an address": ("https://[::1/", "[::1"),
    "no address": ("https://[hello]/planted-path", "[hello]"),
    "port": ("https://example.com:99999/", "example.com:99999"),
    "port of letters": ("https://example.com:abc/", "example.com:abc"),
    "no host": ("http://", "no host"),
    "empty": ("", "no host"),
    "no URL": ("planted-path-7f3a", "no host"),
    "no scheme": ("//example.com/planted-path", "no host"),
    "NUL": ("https://exa\0mple.com/", "exa\ufffdmple.com"),
    "escape": ("https://exa\x1b[2Jmple.com/", "exa\ufffd[2Jmple.com"),
    "long path": (f"https://example.com/{'x' * 5000}", "example.com"),
    "long host": (f"https://{'x' * 5000}.example/", "x" * MAX_SHOWN),
    "space": ("https://exa mple/", "exa mple"),
    "credentials": ("https://planted:secret@example.com/", "example.com"),
    "backslash": ("https://example.com\\@127.0.0.1/", "example.com"),
    "query alone": ("https://?planted-query", "no host"),
    "fragment": ("https://example.com#planted-fragment", "example.com"),
    "IDNA": ("https://\u2024.example/", "\u2024.example"),
    "Cherokee": ("https://\u13a0.example/", "\u13a0.example"),
    "xn--": ("https://xn--99999999.example/", "xn--99999999.example"),
    "label": (f"https://{'x' * 64}.example/", f"{'x' * 64}.example"),
    "turned around": ("https://\u202eexample.com/", "\ufffdexample.com"),
}


@pytest.mark.parametrize(("url", "host"), URLS.values(), ids=URLS)
@pytest.mark.django_db
def test_is_blocked_and_shown(url, host, admin_client):
    subscription = factories.subscription(url=None)
    candidate = Endpoint.objects.create(subscription=subscription, url=url, probe="ping")
    clock = factories.Clock()
    factories.record()
    worker.drain(clock=clock)
    health_checks.check_all(endpoints=[candidate.pk], clock=clock)

    attempt = Attempt.objects.get()
    assert (attempt.reason, attempt.outcome) == ("blocked", "retry")
    assert attempt.detail
    assert (candidate.host, attempt.endpoint_host) == (host, host)
    assert Probe.objects.get().reason == "blocked"
    assert Delivery.objects.get().status == "waiting"
    told = (
        f"{candidate} {candidate.label} {candidate!r} {attempt} {Delivery.objects.get().explain()}"
    )
    assert "planted" not in told
    for model in ("endpoint", "subscription", "delivery", "attempt", "switch"):
        assert admin_client.get(pages.url(model, "changelist")).status_code == 200, model
    for row in (candidate, subscription, Delivery.objects.get(), attempt):
        page = pages.url(row._meta.model_name, "change", row.pk)
        assert admin_client.get(page).status_code == 200, page
    output = io.StringIO()
    for command, options in {
        "webhooks_stats": {}, "webhooks_audit": {}, "dumpdata": {"app_label": "django_webhooks"},
    }.items():  # fmt: skip
        with contextlib.suppress(SystemExit):
            call_command(command, *options.values(), stdout=output, stderr=output)
    assert "planted" not in output.getvalue()


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://example.com/a?b", "example.com"),
        ("HTTPS://EXAMPLE.COM:443/a", "example.com"),
        ("http://127.0.0.1:8100/", "127.0.0.1:8100"),
        ("https://[2606:4700::1111]:8443/", "[2606:4700::1111]:8443"),
        ("https://m\u00fcnchen.example/", "xn--mnchen-3ya.example"),
        ("http://intranet/", "intranet"),
        (None, ""),
        ("https://\ud800.example/", "\ufffd.example"),
    ],
)
def test_a_host_is_shown_as_the_sender_reads_it(url, host):
    assert host_of(url) == host


@pytest.mark.django_db
def test_a_url_that_does_not_open_is_shown_as_such(admin_client, settings):
    factories.delivery("https://example.com/planted-path")
    settings.WEBHOOKS_ENCRYPTION_KEYS = [encryption.generate_key()]

    candidate = Endpoint.objects.get()
    assert candidate.host == "cannot be read"
    for model in ("endpoint", "subscription", "delivery"):
        assert admin_client.get(pages.url(model, "changelist")).status_code == 200
    page = pages.url("subscription", "change", candidate.subscription_id)
    assert admin_client.get(page).status_code == 200
