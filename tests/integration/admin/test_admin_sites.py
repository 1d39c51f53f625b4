"""Several admin sites: each links to itself, and has no page that fails without the others."""

from __future__ import annotations

import re
import sys
import types
from urllib.parse import urljoin, urlsplit

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.test import override_settings
from django.urls import path, reverse

from django_webhooks import admin as pages
from django_webhooks import times
from django_webhooks.models import (
    Attempt,
    Delivery,
    Endpoint,
    Probe,
    Subscription,
    Switch,
)
from django_webhooks.sending import replays
from django_webhooks.sending.replays import Selection
from tests import factories

pytestmark = [pytest.mark.django_db, pytest.mark.alike]

OURS = {
    model: own
    for model, own in admin.site._registry.items()
    if own.__module__.startswith(pages.__name__)
}


def site_of(name, *models):
    made = admin.AdminSite(name=name)
    for model in models:
        made.register(model, type(OURS[model]))
    return made


def routed(**sites):
    """Give the sites these addresses."""
    module = types.ModuleType("tests.urls_of_sites")
    module.urlpatterns = [path(f"{name}/", site.urls) for name, site in sites.items()]
    sys.modules[module.__name__] = module
    return override_settings(ROOT_URLCONF=module.__name__)


@pytest.fixture
def rows():
    """Something of everything that has a page."""
    subscription = factories.subscription(url="http://127.0.0.1:9/hook")
    Endpoint.objects.create(subscription=subscription, url="http://127.0.0.1:8/", position=1)
    deliveries = factories.record() + factories.record() + factories.record()
    given_up, over, _ = deliveries
    endpoint = subscription.endpoints.first()
    Delivery.objects.filter(pk=given_up.pk).update(
        status="given_up", due_at=None, finished_at=times.now(), reason="http_404"
    )
    Delivery.objects.filter(pk=over.pk).update(
        status="succeeded", due_at=None, finished_at=times.now()
    )
    Attempt.objects.create(
        delivery=given_up, endpoint=endpoint, number=1, outcome="final", status_code=404
    )
    Probe.objects.create(endpoint=endpoint, succeeded=True)
    Switch.objects.create(subscription=subscription, cause="failover")
    replays.start(Selection(status="given_up"), reason="test", by="ann", using="default")
    return subscription


def crawl(client, prefix):
    """Return every page of the site, by its address, with the addresses that it names."""
    found, waiting, asked = {}, [f"/{prefix}/"], set()
    while waiting:
        address = waiting.pop()
        if address in found:
            continue
        response = client.get(address)
        assert response.status_code in (200, 302), (address, response.status_code)
        text = response.content.decode() if response.status_code == 200 else ""
        links = re.findall(r'href="([^"#]+)"', text)
        links += [response.url] if response.status_code == 302 else []
        forms = re.findall(r'action="([^"#]+)"', text)
        found[address] = {_joined(address, one) for one in links + forms}
        for one in {_joined(address, one) for one in links}:
            parts = urlsplit(one)
            # One query of each page is enough.
            is_new = not parts.query or parts.path not in asked
            if one.startswith(f"/{prefix}/") and "logout" not in one and is_new:
                asked |= {parts.path} if parts.query else set()
                waiting.append(one)
    return found


def _joined(address, named):
    return urljoin(address, named.replace("&amp;", "&"))


def strays(found, prefix):
    """Return the addresses outside of the site that its pages name."""
    return {
        (page, one)
        for page, named in found.items()
        for one in named
        if one.startswith("/") and one != "/" and not one.startswith((f"/{prefix}/", "/static/"))
    }


@pytest.mark.parametrize("looked_at", ["admin", "staff"])
def test_each_of_two_sites_links_to_itself(client, rows, looked_at):
    sites = {"admin": site_of("admin", *OURS), "staff": site_of("staff", *OURS)}
    client.force_login(User.objects.create_superuser("ann"))

    with routed(**sites):
        found = crawl(client, looked_at)

    assert len(found) > 30
    assert strays(found, looked_at) == set()


@pytest.mark.parametrize("model", OURS, ids=lambda model: model._meta.model_name)
@pytest.mark.parametrize("beside", [True, False], ids=["beside-the-whole", "alone"])
def test_a_site_with_one_of_ours_alone_is_whole(client, rows, model, beside):
    sites = {"staff": site_of("staff", model)}
    if beside:
        sites["admin"] = site_of("admin", *OURS)
    client.force_login(User.objects.create_superuser("ann"))

    with routed(**sites):
        found = crawl(client, "staff")
        own = reverse(
            f"admin:django_webhooks_{model._meta.model_name}_changelist", current_app="staff"
        )

    assert own in found
    assert strays(found, "staff") == set()


@pytest.mark.parametrize("models", [list(OURS), [Subscription]], ids=["whole", "subscriptions"])
@pytest.mark.parametrize("operation", ["pause", "test"])
def test_what_is_done_on_a_site_leads_back_to_it(client, rows, models, operation):
    client.force_login(User.objects.create_superuser("ann"))
    sent = {"reason": "test", "event_type": "order.paid", "payload": "{}"}

    with routed(admin=site_of("admin", *OURS), staff=site_of("staff", *models)):
        page = reverse(
            "admin:django_webhooks_subscription_operate",
            args=[rows.pk, operation],
            current_app="staff",
        )
        answer = client.post(page, sent)

        assert answer.status_code == 302
        assert answer.url.startswith("/staff/")
        assert client.get(answer.url).status_code == 200


def test_a_replay_is_offered_where_the_site_has_its_page(client, rows):
    client.force_login(User.objects.create_superuser("ann"))

    with routed(staff=site_of("staff", Subscription, Delivery)):
        lists = client.get("/staff/django_webhooks/delivery/").content.decode()
        page = f"/staff/django_webhooks/subscription/{rows.pk}/operate/replay/"

        assert "try_now" in lists
        assert "replay_deliveries" not in lists
        assert client.get(page).status_code == 404
