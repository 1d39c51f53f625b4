"""The admin of subscriptions: editing, secrets, pausing and resuming."""

from __future__ import annotations

from datetime import timedelta

import pytest

from django_webhooks import catalog, times
from django_webhooks.models import Delivery, Endpoint, Subscription
from tests import factories, pages

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _event_types():
    for name in ("order.paid", "order.sent", "user.joined"):
        catalog.declare(name, description=f"About {name}", example={"id": 7})
    yield
    for name in ("order.paid", "order.sent", "user.joined"):
        catalog.forget(name)


def test_a_subscription_is_added_with_its_event_types_and_endpoint(admin_client):
    page = pages.url("subscription", "add")
    data = pages.form_of(admin_client.get(page)) | {
        "name": "CRM",
        "declared_types": ["user.joined"],
        "event_types": "order.*\n  user.joined\norder.*",
        "endpoints-0-url": "https://example.com/hook",
    }

    response = admin_client.post(page, data)

    assert response.status_code == 302
    subscription = Subscription.objects.get()
    assert subscription.event_types == ["order.*", "user.joined"]
    assert subscription.signing_secret == data["signing_secret"]
    assert subscription.endpoints.get().url == "https://example.com/hook"


def test_a_pattern_that_matches_nothing_is_refused(admin_client):
    page = pages.url("subscription", "add")
    data = pages.form_of(admin_client.get(page)) | {"name": "CRM", "event_types": "order.*.x"}

    response = admin_client.post(page, data)

    assert "matches no event type" in response.context["adminform"].form.errors["event_types"][0]


def test_a_subscription_is_changed(admin_client):
    subscription = factories.subscription(event_types=["order.*", "user.*"])
    page = pages.url("subscription", "change", subscription.pk)
    response = admin_client.get(page)
    data = pages.form_of(response)
    assert data["event_types"] == "order.*\nuser.*"

    admin_client.post(
        page, data | {"event_types": "", "declared_types": ["order.paid"], "name": "ERP"}
    )

    subscription = Subscription.objects.get()
    assert (subscription.name, subscription.event_types) == ("ERP", ["order.paid"])
    assert subscription.signing_secret == factories.SECRET


def test_a_secret_is_shown_while_it_is_new_and_masked_afterwards(admin_client):
    subscription = factories.subscription()

    new = admin_client.get(pages.url("subscription", "add")).content.decode()
    change = admin_client.get(pages.url("subscription", "change", subscription.pk)).content.decode()
    listed = admin_client.get(pages.url("subscription")).content.decode()

    assert new.count("whsec_") == 3  # the value and two help texts
    assert "whsec_…LaSw" in change
    assert factories.SECRET not in change
    assert "LaSw" not in listed


def test_those_who_may_only_look_see_no_credentials(client):
    subscription = factories.subscription(url="http://127.0.0.1:9/secret-path")
    Endpoint.objects.update(authorization="Bearer topsecret", headers={"x-key": "alsosecret"})
    pages.staff(client, "view_subscription", "view_endpoint")

    text = client.get(pages.url("subscription", "change", subscription.pk)).content.decode()

    assert "12….1:9" in text
    assert "order.*" in text
    for secret in ("127.0.0.1", "secret-path", "topsecret", "alsosecret", factories.SECRET):
        assert secret not in text


def test_those_who_may_add_endpoints_but_not_change_them_see_no_credentials(client):
    subscription = factories.subscription(url="http://127.0.0.1:9/secret-path")
    pages.staff(client, "change_subscription", "view_endpoint", "add_endpoint")

    response = client.get(pages.url("subscription", "change", subscription.pk))

    assert "secret-path" not in response.content.decode()
    assert not response.context["inline_admin_formsets"][0].has_add_permission


def test_subscriptions_are_paused_and_resumed(admin_client):
    one, other = factories.subscription(), factories.subscription()
    other.pause()

    paused = pages.act(admin_client, "subscription", "pause", one, other)
    states = set(Subscription.objects.values_list("status", "status_reason", "status_by"))
    resumed = pages.act(admin_client, "subscription", "resume", one, other)
    again = pages.act(admin_client, "subscription", "resume", one, other)

    assert states == {("paused", "", "admin"), ("paused", "", "")}
    assert pages.messages_of(paused) == ["1 subscription paused."]
    assert pages.messages_of(resumed) == ["2 subscriptions resumed."]
    assert pages.messages_of(again) == ["0 subscriptions resumed."]
    assert set(Subscription.objects.values_list("status", flat=True)) == {"active"}


def test_what_waits_for_a_paused_subscription_flows_when_it_resumes(admin_client):
    delivery = factories.delivery()
    delivery.subscription.pause()
    Delivery.objects.update(due_at=None)

    pages.act(admin_client, "subscription", "resume", delivery.subscription)

    assert Delivery.objects.due(times.now() + timedelta(seconds=1)).exists()


def test_a_subscription_is_deleted_and_its_deliveries_are_kept(admin_client):
    delivery = factories.delivery()

    admin_client.post(
        pages.url("subscription", "delete", delivery.subscription.pk), {"post": "yes"}
    )

    delivery.refresh_from_db()
    assert (delivery.status, delivery.reason) == ("cancelled", "subscription_deleted")


def test_the_list_shows_hosts_and_no_paths(admin_client):
    factories.subscription(url="http://127.0.0.1:9/secret-path")
    factories.subscription(url=None)

    text = admin_client.get(pages.url("subscription")).content.decode()

    assert "127.0.0.1:9" in text
    assert "secret-path" not in text
