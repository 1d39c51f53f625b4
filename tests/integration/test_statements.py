"""Statements whose text is made once."""

from __future__ import annotations

import pytest
from django.db import IntegrityError, connection, models, transaction
from django.db.models import Value
from django.db.models.expressions import DatabaseDefault

from django_webhooks.fields import DatabaseNow, uuid7
from django_webhooks.models import Delivery, Event, EventTypePattern, Subscription
from django_webhooks.sending import listeners, statements
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _nothing_is_kept(monkeypatch):
    monkeypatch.setattr(statements, "_selects", {})
    monkeypatch.setattr(statements, "_inserts", {})
    monkeypatch.setattr(statements, "_rows", {})


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

    def test_what_is_inserted_reads_back(self):
        for _ in range(2):
            event, delivery = self.rows()

            statements.insert([event, delivery], using="default")

            stored = Event.objects.get(pk=event.pk)
            assert (stored.type, bytes(stored.body)) == (event.type, event.body)
            assert (stored.created_at, stored.idempotency_digest) == (event.created_at, None)
            found = Delivery.objects.get(event=event)
            assert (found.pk, found.subscription_id) == (delivery.pk, delivery.subscription_id)
            assert found.due_at is not None
            assert [one._state.adding for one in (event, delivery)] == [False, False]

    def test_every_column_reads_back_whatever_it_is(self):
        event, delivery = self.rows()
        event.ordering_key, event.hops, event.trace_parent = "it's \\ 100 %s", 3, "00-ab"
        event.owner_type, event.owner_id = "shop.tenant", "ä"
        delivery.replay, delivery.attempts_made, delivery.priority = 2, 12, 1
        delivery.has_new_message_id, delivery.due_at = True, None
        delivery.status, delivery.reason = Delivery.Status.GIVEN_UP, "loop"
        delivery.finished_at = delivery.created_at

        statements.insert([event, delivery], using="default")

        for row in (event, delivery):
            stored = type(row).objects.get(pk=row.pk)
            for field in row._meta.concrete_fields:
                kept, given = (getattr(one, field.attname) for one in (stored, row))
                assert kept == given or bytes(kept) == given, field.attname

    def test_what_a_project_gives_is_never_a_part_of_the_text(self):
        class Key(models.TextChoices):
            HOSTILE = "'); DROP TABLE x; -- %s", "hostile"

        event, delivery = self.rows()
        event.ordering_key = Key.HOSTILE

        statements.insert([event, delivery], using="default")

        assert Event.objects.get().ordering_key == Key.HOSTILE.value
        assert not any("DROP" in text for text in statements._inserts.values())

    @pytest.mark.parametrize("count", [1, 3])
    def test_what_the_database_fills_is_left_to_it(self, count):
        # As a field with db_default has it, which a later release may add.
        rows = [self.rows() for _ in range(count)]
        for _, delivery in rows:
            delivery.finished_at = DatabaseDefault(Value(None))
        statements.insert([event for event, _ in rows], using="default")

        if count == 1:
            statements.insert([delivery for _, delivery in rows], using="default")
        else:
            for _, delivery in rows:
                delivery.due_at = None
            statements.insert_all([delivery for _, delivery in rows], using="default")

        stored = Delivery.objects.values_list("finished_at", flat=True)
        assert list(stored) == [None] * count

    @pytest.mark.skipif(connection.vendor != "postgresql", reason="others take one row each")
    def test_an_event_and_its_deliveries_are_one_statement(self, django_assert_num_queries):
        event, delivery = self.rows()
        with django_assert_num_queries(1):
            statements.insert([event, delivery], using="default")

    def test_a_row_that_is_refused_leaves_none_of_the_others(self):
        event, delivery = self.rows()
        delivery.subscription_id = None
        other = Delivery(event=event, subscription_id=None, pk=delivery.pk)
        with pytest.raises(IntegrityError), transaction.atomic():
            statements.insert([event, delivery, other], using="default")
        assert not Event.objects.exists()

    def test_the_text_is_made_once_for_each_kind_of_row(self):
        for _ in range(2):
            event, delivery = self.rows()
            statements.insert([event], using="default")
            statements.insert([delivery], using="default")
            held = Delivery(event=event, subscription_id=delivery.subscription_id, replay=1)
            statements.insert([held], using="default")

        assert len(statements._inserts) == 3
        assert Delivery.objects.filter(due_at=None).count() == 2


class TestRow:
    def test_is_what_django_reads(self):
        made = factories.subscription(url="https://a.example/hook", rate_limit=2.5)
        for row in (made, made.endpoints.get()):
            names = [one.attname for one in row._meta.concrete_fields]
            model = type(row)
            for _ in range(2):
                found = statements.row(model, row.pk, names, using="default")
                assert found == model._base_manager.filter(pk=row.pk).values(*names).get()

    def test_that_is_not_there_is_none(self):
        for _ in range(2):
            assert statements.row(Event, uuid7(), ["type"], using="default") is None

    def test_another_key_is_another_row(self):
        ours, theirs = factories.subscription(name="ours"), factories.subscription(name="theirs")
        found = [
            statements.row(Subscription, one.pk, ["name"], using="default")
            for one in (ours, theirs)
        ]
        assert found == [{"name": "ours"}, {"name": "theirs"}]
        assert len(statements._rows) == 1

    def test_is_read_by_the_manager_that_a_project_gave_its_model(self, monkeypatch):
        made = factories.subscription(name="ours")

        class Nobodys(models.Manager):
            def get_queryset(self):
                return super().get_queryset().none()

        manager = Nobodys()
        manager.model = Subscription
        monkeypatch.setattr(Subscription._meta, "base_manager", manager)
        assert statements.row(Subscription, made.pk, ["name"], using="default") is None


def test_what_is_kept_is_bounded(monkeypatch):
    monkeypatch.setattr(statements, "MAX_KEPT", 3)

    for count in range(1, 9):
        select(exactly, [f"order.{number}" for number in range(count)])

    assert len(statements._selects) <= 3


def test_another_thread_may_forget_all_at_any_moment(monkeypatch):
    class Forgetful(dict):
        def __setitem__(self, key, value):
            super().__setitem__(key, value)
            self.clear()

    for kept in ("_selects", "_rows", "_inserts"):
        monkeypatch.setattr(statements, kept, Forgetful())
    subscription = factories.subscription(event_types=["order.paid"])

    assert len(select(exactly, ["order.paid"])) == 1
    row = statements.row(Subscription, subscription.pk, ["name"], using="default")
    assert row == {"name": "CRM"}
    assert len(factories.record()) == 1


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
