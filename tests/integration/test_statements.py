"""Statements whose text is made once."""

from __future__ import annotations

import pytest
from django.db import connection

from django_webhooks.fields import DatabaseNow
from django_webhooks.models import Delivery, Event, EventTypePattern
from django_webhooks.sending import listeners, statements
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _nothing_is_kept(monkeypatch):
    monkeypatch.setattr(statements, "_selects", {})
    monkeypatch.setattr(statements, "_inserts", {})


@pytest.fixture
def patterns():
    factories.subscription(event_types=["order.paid", "order.*", "user.joined"])


def exactly(texts):
    return EventTypePattern.objects.filter(pattern__in=texts).order_by("pk").values_list("pattern")


def select(make, texts):
    return [tuple(row) for row in statements.select(make, texts, key="test", using="default")]


@pytest.mark.usefixtures("patterns")
class TestSelect:
    def test_the_next_texts_take_the_places_of_the_first(self):
        assert select(exactly, ["order.*", "nothing"]) == [("order.*",)]
        assert select(exactly, ["nothing", "user.joined"]) == [("user.joined",)]

    def test_the_query_is_made_once(self):
        made = []

        def make(texts):
            made.append(texts)
            return exactly(texts)

        for text in ("order.*", "order.paid", "user.joined"):
            assert select(make, [text]) == [(text,)]
        assert len(made) == 1

    def test_another_number_of_texts_is_another_query(self):
        assert select(exactly, ["order.*"]) == [("order.*",)]
        assert select(exactly, ["order.*", "order.paid"]) == select(
            exactly, ["order.paid", "order.*"]
        )

    def test_texts_that_are_changed_on_the_way_are_asked_for_each_time(self):
        def changed(texts):
            return exactly([text.lower() for text in texts])

        assert select(changed, ["ORDER.PAID"]) == [("order.paid",)]
        assert select(changed, ["USER.JOINED"]) == [("user.joined",)]
        assert list(statements._selects.values()) == [None]


class TestInsert:
    def rows(self):
        now = factories.Clock()()
        subscription = factories.subscription()
        event = Event(type="order.paid", body=b'{"\xc3\xa9": 1}', created_at=now)
        delivery = Delivery(
            event=event, subscription=subscription, due_at=DatabaseNow(), created_at=now
        )
        return event, delivery

    @pytest.mark.parametrize("is_text_kept", [True, False])
    def test_what_is_inserted_reads_back(self, is_text_kept, monkeypatch):
        if not is_text_kept:
            monkeypatch.setattr(statements, "_insert_of", lambda *args, **options: None)
        for _ in range(2):
            event, delivery = self.rows()

            statements.insert(event, using="default")
            statements.insert(delivery, using="default")

            stored = Event.objects.get(pk=event.pk)
            assert (stored.type, bytes(stored.body)) == (event.type, event.body)
            assert (stored.created_at, stored.idempotency_digest) == (event.created_at, None)
            found = Delivery.objects.get(event=event)
            assert (found.pk, found.subscription_id) == (delivery.pk, delivery.subscription_id)
            assert found.due_at is not None
            assert [one._state.adding for one in (event, delivery)] == [False, False]

    def test_the_text_is_made_once_for_each_kind_of_row(self):
        for _ in range(2):
            event, delivery = self.rows()
            statements.insert(event, using="default")
            statements.insert(delivery, using="default")
            held = Delivery(event=event, subscription_id=delivery.subscription_id, replay=1)
            statements.insert(held, using="default")

        assert [bool(text) for text in statements._inserts.values()] == [True] * 3
        assert Delivery.objects.filter(due_at=None).count() == 2


def test_what_is_kept_is_bounded(monkeypatch):
    monkeypatch.setattr(statements, "MAX_KEPT", 3)

    for count in range(1, 9):
        select(exactly, [f"order.{number}" for number in range(count)])

    assert len(statements._selects) <= 3


@pytest.mark.skipif(connection.vendor == "sqlite", reason="keys are text there anyway")
def test_listeners_have_keys_of_the_right_type():
    subscription = factories.subscription(event_types=["order.paid"])

    (found,) = listeners.find([("order.paid", listeners.OwnerKey())], using="default")

    assert found.subscription_id == subscription.pk
    assert (found.is_flowing, found.is_global) == (True, False)


class TestSomebodyListens:
    @pytest.fixture(autouse=True)
    def _as_if_committed(self, monkeypatch):
        monkeypatch.setattr(listeners, "_may_roll_back", lambda using: False)

    def test_is_asked_once_in_a_while(self, monkeypatch):
        asked = []
        real = listeners._query

        def query(*args, **options):
            asked.append(options["asks_for_anybody"])
            return real(*args, **options)

        monkeypatch.setattr(listeners, "_query", query)
        now = [100.0]
        monkeypatch.setattr(listeners.time, "monotonic", lambda: now[0])
        factories.subscription(event_types=["order.paid"])
        wanted = [("order.paid", listeners.OwnerKey())]

        listeners.forget_silence()
        for moment in (100.0, 101.0, 104.9, 105.1, 106.0):
            now[0] = moment
            statements._selects.clear()
            assert len(listeners.find(wanted, using="default")) == 1

        assert asked == [True, False, False, True, False]

    def test_and_is_forgotten_with_the_silence(self):
        subscription = factories.subscription(event_types=["order.paid"])
        wanted = [("order.paid", listeners.OwnerKey())]
        assert listeners.find(wanted, using="default")
        assert listeners._heard_until

        subscription.delete()

        assert listeners._heard_until == {}
        assert listeners.find(wanted, using="default") == []
