"""Recording events: all or nothing, for those who may hear them, in few queries."""

from __future__ import annotations

import threading

import pytest
from django.db import connection, transaction

from django_webhooks import wakeups
from django_webhooks.events import Draft, emit, emit_many
from django_webhooks.exceptions import PayloadError, PayloadTooLarge, UnknownEventType
from django_webhooks.models import Delivery, Event
from tests import factories
from tests.testapp.hooks import listen
from tests.testapp.models import Shop

pytestmark = pytest.mark.django_db


@pytest.fixture
def woken(monkeypatch):
    found = []
    monkeypatch.setattr(wakeups, "wake_for_events", found.append)
    return found


def test_an_event_and_a_delivery_for_each_listener_are_recorded():
    crm, erp = factories.subscription(), factories.subscription(event_types=["*"])
    factories.subscription(event_types=["user.*"])

    event = emit("order.paid", {"id": 7})
    factories.fan_out()

    assert event is not None
    assert Event.objects.get().payload == {
        "type": "order.paid",
        "timestamp": event.payload["timestamp"],
        "data": {"id": 7},
    }
    heard = set(Delivery.objects.values_list("subscription", flat=True))
    assert heard == {crm.pk, erp.pk}


def test_a_subscription_that_matches_twice_gets_one_delivery():
    factories.subscription(event_types=["*", "order.*", "order.paid"])

    emit("order.paid", {})
    factories.fan_out()

    assert Delivery.objects.count() == 1


def test_an_event_that_nobody_hears_is_not_recorded():
    factories.subscription(event_types=["user.*"])

    assert emit("order.paid", {}) is None
    assert not Event.objects.exists()


def test_what_happens_while_a_subscription_is_paused_is_recorded_and_held():
    subscription = factories.subscription()
    subscription.pause()

    emit("order.paid", {})
    factories.fan_out()

    assert Delivery.objects.held().count() == 1


def test_the_worker_is_told_after_commit(woken, django_capture_on_commit_callbacks):
    factories.subscription()

    with django_capture_on_commit_callbacks(execute=True):
        emit("order.paid", {})
        assert woken == []

    assert woken == [[Event.objects.get()]]


