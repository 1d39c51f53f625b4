"""Statements whose text is made once."""

from __future__ import annotations

import pytest
from django.db import IntegrityError, connection, models, transaction
from django.db.models import Value
from django.db.models.expressions import DatabaseDefault

from django_webhooks.fields import uuid7
from django_webhooks.models import Delivery, Event, Subscription
from django_webhooks.models.event_type_pattern import EventTypePattern
from django_webhooks.sending.database import compiled_sql
from django_webhooks.sending.fan_out import listeners
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _nothing_is_kept(monkeypatch):
    monkeypatch.setattr(compiled_sql, "_exists", {})
    monkeypatch.setattr(compiled_sql, "_rows", {})


@pytest.fixture
def patterns():
    factories.subscription(event_types=["order.paid", "order.*", "user.joined"])


def exactly(texts):
    return EventTypePattern.objects.filter(pattern__in=texts)


def exist(make, *questions):
    asked = [(make, texts) for texts in questions]
    *found, last = compiled_sql.exist(asked, also="42", using="default")
    assert last == 42
    return [bool(one) for one in found]


@pytest.mark.usefixtures("patterns")
class TestExist:
    def test_the_next_texts_take_the_places_of_the_first(self):
        assert exist(exactly, ["order.*", "nothing"]) == [True]
        assert exist(exactly, ["nothing", "nobody"]) == [False]
        assert exist(exactly, ["nothing", "user.joined"]) == [True]

    def test_several_are_asked_in_one_query(self, django_assert_num_queries):
        with django_assert_num_queries(1):
            found = exist(exactly, ["order.*"], ["nothing"], ["nothing", "user.joined"])
        assert found == [True, False, True]

    def test_the_query_is_made_once(self):
        made = []

        def make(texts):
            made.append(texts)
            return exactly(texts)

        for text in ("order.*", "order.paid", "user.joined"):
            assert exist(make, [text]) == [True]
        assert len(made) == 1

    def test_another_number_of_texts_is_another_query(self):
        assert exist(exactly, ["order.*"]) == [True]
        assert exist(exactly, ["nothing", "order.paid"]) == [True]

    def test_texts_that_are_changed_on_the_way_are_asked_for_each_time(self):
        def changed(texts):
            return exactly([text.lower() for text in texts])

        assert exist(changed, ["ORDER.PAID"]) == [True]
        assert exist(changed, ["USER.LEFT"]) == [False]
        assert list(compiled_sql._exists.values()) == [None]


class TestInsertAll:
    def rows(self, count):
        now = factories.Clock()()
        subscription, event = factories.subscription(), factories.event()
        return [
            Delivery(
                event=event, subscription=subscription, replay=number, due_at=now, created_at=now
            )
            for number in range(count)
        ]

    @pytest.mark.parametrize("count", [1, 3])
    def test_every_column_reads_back_whatever_it_is(self, count):
        rows = self.rows(count)
        rows[-1].ordering_key, rows[-1].attempts_made, rows[-1].priority = "it's \\ 100 %s", 12, 1
        rows[-1].has_new_message_id, rows[-1].due_at = True, None
        rows[-1].status, rows[-1].reason = Delivery.Status.GIVEN_UP, "loop"
        rows[-1].finished_at = rows[-1].created_at

        compiled_sql.insert_all(rows, using="default")

        for row in rows:
            stored = Delivery.objects.get(pk=row.pk)
            for field in row._meta.concrete_fields:
                assert getattr(stored, field.attname) == getattr(row, field.attname), field.attname
            assert not row._state.adding

    @pytest.mark.parametrize("count", [1, 3])
    def test_what_the_database_fills_is_left_to_it(self, count):
        # As a field with db_default has it, which a later release may add.
        rows = self.rows(count)
        for delivery in rows:
            delivery.finished_at = DatabaseDefault(Value(None))

        compiled_sql.insert_all(rows, using="default")

        stored = Delivery.objects.values_list("finished_at", flat=True)
        assert list(stored) == [None] * count

    def test_a_row_that_is_refused_leaves_none_of_the_others(self):
        rows = self.rows(3)
        rows[-1].pk = rows[0].pk

        with pytest.raises(IntegrityError), transaction.atomic():
            compiled_sql.insert_all(rows, using="default")

        assert not Delivery.objects.exists()


class TestRow:
    def test_is_what_django_reads(self):
        made = factories.subscription(url="https://a.example/hook", rate_limit_per_second=2.5)
        for row in (made, made.endpoints.get()):
            names = [one.attname for one in row._meta.concrete_fields]
            model = type(row)
            for _ in range(2):
                found = compiled_sql.row(model, row.pk, names, using="default")
                assert found == model._base_manager.filter(pk=row.pk).values(*names).get()

    def test_that_is_not_there_is_none(self):
        for _ in range(2):
            assert compiled_sql.row(Event, uuid7(), ["type"], using="default") is None

    def test_another_key_is_another_row(self):
        ours, theirs = factories.subscription(name="ours"), factories.subscription(name="theirs")
        found = [
            compiled_sql.row(Subscription, one.pk, ["name"], using="default")
            for one in (ours, theirs)
        ]
        assert found == [{"name": "ours"}, {"name": "theirs"}]
        assert len(compiled_sql._rows) == 1

    def test_is_read_past_the_managers_that_a_project_gave_its_model(self, monkeypatch):
        made = factories.subscription(name="ours")

        class Nobodys(models.Manager):
            def get_queryset(self):
                return super().get_queryset().none()

        manager = Nobodys()
        manager.model = Subscription
        monkeypatch.setattr(Subscription._meta, "base_manager", manager)

        found = compiled_sql.row(Subscription, made.pk, ["name"], using="default")
        assert found == {"name": "ours"}


def test_what_is_kept_is_bounded(monkeypatch):
    monkeypatch.setattr(compiled_sql, "MAX_KEPT", 3)

    for count in range(1, 9):
        exist(exactly, [f"order.{number}" for number in range(count)])

    assert len(compiled_sql._exists) <= 3


def test_another_thread_may_forget_all_at_any_moment(monkeypatch):
    class Forgetful(dict):
        def __setitem__(self, key, value):
            super().__setitem__(key, value)
            self.clear()

    for kept in ("_exists", "_rows"):
        monkeypatch.setattr(compiled_sql, kept, Forgetful())
    subscription = factories.subscription(event_types=["order.paid"])

    assert exist(exactly, ["order.paid"]) == [True]
    row = compiled_sql.row(Subscription, subscription.pk, ["name"], using="default")
    assert row == {"name": "CRM"}
    assert len(factories.record()) == 1


@pytest.mark.skipif(connection.vendor == "sqlite", reason="keys are text there anyway")
def test_listeners_have_keys_of_the_right_type():
    subscription = factories.subscription(event_types=["order.paid"])

    (found,) = listeners.find({("order.paid", listeners.OwnerKey())}, using="default")

    assert found.subscription_id == subscription.pk
    assert (found.is_flowing, found.is_global) == (True, False)
