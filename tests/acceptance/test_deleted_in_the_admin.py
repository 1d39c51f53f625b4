"""Endpoints and subscriptions are deleted in the admin under traffic, with real processes."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.receivers import Receiver

from .conftest import MARIADB, REDIS, campaign
from .forms import Staff
from .harness import until
from .site import with_admin
from .traffic import traffic

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.timeout(600),
    pytest.mark.stacks(REDIS, campaign(MARIADB)),
]

RATE = 60.0
PASSWORD = "only for tests"
ADMIN = "admin/django_webhooks/"


def in_the_subscription(staff, subscription, endpoint):
    """By the box "Delete" beside it."""
    page = f"{ADMIN}subscription/{subscription}/change/"
    fields = staff.fields(page)
    [prefix] = [name[: -len("id")] for name, value in fields.items() if value == endpoint]
    return staff.send(page, {f"{prefix}DELETE": "on", "_save": "Save"})


def disabled(staff, subscription, endpoint):
    """By the action of the list; the admin has no other page that deletes endpoints."""
    chosen = {"action": "disable", "_selected_action": endpoint}
    return staff.send(f"{ADMIN}endpoint/", chosen)


def with_its_subscription(staff, subscription, endpoint):
    return staff.send(f"{ADMIN}subscription/{subscription}/delete/", {"post": "yes"})


def with_its_subscription_in_the_list(staff, subscription, endpoint):
    chosen = {"action": "delete_selected", "_selected_action": subscription, "post": "yes"}
    return staff.send(f"{ADMIN}subscription/", chosen)


#: Of the subscription that stays, and of those that go.
WAYS = [in_the_subscription, disabled, in_the_subscription, in_the_subscription]
LAST = [with_its_subscription, with_its_subscription_in_the_list]


def test_nothing_is_lost_or_repeated_and_no_form_fails(harness):
    receivers, other = [Receiver(), Receiver()], Receiver()
    # Each that is active next is at the other host.
    urls = [f"{receivers[n % 2].url}/{n}" for n in range(len(WAYS) + 1)]
    harness.settings = with_admin.SETTINGS
    try:
        harness.migrate()
        harness.python(
            "from django.contrib.auth.models import User\n"
            f"User.objects.create_superuser('ada', password={PASSWORD!r})"
        )
        for endpoints in (urls, *([f"{other.url}/{n}"] for n in range(len(LAST)))):
            harness.subscribe_pair(*endpoints)
        harness.worker()
        harness.beat()
        harness.web()
        [web] = harness.folder.glob("*-web.log")
        staff = Staff(harness.site, username="ada", password=PASSWORD)
        stays, *go = active(harness)
        with traffic(harness, rate=RATE) as events:
            for way, subscription in [(way, stays) for way in WAYS] + list(
                zip(LAST, go, strict=True)
            ):
                endpoint = active(harness)[subscription]
                arrives(*receivers)

                answer = way(staff, subscription, endpoint)

                assert answer.status_code == 302, web.read_text()
                assert active(harness).get(subscription) != endpoint, way
            arrives(*receivers)
            until(lambda: len(events.committed) > RATE, "the web process saves too slowly")
        wanted = harness.committed()
        until(lambda: is_over(harness, stays, len(wanted)), "not all arrived")
        attempts = harness.python(
            "from django_webhooks.models import Attempt\n"
            f"rows = Attempt.objects.filter(delivery__subscription={stays!r})\n"
            "print(json.dumps([[one.delivery.message_id, one.endpoint_host]"
            " for one in rows.select_related('delivery__event')]))"
        )
    finally:
        for receiver in (*receivers, other):
            receiver.close()
    assert events.refused == 0
    assert len(wanted) == len(events.committed) > RATE
    asked = Counter((key, f"127.0.0.1:{one.port}") for one in receivers for key in one.ids)
    assert asked == Counter((key, host) for key, host in attempts)
    # Each went to one host, once.
    assert set(Counter(key for key, _ in asked.elements()).values()) == {1}
    assert len(asked) == len(wanted)
    assert all(one.ids for one in receivers)
    # Those that are gone got nothing twice.
    assert set(
        Counter((one.path, one.headers["webhook-id"]) for one in other.requests).values()
    ) == {1}


def arrives(*receivers):
    """Wait until something more has arrived."""
    before = sum(len(one.requests) for one in receivers)
    until(lambda: sum(len(one.requests) for one in receivers) > before + 5, "nothing arrives")


def is_over(harness, subscription, count):
    return count == harness.python(
        "from django_webhooks.models import Delivery\n"
        f"rows = Delivery.objects.filter(subscription={subscription!r}, status='succeeded')\n"
        "print(json.dumps(rows.count()))"
    )


def active(harness):
    """Return the active endpoint of each subscription, in the order of subscribing."""
    return harness.python(
        "from django_webhooks.models import EndpointHealth\n"
        "rows = EndpointHealth.objects.filter(is_active=True).order_by('subscription_id')\n"
        "print(json.dumps({str(one.subscription_id): str(one.endpoint_id) for one in rows}))"
    )
