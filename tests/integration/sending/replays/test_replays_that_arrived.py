"""A delivery that was given up and whose replay arrived is told as arrived, everywhere."""

from __future__ import annotations

import itertools
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.urls import reverse

from django_webhooks import times
from django_webhooks.exceptions import NothingToReplay
from django_webhooks.models import BulkReplay, Delivery
from django_webhooks.sending import replays
from django_webhooks.sending.figures import statistics
from django_webhooks.sending.replays import Selection
from tests import factories

pytestmark = pytest.mark.django_db

GIVEN_UP, ARRIVED, CALLED_OFF, WAITS = "given_up", "succeeded", "cancelled", "waiting"
#: What became of an event: its delivery, then its replays; whether it is still to be seen to.
HISTORIES = {
    (GIVEN_UP,): True,
    (GIVEN_UP, WAITS): False,
    (GIVEN_UP, ARRIVED): False,
    (GIVEN_UP, GIVEN_UP): True,
    (GIVEN_UP, CALLED_OFF): True,
    (GIVEN_UP, GIVEN_UP, ARRIVED): False,
    (GIVEN_UP, ARRIVED, GIVEN_UP): False,
    (GIVEN_UP, GIVEN_UP, WAITS): False,
    (ARRIVED, GIVEN_UP): False,
    (ARRIVED, ARRIVED): False,
    (CALLED_OFF, ARRIVED): False,
    (CALLED_OFF, GIVEN_UP): True,
    (ARRIVED,): False,
    (CALLED_OFF,): False,
    (WAITS,): False,
}
each_history = pytest.mark.parametrize("history", HISTORIES, ids="-".join)


def happened(*statuses, subscription=None):
    """Let an event have had these deliveries, and return them."""
    subscription = subscription or factories.subscription(event_types=["order.paid"])
    [first] = factories.record()
    made = [first]
    for number, _ in enumerate(statuses[1:], start=1):
        made.append(
            Delivery.objects.create(
                event=first.event, subscription=subscription, replay=number, replay_of=first
            )
        )
    for one, status in zip(made, statuses, strict=True):
        is_over = status != WAITS
        Delivery.objects.filter(pk=one.pk).update(
            status=status,
            reason="" if status == ARRIVED else "http_500",
            due_at=None if is_over else times.now(),
            finished_at=times.now() if is_over else None,
        )
    return [Delivery.objects.get(pk=one.pk) for one in made]


@each_history
def test_what_has_not_arrived_is_counted_once(history):
    happened(*history)

    assert Delivery.objects.unresolved().count() == HISTORIES[history]
    count = statistics.unresolved(statistics.RANGES["24h"], now=times.now())
    assert count == HISTORIES[history]


@each_history
@pytest.mark.parametrize(
    "status", [GIVEN_UP, ARRIVED, CALLED_OFF, ""], ids=lambda one: one or "any"
)
def test_what_a_dry_run_counts_is_replayed(capsys, history, status):
    happened(*history)
    call_command("webhooks_replay", "--all", "--status", status or "any", "--dry-run")
    counted = int(capsys.readouterr().out.split(": ")[1].split()[0])

    try:
        made = replays.start(Selection(status=status), reason="test")
    except NothingToReplay:
        assert counted == 0
        return
    now = times.now()
    for _ in range(5):
        replays.go_on(made.pk, now=(now := now + timedelta(minutes=1)))
    made = BulkReplay.objects.get()

    assert (made.status, made.total, made.replayed, made.skipped) == ("done", counted, counted, 0)
    assert counted == 1


def test_the_same_holds_of_all_histories_together(capsys):
    subscription = factories.subscription(event_types=["order.paid"])
    for history in HISTORIES:
        happened(*history, subscription=subscription)

    assert Delivery.objects.unresolved().count() == sum(HISTORIES.values())
    expected = sum(GIVEN_UP in one and not {ARRIVED, WAITS} & set(one) for one in HISTORIES)
    call_command("webhooks_replay", "--all", "--dry-run")
    assert capsys.readouterr().out == f"CRM: {expected} deliveries would be replayed.\n"


@pytest.mark.parametrize(
    ("history", "which", "words"),
    [
        ((GIVEN_UP,), 0, "it can be replayed."),
        ((GIVEN_UP, WAITS), 0, "it is replayed, and the replay waits."),
        ((GIVEN_UP, ARRIVED), 0, "replayed, and arrived at 2"),
        ((ARRIVED, GIVEN_UP), 1, "its event had arrived at 2"),
    ],
)
def test_a_delivery_says_by_what_its_event_arrived(history, which, words):
    assert words in happened(*history)[which].explain()


class TestAdmin:
    def page(self, client, **query):
        address = reverse("admin:django_webhooks_delivery_changelist")
        return client.get(address, query).content.decode()

    def test_the_list_and_the_page_tell_it_apart(self, admin_client):
        arrived, _ = happened(GIVEN_UP, ARRIVED)
        text = self.page(admin_client)
        own = admin_client.get(
            reverse("admin:django_webhooks_delivery_change", args=[arrived.pk])
        ).content.decode()

        assert "Given up, arrived by a replay" in text
        assert "Given up (http_500)" not in text
        assert "Given up, arrived by a replay" in own
        assert "replayed, and arrived at" in own

    @pytest.mark.parametrize("history", [(GIVEN_UP,), (GIVEN_UP, ARRIVED), (GIVEN_UP, WAITS)])
    def test_filters_find_either(self, admin_client, history):
        first = happened(*history)[0]
        shown = {
            value: f"/{first.pk}/" in self.page(admin_client, replayed=value)
            for value in ("no", "arrived")
        }

        assert shown == {"no": history == (GIVEN_UP,), "arrived": history == (GIVEN_UP, ARRIVED)}
        assert "e=1" in admin_client.get(
            reverse("admin:django_webhooks_delivery_changelist"), {"replayed": "nonsense"}
        ).headers.get("Location", "e=1")

    @pytest.mark.parametrize("arrived", [False, True])
    def test_the_overview_counts_what_has_not_arrived(self, admin_client, arrived):
        from django_webhooks.sending.figures import rollups

        happened(GIVEN_UP, *([ARRIVED] if arrived else []))
        now = times.now()
        rollups.count(now=now - timedelta(seconds=1))
        rollups.count(now=now + timedelta(minutes=1))
        address = reverse("admin:django_webhooks_overviewpage_changelist")
        text = admin_client.get(address).content.decode()

        assert ("all arrived by a replay" in text) == arrived
        assert ("1 has not arrived since" in text) != arrived


def test_the_number_of_queries_does_not_grow_with_the_histories(django_assert_num_queries):
    subscription = factories.subscription(event_types=["order.paid"])
    for history in itertools.islice(HISTORIES, 5):
        happened(*history, subscription=subscription)

    with django_assert_num_queries(1):
        list(Delivery.objects.with_arrival())