def test_what_nobody_hears_wakes_nobody(woken, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        emit("order.paid", {})

    assert woken == []


def test_event_recorded_is_sent_after_commit(heard, django_capture_on_commit_callbacks):
    factories.subscription()
    with django_capture_on_commit_callbacks(execute=True):
        event = emit("order.paid", {})
        assert heard == []

    assert heard == [event]


@pytest.mark.django_db(transaction=True)
def test_a_rollback_leaves_nothing(woken):
    factories.subscription()

    with transaction.atomic():
        emit("order.paid", {})
        transaction.set_rollback(True)

    assert not Event.objects.exists()
    assert not Delivery.objects.exists()
    assert woken == []


@pytest.mark.django_db(transaction=True)
def test_a_savepoint_rollback_leaves_nothing_of_the_savepoint(woken):
    factories.subscription()

    with transaction.atomic():
        kept = emit("order.paid", {"kept": True})
        with transaction.atomic():
            emit("order.paid", {"kept": False})
            transaction.set_rollback(True)

    assert [event.pk for event in Event.objects.all()] == [kept.pk]
    assert len(woken) == 1


@pytest.mark.django_db(transaction=True)
def test_bad_data_does_not_spoil_the_transaction():
    factories.subscription()

    with transaction.atomic():
        with pytest.raises(PayloadError):
            emit("order.paid", {"at": object()})
        emit("order.paid", {"id": 1})

    assert Event.objects.count() == 1


def test_nothing_is_written_where_one_of_many_is_bad():
    factories.subscription()

    with pytest.raises(PayloadError):
        emit_many([Draft(event_type="order.paid", data={}),
                   Draft(event_type="order.paid", data={"a": object()})])  # fmt: skip

    assert not Event.objects.exists()


def test_an_unknown_event_type_is_refused_with_the_nearest_name():
    with pytest.raises(UnknownEventType, match=r"did you mean 'order\.paid'"):
        emit("order.payd", {})


def test_unknown_event_types_can_be_allowed(settings):
    settings.WEBHOOKS_ALLOW_UNKNOWN_EVENT_TYPES = True
    factories.subscription()

    assert emit("order.brand_new", {}) is not None
    with pytest.raises(UnknownEventType, match="letters, digits"):
        emit("order paid", {})


def test_a_large_body_is_refused(settings):
    settings.WEBHOOKS_MAX_PAYLOAD_BYTES = 100
    factories.subscription()

    with pytest.raises(PayloadTooLarge):
        emit("order.paid", {"text": "x" * 100})


class TestIdempotency:
    """A key makes a second call return the first event."""

    @pytest.fixture(autouse=True)
    def _listener(self, db):
        factories.subscription(event_types=["*"])

    def test_a_second_emit_returns_the_first_and_sends_nothing(self):
        first = emit("order.paid", {"n": 1}, idempotency_key="paid-1")
        second = emit("order.paid", {"n": 2}, idempotency_key="paid-1")

        assert second.pk == first.pk
        assert second.data == {"n": 1}
        factories.fan_out()
        assert Delivery.objects.count() == 1

    def test_a_key_counts_for_its_type_and_owner(self):
        shop = Shop.objects.create(name="one")
        factories.subscription(event_types=["*"], owner=shop)

        made = [
            emit("order.paid", {}, idempotency_key="1"),
            emit("user.joined", {}, idempotency_key="1"),
            emit("order.paid", {}, idempotency_key="1", owner=shop),
        ]

        assert len({event.pk for event in made}) == 3

    def test_a_repeat_within_one_call_is_found(self):
        drafts = [Draft(event_type="order.paid", data={"n": n}, idempotency_key="1")
                  for n in range(3)]  # fmt: skip

        made = emit_many(drafts)

        assert len({event.pk for event in made}) == 1
        factories.fan_out()
        assert Delivery.objects.count() == 1

    def test_a_key_that_is_too_long_is_refused(self):
        with pytest.raises(ValueError, match="200 characters"):
            emit("order.paid", {}, idempotency_key="x" * 201)


@pytest.mark.django_db(transaction=True)
def test_of_two_at_the_same_time_one_is_first():
    factories.subscription()
    ready, made = threading.Barrier(2), []

    def run():
        try:
            ready.wait(60)
            made.append(emit("order.paid", {}, idempotency_key="same").pk)
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert len(made) == 2
    assert len(set(made)) == 1
    factories.fan_out()
    assert Delivery.objects.count() == 1


class TestQueries:
    """What recording costs."""

    @pytest.mark.parametrize("count", [1, 100])
    def test_emit_costs_the_same_whatever_the_number_of_subscriptions(
        self, count, django_assert_num_queries
    ):
        for _ in range(count):
            factories.subscription(url=None)

        with transaction.atomic():
            with django_assert_num_queries(2):
                emit("order.paid", {})
            # That somebody listens is remembered for a while.
            with django_assert_num_queries(1):
                emit("order.paid", {})

    def test_emit_many(self, django_assert_num_queries):
        factories.subscription()

        with transaction.atomic(), django_assert_num_queries(2):
            emit_many([Draft(event_type="order.paid", data={})] * 30)

    def test_nobody_listening_costs_one_query(self, django_assert_num_queries):
        for owner in (None, Shop(pk=5)):
            with django_assert_num_queries(1):
                emit("order.paid", {}, owner=owner)

    def test_many_owners_of_many_types_cost_one_query(self, django_assert_num_queries):
        factories.subscription(owner=Shop.objects.create(pk=1, name="one"))
        drafts = [
            Draft(event_type=name, data={}, owner=Shop(pk=key))
            for name in ("order.paid", "user.joined")
            for key in (1, 2, 3)
        ]

        with transaction.atomic(), django_assert_num_queries(2):
            made = emit_many(drafts)

        assert [event is not None for event in made] == [True] + [False] * 5


@pytest.mark.parametrize("name", ["idempotency_key", "ordering_key"])
@pytest.mark.parametrize(
    "key",
    [
        pytest.param(5, id="a number"),
        pytest.param(0, id="zero"),
        pytest.param(False, id="false"),
        pytest.param(b"paid", id="bytes"),
        pytest.param(("paid", 5), id="several"),
        pytest.param("paid\x00", id="NUL"),
        pytest.param("paid \ud800", id="half a character"),
        pytest.param("k" * 201, id="too long"),
    ],
)
@pytest.mark.parametrize("is_heard", [True, False], ids=["heard", "nobody listens"])
def test_a_key_that_cannot_be_stored_is_refused_before_anything_is_written(name, key, is_heard):
    if is_heard:
        listen()

    with transaction.atomic(), pytest.raises(ValueError, match=rf"{name} (is|of|without)"):
        emit("order.paid", {}, **{name: key})

    # The transaction is not spoilt.
    assert not Event.objects.exists()


@pytest.mark.parametrize("name", ["idempotency_key", "ordering_key"])
@pytest.mark.parametrize("key", ["k" * 200, "schlüssel", "鍵" * 200, ""], ids=len)
def test_a_key_may_be_any_text_of_two_hundred_characters(name, key):
    listen()

    event = emit("order.paid", {}, **{name: key})

    assert getattr(event, name) == key


@pytest.mark.parametrize("name", [None, 5, b"order.paid", ["order.paid"], ""], ids=repr)
def test_what_is_no_event_type_is_refused(name, settings):
    for allowed in (False, True):
        settings.WEBHOOKS_ALLOW_UNKNOWN_EVENT_TYPES = allowed
        with pytest.raises(UnknownEventType, match="event type"):
            emit(name, {})
