"""One trip to PostgreSQL for an event that is heard: it writes what the outbox writes otherwise."""

from __future__ import annotations

import itertools

import pytest
from django.db import DatabaseError, connection, transaction
from django.test import TestCase

from django_webhooks import events
from django_webhooks.exceptions import PayloadError
from django_webhooks.fields import uuid7
from django_webhooks.migrations import _record
from django_webhooks.models import Delivery, Event, Health, Subscription
from django_webhooks.models.owner import OwnerKey
from django_webhooks.sending import fan_out, hops, listeners, one_trip, outbox
from tests import factories

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(connection.vendor != "postgresql", reason="a function of PostgreSQL"),
]

OURS, THEIRS = OwnerKey("shop.tenant", "1"), OwnerKey("shop.tenant", "2")
#: What differs between two events of the same kind.
OWN = {"id", "event_id", "created_at", "due_at", "body"}


@pytest.fixture(autouse=True)
def _as_if_committed(monkeypatch):
    monkeypatch.setattr(listeners, "_may_roll_back", lambda using: False)
    monkeypatch.setattr(one_trip, "_is_there", {})


@pytest.fixture
def trips(monkeypatch):
    """What each call of the function returned, in deliveries."""
    made = []
    real = one_trip.record

    def record(*args, **options):
        found = real(*args, **options)
        made.append(None if found is None else len(found))
        return found

    monkeypatch.setattr(one_trip, "record", record)
    return made


def stored(event):
    """Return the columns of an event and of its deliveries that tell what kind they are."""
    rows = [event, *Delivery.objects.filter(event=event).order_by("subscription_id")]
    return [
        {
            one.attname: getattr(fresh, one.attname)
            for one in fresh._meta.concrete_fields
            if one.attname not in OWN
        }
        | {"is_due": getattr(fresh, "due_at", None) is not None}
        for fresh in (type(row).objects.get(pk=row.pk) for row in rows)
    ]


def plain():
    factories.subscription()


def several():
    for number in range(3):
        factories.subscription(name=str(number), event_types=["order.paid", "*"])


def in_order():
    factories.subscription(ordering="all")
    factories.subscription(ordering="key")


def held():
    factories.subscription(status=Subscription.Status.PAUSED)
    factories.subscription(url=None)
    failing, slow = factories.subscription(), factories.subscription()
    Health.objects.filter(subscription=failing).update(is_active=None)
    Health.objects.filter(subscription=slow).update(ramp=1)


def owned():
    for owner in (OURS, THEIRS):
        factories.subscription(owner_type=owner.type, owner_id=owner.id)
    factories.subscription(is_global=True)
    factories.subscription()


@pytest.mark.parametrize("owner", [None, OURS, OwnerKey("shop.tenant", "nobody")])
@pytest.mark.parametrize("listening", [plain, several, in_order, held, owned])
def test_writes_what_the_statements_write(listening, owner, trips, heard):
    listening()
    draft = fan_out.Draft(
        event_type="order.paid",
        data={"text": "ä'\\"},
        owner=owner,
        ordering_key="""ö'1"\\ {,NULL}""",
    )
    recorded = []
    for _ in range(2):
        with TestCase.captureOnCommitCallbacks(execute=True):
            recorded += outbox.record([draft], using="default")

    first, second = recorded
    if first.event is None:
        assert (second.event, trips) == (None, [])
        assert not Event.objects.exists()
        return
    assert trips == [len(first.deliveries)]
    assert stored(second.event) == stored(first.event)
    assert second.event.payload["data"] == {"text": "ä'\\"}
    row = Event.objects.get(pk=second.event.pk)
    assert (row.payload, row.created_at) == (second.event.payload, second.event.created_at)
    for one in recorded:
        for delivery in one.deliveries:
            row = Delivery.objects.get(pk=delivery.pk)
            assert (row.event_id, row.created_at) == (one.event.pk, one.event.created_at)
            assert (delivery.due_at is None) == (row.due_at is None)
            assert delivery.ordering_key == row.ordering_key
            assert not delivery._state.adding
        assert list(one.due) == [row.pk for row in one.deliveries if row.due_at is not None]
    assert heard == [(one.event, list(one.deliveries)) for one in recorded]


@pytest.mark.parametrize(
    ("before", "after"), [pair for pair in itertools.product(range(4), repeat=2) if pair[0]]
)
def test_whoever_listens_now_gets_it_once(before, after, trips):
    def listening(count):
        Subscription.objects.all().delete()
        for number in range(count):
            factories.subscription(name=str(number))

    listening(before)
    factories.record()
    heard = dict(listeners._heard_until)
    listening(after)
    # Another process changed it, which this one does not know yet.
    listeners._heard_until.update(heard)
    listeners.expect(before, "order.paid", OwnerKey(), using="default")

    deliveries = factories.record()

    assert trips == [after if after in (0, before) else None]
    assert sorted(one.subscription_id for one in deliveries) == sorted(
        Subscription.objects.values_list("pk", flat=True)
    )
    assert Delivery.objects.filter(pk__in=[one.pk for one in deliveries]).count() == after
    assert Event.objects.count() == 1 + bool(after)
    # The next one expects what is so now.
    factories.record()
    assert trips[1:] == ([after] if after else [])


def test_costs_one_query(django_assert_num_queries):
    factories.subscription()
    factories.record()
    one_trip.is_possible("default")
    with django_assert_num_queries(1):
        factories.record()


