"""The outbox: captured, rewritten and taken back; what it hands out."""

from __future__ import annotations

import pytest

from django_webhooks import signals
from django_webhooks.events import Draft, emit, emit_many
from django_webhooks.exceptions import PayloadError, UnknownEventType
from django_webhooks.models import Event
from django_webhooks.sending import recording
from tests import factories
from tests.testapp.models import Shop

pytestmark = pytest.mark.django_db


class TestCapturing:
    """Events go to a listener instead of the tables."""

    def test_events_are_handed_over_and_nothing_is_written(self, django_assert_num_queries):
        shop, found = Shop(pk=7), []
        factories.subscription()

        with recording.capture(found.append), django_assert_num_queries(0):
            assert recording.is_capturing()
            event = emit("order.paid", {"id": 1}, owner=shop, idempotency_key="key")

        assert not recording.is_capturing()
        assert found == [event]
        assert (event.type, event.data, event.idempotency_key) == ("order.paid", {"id": 1}, "key")
        assert (event.owner_type, event.owner_id) == ("testapp.shop", "7")
        assert not Event.objects.exists()

    @pytest.mark.parametrize(
        ("event_type", "data", "error"),
        [("order.payd", {}, UnknownEventType), ("order.paid", object(), PayloadError)],
    )
    def test_mistakes_are_found_all_the_same(self, event_type, data, error):
        found = []

        with recording.capture(found.append), pytest.raises(error):
            emit(event_type, data)

        assert found == []

    def test_the_inner_capture_listens(self):
        inner, outer = [], []

        with recording.capture(outer.append):
            with recording.capture(inner.append):
                emit("order.paid", 1)
            emit("order.paid", 2)

        assert ([one.data for one in inner], [one.data for one in outer]) == ([1], [2])


class TestChangesBeforeTheCommit:
    """What this transaction recorded can still be told otherwise, or taken back."""

    def test_an_event_is_rewritten(self):
        factories.subscription()
        event = emit("order.paid", {"id": 1})

        assert recording.rewrite(
            event, event_type="order.item.added", data={"id": 2}, using="default"
        )

        stored = Event.objects.get()
        assert (stored.type, stored.data) == (event.type, event.data)
        assert (stored.type, stored.data) == ("order.item.added", {"id": 2})

    def test_an_event_that_is_not_there_is_not_rewritten(self):
        event = Event(type="order.paid", body=b'{"data":1}')

        assert not recording.rewrite(event, event_type="order.paid", data=2, using="default")
        assert event.data == 1

    def test_an_event_that_was_taken_back_is_not_announced(
        self, heard, django_capture_on_commit_callbacks
    ):
        factories.subscription()

        with django_capture_on_commit_callbacks(execute=True):
            event = emit("order.paid", {})
            kept = emit("order.paid", {})
            recording.forget(event, using="default")

        assert list(Event.objects.all()) == [kept]
        assert heard == [kept]


def test_a_receiver_of_the_signal_that_fails_harms_nothing(django_capture_on_commit_callbacks):
    def fail(**kwargs):
        raise RuntimeError

    factories.subscription()
    signals.event_recorded.connect(fail)
    try:
        with django_capture_on_commit_callbacks(execute=True):
            assert emit("order.paid", {}) is not None
    finally:
        signals.event_recorded.disconnect(fail)


def test_mistakes_are_found_before_anything_is_asked_or_written(django_assert_num_queries):
    drafts = [
        Draft(event_type="order.paid", data={}),
        Draft(event_type="order.payd", data={}),
    ]

    with django_assert_num_queries(0), pytest.raises(UnknownEventType):
        emit_many(drafts)


def test_nothing_to_record_costs_nothing(django_assert_num_queries):
    with django_assert_num_queries(0):
        assert emit_many([]) == []
