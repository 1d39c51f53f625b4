"""Fan-out: a worker makes the deliveries of events, in bounded batches, each once and in order."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from datetime import timedelta

import pytest
from django import db
from django.db import connection, transaction

from django_webhooks import signals
from django_webhooks.events import Draft, emit, emit_many
from django_webhooks.fields import uuid7, uuid7_at, uuid7_beside
from django_webhooks.models import Delivery, Endpoint, Event, Subscription
from django_webhooks.models.event_type_pattern import EventTypePattern
from django_webhooks.models.figures.heartbeat import Heartbeat
from django_webhooks.sending import maintenance, worker
from django_webhooks.sending.database import carried_on
from django_webhooks.sending.fan_out import fan_out, operational
from tests import factories
from tests.receivers import receiving
from tests.testapp.models import Shop

pytestmark = pytest.mark.django_db


def make_lock():
    """Make the row that fan-outs lock, and ask for the time, as the first of all does."""
    Heartbeat.objects.lock(fan_out.LOCK)
    carried_on(using="default")()


def make():
    return fan_out.make(using="default")


def subscribe(count, event_types=("order.*",), **fields):
    """Subscribe so many in bulk, without endpoints."""
    made = Subscription.objects.bulk_create(
        Subscription(name=f"CRM {number}", **fields) for number in range(count)
    )
    EventTypePattern.objects.bulk_create(
        EventTypePattern(subscription=one, pattern=pattern)
        for one in made
        for pattern in event_types
    )
    return made


@pytest.fixture
def small_batches(monkeypatch):
    monkeypatch.setattr(fan_out, "MAX_DELIVERIES", 4)
    monkeypatch.setattr(fan_out, "MAX_EVENTS", 3)


def test_nothing_to_do_costs_one_query(django_assert_num_queries):
    with django_assert_num_queries(1):
        assert make() == fan_out.Batch()


def test_events_become_deliveries_that_are_due_or_held():
    flowing, paused = factories.subscription(), factories.subscription()
    paused.pause()
    event = emit("order.paid", {})

    batch = make()

    found = {one.subscription_id: one for one in event.deliveries.all()}
    assert set(found) == {flowing.pk, paused.pk}
    assert found[paused.pk].due_at is None
    assert (batch.events, batch.due, batch.leased) == (1, [found[flowing.pk].pk], [])
    event.refresh_from_db()
    assert (event.fan_out, event.fan_out_cursor) == (None, None)


def test_what_is_due_and_waits_for_no_turn_is_leased_at_once():
    made = [factories.subscription(ordering=one) for one in ("none", "none", "key")]
    made.append(factories.subscription())
    made[-1].pause()
    event = emit("order.paid", {}, ordering_key="a")
    until = carried_on(using="default")() + timedelta(seconds=60)
    claim = fan_out.Claim(token=uuid7(), until=until, limit=1)

    batch = fan_out.make(using="default", claim=claim, is_told=True)

    one, other, ordered, held = [
        event.deliveries.get(subscription=subscription) for subscription in made
    ]
    assert (batch.leased, batch.due) == ([one.pk], [other.pk, ordered.pk])
    assert (one.lease_token, one.due_at) == (claim.token, until)
    assert [row.lease_token for row in (other, ordered, held)] == [None] * 3
    assert (other.due_at < until, held.due_at) == (True, None)


def test_who_is_told_of_nothing_finds_nothing():
    assert fan_out.make(using="default", is_told=True) == fan_out.Batch()


def test_subscriptions_are_those_that_there_are_at_the_fan_out():
    gone, late = factories.subscription(), None
    event = emit("order.paid", {})
    gone.delete()
    late = factories.subscription()

    factories.fan_out()

    assert [one.subscription for one in event.deliveries.all()] == [late]


def test_events_of_several_owners_and_types_are_made_together(django_assert_num_queries):
    shops = [Shop.objects.create(name=str(number)) for number in range(3)]
    own = [factories.subscription(owner=shop, event_types=["order.paid"]) for shop in shops]
    everybody = factories.subscription(is_global=True, event_types=["*"])
    made = emit_many(
        Draft(event_type=name, data={}, owner=shop)
        for shop in shops
        for name in ("order.paid", "user.joined")
    )

    make_lock()
    # Whether there is anything, the lock, events, listeners, deliveries, and the events again,
    # between a savepoint and its release.
    with transaction.atomic(), django_assert_num_queries(8):
        make()

    heard = {
        (event.type, event.owner_id): {one.subscription_id for one in event.deliveries.all()}
        for event in made
    }
    for shop, one in zip(shops, own, strict=True):
        assert heard["order.paid", str(shop.pk)] == {one.pk, everybody.pk}
        assert heard["user.joined", str(shop.pk)] == {everybody.pk}


@pytest.mark.usefixtures("small_batches")
class TestBatches:
    """What one transaction makes is bounded; the next goes on where it ended."""

    @pytest.mark.parametrize("count", [3, 4, 5, 8, 9, 13])
    def test_an_event_that_many_hear_is_cut_at_its_cursor(self, count):
        made = subscribe(count, event_types=["order.*", "*"])
        event = emit("order.paid", {})
        sizes = []

        while make().is_more:
            sizes.append(event.deliveries.count())

        assert Counter(one.subscription_id for one in event.deliveries.all()) == Counter(
            one.pk for one in made
        )
        assert all(later - earlier <= 4 for earlier, later in itertools.pairwise(sizes))
        event.refresh_from_db()
        assert (event.fan_out, event.fan_out_cursor) == (None, None)

    def test_it_says_so_meanwhile(self):
        subscribe(9)
        event = emit("order.paid", {})
        assert "Waits since" in event.explain()

        make()

        event.refresh_from_db()
        assert event.fan_out_cursor is not None
        assert event.explain() == "A worker is making its deliveries."

    def test_events_behind_it_are_made_after_it(self):
        subscribe(5)
        made = [emit("order.paid", {"n": number}) for number in range(8)]

        order = []
        while (batch := make()).events or batch.is_more:
            order.append([one.deliveries.count() for one in made])

        assert order[-1] == [5] * 8
        assert order == sorted(order)
        ids = list(Delivery.objects.order_by("pk").values_list("event_id", flat=True))
        assert ids == [one.pk for one in made for _ in range(5)]

    def test_an_event_that_becomes_visible_late_goes_first(self):
        subscribe(5)
        late = Event(type="order.paid", body=b"{}")
        begun = emit("order.paid", {})
        make()
        assert 0 < begun.deliveries.count() < 5
        late.save()

        factories.fan_out()

        assert [one.deliveries.count() for one in (late, begun)] == [5, 5]

    def test_subscriptions_that_come_and_go_meanwhile(self):
        made = subscribe(9)
        event = emit("order.paid", {})
        make()
        Subscription.objects.filter(pk=made[-1].pk).delete()
        [late] = subscribe(1)

        factories.fan_out()

        heard = {one.subscription_id for one in event.deliveries.all()}
        assert heard == {one.pk for one in made[:-1]} | {late.pk}

    def test_what_nobody_hears_is_no_obstacle(self):
        subscribe(1)
        vain = Event.objects.bulk_create(Event(type="user.joined", body=b"{}") for _ in range(7))
        heard = emit("order.paid", {})

        factories.fan_out()

        assert not Event.objects.filter(pk__in=[one.pk for one in vain]).exists()
        assert heard.deliveries.count() == 1


class TestPoison:
    """An event whose fan-out raises is told of and passed over."""

    @pytest.fixture
    def poison(self, monkeypatch):
        factories.subscription()
        made = [emit("order.paid", {"n": number}) for number in range(5)]
        real, bad = fan_out._deliveries, {made[1].pk, made[3].pk}

        def deliveries(event, audience, *, using):
            if event.pk in bad:
                # The database itself refuses it.
                Event.objects.create(pk=event.pk, type="x" * 200, body=None)
            return real(event, audience, using=using)

        monkeypatch.setattr(fan_out, "_deliveries", deliveries)
        yield made
        bad.clear()

    def test_the_others_are_made(self, poison, caplog):
        factories.fan_out()

        assert [one.deliveries.count() for one in poison] == [1, 0, 1, 0, 1]
        assert list(Event.objects.failed().order_by("pk")) == [poison[1], poison[3]]
        assert poison[1].message_id in caplog.text
        assert "could not be made" in Event.objects.failed()[0].explain()

    def test_it_is_a_problem_until_it_is_fanned_out_again(self, poison, monkeypatch):
        from django_webhooks.sending.figures import health_report

        factories.fan_out()
        [problem] = health_report.report().of(health_report.Kind.FAN_OUT)
        assert problem.count == 2
        assert "2 events" in str(problem)
        monkeypatch.undo()

        assert Event.objects.fan_out_again() == 2
        factories.fan_out()

        assert [one.deliveries.count() for one in poison] == [1] * 5
        assert not health_report.report().of(health_report.Kind.FAN_OUT)

    @pytest.mark.parametrize(
        "fault",
        [
            db.OperationalError,
            db.InterfaceError,
            db.InternalError,
            db.NotSupportedError,
            # As of a worker whose version is not that of the tables.
            db.ProgrammingError,
            MemoryError,
        ],
    )
    def test_a_fault_of_no_event_is_no_poison(self, monkeypatch, fault):
        factories.subscription()
        emit("order.paid", {})

        def fail(*args, **kwargs):
            raise fault("gone")

        monkeypatch.setattr(fan_out, "_store", fail)
        with pytest.raises(fault):
            make()

        assert Event.objects.waiting().count() == 1


def test_ids_of_deliveries_stand_where_their_events_do():
    first, second = uuid7(), uuid7()

    beside = [uuid7_beside(key) for key in (second, first, second, first)]

    assert len(set(beside)) == 4
    assert max(beside[1], beside[3]) < min(beside[0], beside[2])
    assert {one.version for one in beside} == {7}


def test_an_operational_event_has_its_deliveries_at_once():
    failing = factories.subscription()
    told = factories.subscription(event_types=["webhooks.*"], url="http://127.0.0.1:9/b")
    factories.subscription(event_types=["webhooks.*"], url="http://127.0.0.1:9/same")
    kind = operational.TYPES[operational.Kind.UNHEALTHY]

    count = operational.emit(kind, failing, {}, about=["http://127.0.0.1:9/same"], using="default")

    assert count == 1
    [delivery] = Delivery.objects.all()
    assert (delivery.subscription, delivery.event.fan_out) == (told, None)
    assert operational.emit(operational.DISABLED, told, {}, using="default") == 1


def test_a_run_fans_out_and_sends():
    with receiving(204) as receiver:
        factories.subscription(url=receiver.url)
        for number in range(3):
            emit("order.paid", {"n": number})

        drained = worker.drain()

    assert drained.attempts == 3
    assert len(receiver.requests) == 3


def test_who_is_eager_sends_the_deliveries_of_its_events_alone():
    with receiving(204) as receiver:
        factories.subscription(url=receiver.url)
        emit("order.paid", {"n": 1})
        mine = emit("order.paid", {"n": 2})

        drained = worker.drain(event_ids=[mine.pk], is_patient=False)

    assert drained.attempts == 1
    assert [one.payload["data"]["n"] for one in [mine]] == [2]
    assert list(Delivery.objects.succeeded().values_list("event", flat=True)) == [mine.pk]


def test_kept_events_are_pruned_when_their_retention_is_over(settings):
    settings.WEBHOOKS_KEEP_UNHEARD = True
    settings.WEBHOOKS_RETENTION_DAYS = {"unheard": 30}
    old, young = emit("order.paid", {}), emit("order.paid", {})
    factories.fan_out()
    clock = factories.Clock(old.created_at)
    clock.move(days=-31)
    Event.objects.filter(pk=old.pk).update(id=uuid7_at(clock()))

    assert maintenance.prune(dry_run=True) == 1
    assert maintenance.prune() == 1
    assert list(Event.objects.all()) == [young]


@pytest.mark.django_db(transaction=True)
class TestTogether:
    """Several at the same time."""

    def in_threads(self, *runs):
        errors = []

        def run(one):
            try:
                one()
            except Exception as error:
                errors.append(error)
            finally:
                connection.close()

        threads = [threading.Thread(target=run, args=[one]) for one in runs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not errors

    @pytest.mark.usefixtures("small_batches")
    def test_several_fan_outs_make_each_delivery_once(self):
        made = subscribe(7)
        events = [emit("order.paid", {"n": number}) for number in range(10)]

        self.in_threads(*[lambda: fan_out.make_all(using="default")] * 3)

        pairs = Counter(Delivery.objects.values_list("event", "subscription"))
        assert pairs == Counter((event.pk, one.pk) for event in events for one in made)

    @pytest.mark.usefixtures("small_batches")
    def test_subscriptions_that_are_deleted_meanwhile_neither_fail_nor_keep_anything(self):
        made = subscribe(12)
        for _ in range(8):
            emit("order.paid", {})

        self.in_threads(
            lambda: fan_out.make_all(using="default"),
            lambda: [one.delete() for one in made[::2]],
        )
        maintenance.cancel_orphans()

        there = {one.pk for one in made[1::2]}
        waiting = Delivery.objects.waiting().values_list("subscription", flat=True)
        assert set(waiting) <= there
        assert Counter(waiting) == Counter(dict.fromkeys(there, 8))

    def test_a_deletion_that_lasts_holds_up_no_fan_out(self):
        if connection.vendor == "sqlite":
            pytest.skip("one transaction writes at a time")
        factories.subscription()
        gone = factories.subscription()
        event = emit("order.paid", {})

        with transaction.atomic():
            gone.delete()
            self.in_threads(lambda: fan_out.make_all(using="default"))

        maintenance.cancel_orphans()
        assert event.deliveries.waiting().count() == 1
        assert event.deliveries.count() == 2

    @pytest.mark.parametrize("is_paused", [False, True], ids=["due", "held"])
    def test_a_fan_out_that_lasts_holds_up_no_deletion(self, is_paused):
        if connection.vendor != "postgresql":
            pytest.skip("a deletion waits there for the rows that it is to change")
        gone = factories.subscription()
        if is_paused:
            gone.pause()
        event = emit("order.paid", {})

        with transaction.atomic():
            make()
            self.in_threads(gone.delete)
        # The delivery came too late to be cancelled with the others.
        assert event.deliveries.waiting().count() == 1
        assert worker.drain().attempts == 0
        maintenance.cancel_orphans()

        delivery = event.deliveries.get()
        assert (delivery.status, delivery.subscription) == (Delivery.Status.CANCELLED, None)
        assert delivery.reason == "subscription_deleted"


def test_the_database_refuses_to_make_a_delivery_twice():
    from django.db import IntegrityError

    subscription = factories.subscription()
    event = emit("order.paid", {})
    factories.fan_out()

    with transaction.atomic(), pytest.raises(IntegrityError), transaction.atomic():
        Delivery.objects.create(event=event, subscription=subscription)
    assert Endpoint.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_the_signal_tells_of_the_deliveries_that_were_made():
    found = []

    def hear(*, event, deliveries, **kwargs):
        found.append((event, deliveries))

    factories.subscription()
    factories.subscription()
    signals.event_fanned_out.connect(hear)
    try:
        made = [emit("order.paid", {}), emit("order.paid", {})]
        factories.fan_out()
    finally:
        signals.event_fanned_out.disconnect(hear)

    assert found == [(event, list(event.deliveries.order_by("subscription_id"))) for event in made]
    assert all(one.explain() for _, deliveries in found for one in deliveries)