@pytest.mark.django_db(transaction=True)
def test_outside_of_a_transaction_it_is_one_statement_too(django_assert_num_queries, trips):
    factories.subscription()
    factories.record()
    one_trip.is_possible("default")
    with django_assert_num_queries(1):
        factories.record()
    assert (trips, Event.objects.count(), Delivery.objects.count()) == ([1], 2, 2)


def test_a_statement_that_fails_takes_the_transaction_with_it(monkeypatch):
    factories.subscription()
    factories.record()
    monkeypatch.setattr(one_trip, "_CALL", "SELECT 1 / 0, length")
    with transaction.atomic():
        with pytest.raises(DatabaseError):
            factories.record()
        assert connection.needs_rollback
    assert Event.objects.count() == 1


def test_deliveries_that_nobody_looks_at_are_not_made(trips, monkeypatch):
    factories.subscription()
    factories.record()
    made = []
    monkeypatch.setattr(one_trip, "Delivery", lambda **fields: made.append(fields))
    event = events.emit("order.paid", {"id": 1})

    assert (trips, made) == ([1], [])
    assert Delivery.objects.filter(event=event).count() == 1


def test_events_that_nobody_looks_at_are_not_made(trips, monkeypatch):
    factories.subscription()
    factories.record()
    made = []
    monkeypatch.setattr(fan_out, "Event", lambda **fields: made.append(fields))
    recorded = events.record(
        [fan_out.Draft(event_type="order.paid", data={"id": 1})], using="default"
    )

    assert (trips, len(recorded), made) == ([1], 1, [])
    assert Event.objects.count() == 2


def test_who_listens_is_asked_again_in_a_while(trips, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(listeners.time, "monotonic", lambda: now[0])
    factories.subscription()
    for moment in (100.0, 101.0, 104.9, 105.1, 106.0):
        now[0] = moment
        factories.record()
    assert trips == [1, 1, 1]


@pytest.mark.parametrize(
    "draft",
    [
        {"idempotency_key": "once"},
        {"not_to": [uuid7()]},
    ],
)
def test_what_is_out_of_the_ordinary_is_not_done_so(draft, trips):
    factories.subscription()
    factories.record()
    assert len(factories.record(**draft)) == 1
    assert trips == []


def test_what_went_round_in_a_circle_is_not_sent(trips, settings):
    factories.subscription()
    factories.record()
    settings.WEBHOOKS_MAX_HOPS = 2
    with hops.handling({hops.HEADER: "2"}):
        [delivery] = factories.record()
    assert (delivery.status, delivery.reason) == (Delivery.Status.GIVEN_UP, "loop")
    assert trips == []


def test_what_a_webhook_led_to_tells_how_many_did(trips):
    factories.subscription()
    factories.record()
    with hops.handling({hops.HEADER: "2"}):
        [delivery] = factories.record()
    assert (Event.objects.get(pk=delivery.event_id).hops, trips) == (3, [1])


def test_more_than_an_array_is_good_for_are_written_as_usual(trips, monkeypatch):
    monkeypatch.setattr(one_trip, "MAX_LISTENERS", 2)
    several()
    for _ in range(2):
        assert len(factories.record()) == 3
    assert trips == []


def test_data_that_is_no_json_is_refused_before_anything_is_asked(trips):
    factories.subscription()
    factories.record()
    with transaction.atomic(), pytest.raises(PayloadError):
        events.emit("order.paid", {"id": object()})
    assert trips == []
    assert Event.objects.count() == 1


def test_an_owner_that_was_not_heard_yet_is_expected_to_have_as_many_listeners(trips):
    for owner in (OURS, THEIRS):
        factories.subscription(owner_type=owner.type, owner_id=owner.id)
    nobody = OwnerKey("shop.tenant", "nobody")

    assert len(factories.record(owner=OURS)) == 1
    assert len(factories.record(owner=THEIRS)) == 1
    assert trips == [1]
    # It has none, which is remembered: its events are not made for nothing again.
    assert [factories.record(owner=nobody) for _ in range(2)] == [[], []]
    assert trips == [1, 0]
    assert Event.objects.count() == 2


def test_data_that_is_no_json_is_no_error_where_nobody_listens(trips):
    factories.subscription(owner_type=OURS.type, owner_id=OURS.id)
    factories.record(owner=OURS)
    draft = fan_out.Draft(event_type="order.paid", data={"id": object()}, owner=THEIRS)
    [recorded] = outbox.record([draft], using="default")
    assert (recorded.event, trips) == (None, [])


def test_where_the_function_is_missing_events_are_recorded_as_usual(trips):
    with connection.cursor() as cursor:
        cursor.execute(f"DROP FUNCTION {_record.SIGNATURE}")
    factories.subscription()
    for _ in range(2):
        assert len(factories.record()) == 1
    assert trips == []


def test_a_user_who_may_not_call_it_does_without(trips):
    with connection.cursor() as cursor:
        cursor.execute(f"REVOKE EXECUTE ON FUNCTION {_record.SIGNATURE} FROM PUBLIC")
        cursor.execute("CREATE ROLE webhooks_test_clerk")
        cursor.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO webhooks_test_clerk")
        cursor.execute("SET LOCAL ROLE webhooks_test_clerk")
    factories.subscription()
    for _ in range(2):
        assert len(factories.record()) == 1
    assert trips == []


def test_the_migration_can_be_taken_back(django_assert_num_queries):
    with connection.schema_editor() as editor:
        _record.drop(None, editor)
        assert not one_trip.is_possible("default")
        one_trip._is_there.clear()
        _record.create(None, editor)
    assert one_trip.is_possible("default")
    with django_assert_num_queries(0):
        assert one_trip.is_possible("default")
