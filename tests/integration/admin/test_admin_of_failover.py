"""The admin in an outage: what staff see, and what they can do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.urls import reverse

from django_webhooks import times
from django_webhooks.admin import html
from django_webhooks.models import (
    Attempt,
    Delivery,
    Endpoint,
    EndpointHealth,
    Probe,
    Subscription,
    Switch,
)
from django_webhooks.sending import worker
from tests import factories, pages
from tests.receivers import receiving

pytestmark = pytest.mark.django_db
DEAD = "http://127.0.0.1:9/secret-path"
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
LIST = "admin:django_webhooks_endpoint_changelist"


@pytest.fixture
def staff(client):
    user = get_user_model().objects.create_superuser("anna", password="x")
    client.force_login(user)
    return client


@pytest.fixture
def pair():
    subscription = factories.subscription(url=DEAD)
    Endpoint.objects.create(subscription=subscription, url="http://127.0.0.1:8/", position=1)
    return subscription


def act(client, action, *endpoints, **data):
    return client.post(
        reverse(LIST),
        {"action": action, ACTION_CHECKBOX_NAME: [str(one.pk) for one in endpoints], **data},
        follow=True,
    )


def said(response):
    return [str(message) for message in response.context["messages"]]


def fall(endpoint, **fields):
    now = times.now()
    values = {"state": "unhealthy", "failing_since": now, "since": now, "reason": "timeout"}
    EndpointHealth.objects.filter(pk=endpoint.pk).update(**{**values, **fields})


class TestEndpoints:
    def test_the_list_shows_health_and_no_paths(self, staff, pair):
        fall(pair.endpoints.get(position=0))
        text = staff.get(reverse(LIST)).content.decode()

        assert "Unhealthy (timeout)" in text
        assert "127.0.0.1:9" in text
        assert "secret-path" not in text
        assert "backup 1" in text

    def test_the_list_costs_the_same_for_any_number(self, staff, django_assert_max_num_queries):
        for _ in range(30):
            factories.subscription()
        with django_assert_max_num_queries(8):
            staff.get(reverse(LIST))

    def test_a_page_shows_probes_and_switches(self, staff, pair):
        first = pair.endpoints.get(position=0)
        Probe.objects.create(endpoint=first, kind="connect", succeeded=True, duration_ms=7)
        Probe.objects.create(
            endpoint=first, kind="connect", succeeded=False, reason="tls", detail="<b>expired</b>"
        )
        first.pin("drill", by="anna")
        first.unpin(by="anna")
        Switch.objects.create(subscription=pair, cause="failover", from_host="a", to_host="b")

        page = reverse("admin:django_webhooks_endpoint_change", args=[first.pk])
        text = staff.get(page).content.decode()

        assert "&lt;b&gt;expired&lt;/b&gt;" in text
        assert "7 ms" in text
        assert "Failover" in text
        assert "secret-path" not in text

    def test_pinning_asks_for_a_reason(self, staff, pair):
        backup = pair.endpoints.get(position=1)

        asked = act(staff, "pin", backup)
        assert "until somebody lifts the pin" in asked.content.decode()
        assert not Endpoint.objects.filter(pinned_at__isnull=False).exists()
        asked = act(staff, "pin", backup, confirmed="1", reason=" ")
        assert "This field is required." in asked.content.decode()

        done = act(staff, "pin", backup, confirmed="1", reason="primary is rebuilt")
        assert said(done) == ["1 endpoint pinned."]
        backup.refresh_from_db()
        assert (backup.pin_reason, backup.pinned_by) == ("primary is rebuilt", "anna")
        assert EndpointHealth.objects.get(is_active=True).endpoint == backup
        assert Switch.objects.get().by == "anna"

        assert said(act(staff, "unpin", backup)) == ["1 pin lifted."]
        assert EndpointHealth.objects.get(is_active=True).endpoint.position == 0
        assert said(act(staff, "unpin", backup)) == ["0 pins lifted."]

    def test_a_disabled_endpoint_is_not_pinned(self, staff, pair):
        backup = pair.endpoints.get(position=1)
        assert said(act(staff, "disable", backup)) == ["1 endpoint disabled."]

        done = act(staff, "pin", backup, confirmed="1", reason="x")

        assert said(done) == ["0 endpoints pinned."]
        assert "Disabled" in staff.get(reverse(LIST)).content.decode()

    def test_enabling_begins_with_a_clean_slate(self, staff, pair):
        first = pair.endpoints.get(position=0)
        fall(first)
        act(staff, "disable", first)
        assert said(act(staff, "enable", first)) == ["1 endpoint enabled."]

        assert EndpointHealth.objects.get(pk=first.pk).state == "healthy"

    def test_probing_says_what_came_of_it(self, staff, pair):
        with receiving() as receiver:
            first, second = pair.endpoints.order_by("position")
            second.url = receiver.url
            second.save()
            done = act(staff, "probe_now", first, second)

        assert said(done) == ["2 endpoints probed, 1 of them failed."]

    def test_who_may_only_look_can_only_look(self, client, pair):
        user = get_user_model().objects.create_user("ben", password="x", is_staff=True)
        user.user_permissions.add(Permission.objects.get(codename="view_endpoint"))
        client.force_login(user)

        assert client.get(reverse(LIST)).status_code == 200
        act(client, "disable", pair.endpoints.get(position=0))
        assert not Endpoint.objects.filter(disabled_at__isnull=False).exists()


class TestSubscriptions:
    def form(self, subscription, urls):
        page = reverse("admin:django_webhooks_subscription_change", args=[subscription.pk])
        endpoints = list(subscription.endpoints.order_by("position"))
        data = {
            "name": "CRM",
            "event_types": "order.*",
            "failover": "switch",
            "failback": "stay",
            "signature_style": "standard",
            "ordering": "key",
            "health_fall": "5",
            "health_statuses": "5xx",
            "endpoints-TOTAL_FORMS": str(len(urls)),
            "endpoints-INITIAL_FORMS": str(len(endpoints)),
        }
        for number, url in enumerate(urls):
            prefix = f"endpoints-{number}-"
            data |= {
                f"{prefix}position": str(number),
                f"{prefix}url": url,
                f"{prefix}headers": "{}",
                f"{prefix}probe": "connect",
                f"{prefix}subscription": str(subscription.pk),
                f"{prefix}id": str(endpoints[number].pk) if number < len(endpoints) else "",
            }
        return page, data

    def test_failover_is_set_there(self, staff, pair):
        page, data = self.form(pair, [DEAD, "http://127.0.0.1:8/"])
        shown = staff.get(page).content.decode()
        assert "Thresholds of health" in shown
        assert "5xx and silence" in shown

        staff.post(page, data)

        pair.refresh_from_db()
        assert (pair.failback, pair.health_fall) == ("stay", 5)
        assert pair.status_policy == "5xx"
        assert pair.ordering == "key"
        assert pair.health_thresholds.fall == 5

    def test_a_backup_that_is_the_same_endpoint_is_refused(self, staff):
        subscription = factories.subscription(url=DEAD)
        page, data = self.form(subscription, [DEAD, DEAD])

        answer = staff.post(page, data).content.decode()

        assert "a backup helps only" in answer
        assert subscription.endpoints.count() == 1

    def test_two_new_ones_that_are_the_same_endpoint_are_refused(self, staff):
        subscription = factories.subscription(url=None)
        _, data = self.form(subscription, [DEAD, DEAD])
        subscription.delete()
        data |= {"signing_secret": factories.SECRET}
        data = {key: value for key, value in data.items() if not key.endswith("subscription")}

        answer = staff.post(reverse("admin:django_webhooks_subscription_add"), data)

        assert "Two endpoints have the same URL" in answer.content.decode()
        assert not Subscription.objects.exists()

    def test_a_backup_on_the_same_host_is_warned_of(self, staff):
        subscription = factories.subscription(url=DEAD)
        page, data = self.form(subscription, [DEAD, "http://127.0.0.1:9/other"])

        answer = staff.post(page, data, follow=True)

        assert any("same host" in one for one in said(answer))
        assert subscription.endpoints.count() == 2

    def test_the_health_url_is_asked_for(self, staff):
        subscription = factories.subscription(url=DEAD)
        page, data = self.form(subscription, [DEAD])
        data["endpoints-0-probe"] = "http"

        assert "Enter the URL that the health check gets." in (
            staff.post(page, data).content.decode()
        )

    def test_the_list_says_where_deliveries_go(self, staff, pair):
        factories.subscription(url=None, name="nobody")
        fall(pair.endpoints.get(position=1))
        text = staff.get(reverse("admin:django_webhooks_subscription_changelist")).content.decode()

        assert "127.0.0.1:9 (primary)" in text
        assert "1 of 2 well" in text

    def test_one_that_stays_is_switched_back(self, staff, pair):
        pair.failback = "stay"
        pair.save()
        first, second = pair.endpoints.order_by("position")
        second.pin("drill", by="anna")
        second.unpin(by="anna")
        assert EndpointHealth.objects.get(is_active=True).endpoint == second

        page = reverse("admin:django_webhooks_subscription_changelist")
        data = {"action": "fail_back", ACTION_CHECKBOX_NAME: [str(pair.pk)]}

        assert said(staff.post(page, data, follow=True)) == ["1 subscription switched back."]
        assert EndpointHealth.objects.get(is_active=True).endpoint == first
        assert said(staff.post(page, data, follow=True)) == ["0 subscriptions switched back."]


def test_switches_are_listed(staff, pair):
    pair.endpoints.get(position=1).pin("drill", by="anna")

    text = staff.get(reverse("admin:django_webhooks_switch_changelist")).content.decode()

    assert "By hand" in text
    assert "pinned: drill" in text


class TestSentences:
    """Why a delivery is held."""

    def explain(self):
        return Delivery.objects.get().explain()

    def held(self, subscription):
        factories.record()
        Delivery.objects.update(due_at=None)
        return subscription

    def test_all_have_failed(self):
        self.held(factories.subscription())
        EndpointHealth.objects.update(
            state="unhealthy", is_active=None, failing_since=NOW, since=NOW,
            hold_until=NOW + timedelta(seconds=30),
        )  # fmt: skip

        assert self.explain() == (
            "Waits because all endpoints of its subscription have failed since "
            "2026-01-31 12:00:00; one delivery is tried at 2026-01-31 12:00:30 at the earliest."
        )

    def test_one_is_tried(self):
        self.held(factories.subscription())
        EndpointHealth.objects.update(state="trial", is_active=None, failing_since=NOW, since=NOW)

        assert self.explain().endswith("one delivery at a time is tried now.")

    def test_older_ones_go_first(self):
        self.held(factories.subscription())
        EndpointHealth.objects.update(slow_start_released=4)

        assert self.explain() == "Waits because older deliveries go first after an outage."

    def test_there_is_no_endpoint(self):
        self.held(factories.subscription(url=None))

        assert self.explain() == (
            "Waits because its subscription has no endpoint, or all are disabled."
        )

    def test_there_is_no_subscription(self):
        self.held(factories.subscription())
        Delivery.objects.update(subscription=None)

        assert self.explain() == "Waits without a subscription; cancel it."


def test_a_badge_of_an_endpoint_without_health(staff):
    subscription = factories.subscription(url=None)
    Endpoint.objects.bulk_create([Endpoint(subscription=subscription, url=DEAD)])

    assert "Not known yet" in staff.get(reverse(LIST)).content.decode()
    assert Subscription.objects.get().endpoints.count() == 1


class TestHosts:
    """Where webhooks go is for those who may see it."""

    @pytest.fixture
    def pages_of(self, pair):
        delivery = factories.record()[0]
        worker.drain(clock=factories.Clock())
        pair.endpoints.get(position=0).disable("by a test")
        attempt, switch = Attempt.objects.get(), Switch.objects.first()
        assert (attempt.endpoint_host, switch.from_host) == ("127.0.0.1:9", "127.0.0.1:9")
        return [
            pages.url("subscription"),
            pages.url("subscription", "change", pair.pk),
            pages.url("endpoint"),
            pages.url("endpoint", "change", pair.endpoints.get(position=0).pk),
            pages.url("switch"),
            pages.url("switch", "change", switch.pk),
            pages.url("attempt"),
            pages.url("attempt", "change", attempt.pk),
            pages.url("delivery", "change", delivery.pk),
        ]

    VIEW = [f"view_{one}" for one in ("subscription", "endpoint", "switch", "attempt", "delivery")]

    def test_those_who_may_only_look_see_enough_to_tell_them_apart(self, client, pages_of):
        pages.staff(client, *self.VIEW)

        for page in pages_of:
            text = client.get(page).content.decode()
            assert "127.0.0.1" not in text, page
            assert "12….1:" in text, page

    def test_those_who_may_see_hosts_do(self, client, pages_of):
        pages.staff(client, *self.VIEW, "see_hosts")

        for page in pages_of:
            assert "127.0.0.1:" in client.get(page).content.decode(), page

    @pytest.mark.parametrize("model", ["attempt", "switch"])
    def test_a_search_does_not_tell_either(self, client, pages_of, model):
        pages.staff(client, *self.VIEW)
        page = pages.url(model)

        found = client.get(page, {"q": "127.0.0.1:9"}).context["cl"].result_count
        other = client.get(page, {"q": "127.0.0.2:9"}).context["cl"].result_count

        assert found == other

    @pytest.mark.parametrize(
        ("host", "shown"),
        [
            ("hooks.example.com", "ho….com"),
            ("hooks.example.com:8443", "ho….com:8443"),
            ("localhost", "lo…"),
            ("[::1]:443", "[:…:443"),
            ("", "…"),
        ],
    )
    def test_the_beginning_and_the_end_are_shown(self, host, shown):
        assert html.masked(host) == shown
