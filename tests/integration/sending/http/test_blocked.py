"""What is blocked says its cure where people look: in the log, in explain(), in the admin."""

from __future__ import annotations

import logging

import pytest

from django_webhooks.models import Attempt, Delivery, Endpoint, Subscription
from django_webhooks.sending import worker
from tests import factories, pages

pytestmark = pytest.mark.django_db
HTTPS = "Use an https URL, or set WEBHOOKS_REQUIRE_HTTPS to False."
OPEN = "use a public address, or open its network in WEBHOOKS_ALLOWED_NETWORKS."
CASES = {
    "https": ({"WEBHOOKS_REQUIRE_HTTPS": True}, "http://127.0.0.1:9/hook", HTTPS),
    "address": ({"WEBHOOKS_ALLOWED_NETWORKS": []}, "http://127.0.0.1:9/hook", OPEN),
    "name": ({"WEBHOOKS_ALLOWED_NETWORKS": []}, "http://web:8000/", "WEBHOOKS_ALLOWED_NETWORKS."),
    "port": ({"WEBHOOKS_ALLOWED_PORTS": [443]}, "http://127.0.0.1:9/", "WEBHOOKS_ALLOWED_PORTS"),
    "denied": (
        {"WEBHOOKS_DENIED_NETWORKS": ["127.0.0.0/8"]},
        "http://127.0.0.1:9/",
        "WEBHOOKS_DENIED_NETWORKS",
    ),
}


@pytest.fixture(params=CASES.values(), ids=CASES)
def blocked(request, settings, caplog):
    """A delivery that was blocked, the host, and the sentence that helps."""
    changed, url, cure = request.param
    for name, value in changed.items():
        setattr(settings, name, value)
    subscription = factories.subscription(url=None)
    clock = factories.Clock()
    with caplog.at_level(logging.INFO, "django_webhooks"):
        candidate = Endpoint.objects.create(subscription=subscription, url=url)
        factories.record()
        worker.drain(clock=clock)
    return Delivery.objects.get(), candidate.host, cure


def test_the_log_names_subscription_host_rule_and_setting(blocked, caplog):
    _, host, cure = blocked

    lines = [one.getMessage() for one in caplog.get_records("setup")]
    [line] = [one for one in lines if "will be tried again" in one]
    assert "to 'CRM'" in line
    assert host in line
    assert cure in line


def test_explain_does_too(blocked):
    delivery, host, cure = blocked

    assert f"Blocked at {host}: " in delivery.explain()
    assert cure in delivery.explain()


def test_what_is_held_behind_it_says_it_as_well(blocked):
    _, _, cure = blocked
    clock = factories.Clock()
    for number in range(4):
        factories.record(data={"id": number})
        clock.move(minutes=1)
        worker.drain(clock=clock)

    held = Delivery.objects.filter(due_at=None, attempts_made=0)
    assert held
    assert all(cure in one.explain() for one in held)


def test_who_may_not_see_hosts_is_told_the_rule_alone(blocked, client, django_user_model):
    delivery, host, _ = blocked

    told = delivery.explain(shows_hosts=False)

    assert host.partition(":")[0] not in told
    assert "is not allowed" in told


def test_the_page_of_the_delivery_shows_it(blocked, admin_client):
    delivery, _, cure = blocked

    page = admin_client.get(pages.url("delivery", "change", delivery.pk)).content.decode()

    assert cure in page.replace("&#x27;", "'")


def test_other_reasons_are_told_as_before(caplog):
    factories.delivery()
    clock = factories.Clock()
    with caplog.at_level(logging.INFO, "django_webhooks"):
        worker.drain(clock=clock)

    assert "Blocked" not in Delivery.objects.get().explain()
    [line] = [one for one in caplog.messages if "will be tried again" in one]
    assert "at 127.0.0.1:9 failed (connection), it" in line
    assert Attempt.objects.get().detail not in line


def test_a_log_line_is_one_line_whatever_a_name_holds(caplog):
    factories.delivery()
    Subscription.objects.update(name="C\nR\x1bM")
    with caplog.at_level(logging.INFO, "django_webhooks"):
        worker.drain(clock=factories.Clock())

    assert all(line.isprintable() for line in caplog.messages)


def test_create_warns_at_once(blocked, caplog):
    _, _, cure = blocked

    [told] = [one for one in caplog.get_records("setup") if "is blocked as it is" in one.message]
    assert "'CRM'" in told.message
    assert cure in told.message or "WEBHOOKS_" in told.message


def test_a_url_that_may_be_called_is_saved_in_silence(caplog):
    factories.subscription()
    Endpoint.objects.get().save()

    assert caplog.messages == []
