"""Model hooks: several changes of one object in one transaction, told as one."""

from __future__ import annotations

import pytest
from django.db import transaction

from django_webhooks import signals, wakeups
from django_webhooks.hooks import muted
from django_webhooks.sending import recording
from tests.testapp.hooks import listen, registered, saved, told
from tests.testapp.models import Country, Order

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _nobody_is_woken(monkeypatch):
    monkeypatch.setattr(wakeups, "wake_for_events", lambda events: None)


@pytest.fixture
def everything():
    return listen()


@pytest.fixture
def order():
    return saved()


def change(order, **values):
    """Set the values and save."""
    for name, value in values.items():
        setattr(order, name, value)
    order.save()


@pytest.mark.usefixtures("everything")
class TestChanges:
    """What several changes are together."""

    @registered(Order, fields=["status"], coalesce=True)
    def test_created_and_updated_is_created_with_the_last_state(self):
        with transaction.atomic():
            order = Order.objects.create()
            change(order, status="paid")

        assert told() == [("order.created", {"status": "paid"})]

    @registered(Order, fields=["status"], coalesce=True)
    def test_updated_and_updated_is_updated_with_all_that_changed(self, order):
        with transaction.atomic():
            change(order, status="paid")
            change(order, number="A1")

        assert told() == [("order.updated", {"status": "paid", "changed": ["number", "status"]})]

    @registered(Order, coalesce=True)
    def test_created_and_deleted_is_nothing(self):
        heard = []
        signals.event_recorded.connect(heard.append, weak=False, dispatch_uid="test")
        try:
            with transaction.atomic():
                Order.objects.create().delete()
        finally:
            signals.event_recorded.disconnect(dispatch_uid="test")

        assert told() == []
        assert heard == []

    @registered(Order, fields=["status"], coalesce=True)
    def test_updated_and_deleted_is_deleted(self, order):
        with transaction.atomic():
            change(order, status="paid")
            order.delete()

        assert told() == [("order.deleted", {"status": "paid"})]

    @registered(Country, fields=["code"], coalesce=True)
    def test_deleted_and_created_anew_is_both(self):
        with muted():
            country = Country.objects.create(code="fr", number=33)

        with transaction.atomic():
            country.delete()
            country = Country.objects.create(code="fr", number=34)
            change(country, number=35)

        assert told() == [
            ("country.deleted", {"code": "fr"}),
            ("country.created", {"code": "fr"}),
        ]

    @registered(Order, fields=["tags"], coalesce=True, m2m=["tags"])
    def test_relations_belong_to_the_same_change(self):
        with transaction.atomic():
            tag = Order.objects.create().tags.create(name="new")

        assert told() == [("order.created", {"tags": [tag.pk]})]

    @registered(Order, fields=["number"], coalesce=True, watch=["status"])
    def test_a_field_that_is_not_watched_still_belongs_to_the_last_state(self):
        with transaction.atomic():
            order = Order.objects.create()
            change(order, number="A1")

        assert told() == [("order.created", {"number": "A1"})]

    @registered(Order, coalesce=True, watch=["status"])
    def test_an_update_of_nothing_watched_alone_is_nothing(self, order):
        with transaction.atomic():
            change(order, number="A1")

        assert told() == []

    @registered(Order, coalesce=True, payload=lambda self, order: [order.status])
    def test_data_of_ones_own_is_that_of_the_last_state(self, order):
        with transaction.atomic():
            change(order, status="paid")
            change(order, status="new")

        assert told() == [("order.updated", ["new"])]

    @registered(Order, coalesce=True, watch=["status"], payload=lambda self, order: [order.status])
    def test_data_of_ones_own_stands_where_nothing_else_changes(self, order):
        with transaction.atomic():
            change(order, status="paid")
            change(order, number="A1")

        assert told() == [("order.updated", ["paid"])]

    @registered(Order, coalesce=True)
    def test_two_objects_are_two_events(self, order):
        with transaction.atomic():
            change(order, status="paid")
            Order.objects.create()

        assert len(told()) == 2

    @registered(Order, coalesce=True)
    def test_two_transactions_are_two_events(self, order):
        for status in ("paid", "new"):
            with transaction.atomic():
                change(order, status=status)

        assert [data["changed"] for _, data in told()] == [["status"], ["status"]]

    @registered(Order, coalesce=True)
    def test_without_a_transaction_every_change_is_told(self, order):
        change(order, status="paid")
        change(order, status="new")

        assert len(told()) == 2

    @registered(Order)
    def test_without_coalesce_every_change_is_told(self, order):
        with transaction.atomic():
            change(order, status="paid")
            change(order, status="new")

        assert len(told()) == 2

    @registered(Order, coalesce=True)
    def test_events_that_are_captured_are_told_one_by_one(self, order):
        captured = []

        with recording.capture(captured.append), transaction.atomic():
            change(order, status="paid")
            change(order, status="new")

        assert len(captured) == 2

    @registered(Order, coalesce=True)
    def test_a_change_on_commit_is_a_change_of_its_own(self, order):
        with transaction.atomic():
            # Called before what the first change has to do on commit.
            transaction.on_commit(lambda: change_in_transaction(order))
            change(order, status="paid")

        assert [data["changed"] for _, data in told()] == [["status"], ["number"]]


def change_in_transaction(order):
    """Change the order in a transaction of its own."""
    with transaction.atomic():
        change(order, number="A1")


@pytest.mark.usefixtures("everything")
class TestRollback:
    """What is rolled back is neither told nor remembered."""

    @registered(Order, coalesce=True)
    def test_a_rollback_leaves_nothing_behind_for_the_next_transaction(self):
        with transaction.atomic():
            order = Order.objects.create(pk=7)
            transaction.set_rollback(True)
        with muted():
            order = Order.objects.create(pk=7)

        with transaction.atomic():
            change(order, status="paid")

        assert told() == [("order.updated", {"id": 7, "changed": ["status"]})]

    @registered(Order, coalesce=True)
    def test_a_change_in_a_savepoint_is_forgotten_with_it(self, order):
        with transaction.atomic():
            with transaction.atomic():
                change(order, status="paid")
                transaction.set_rollback(True)
            order.refresh_from_db()
            change(order, number="A1")

        assert [data["changed"] for _, data in told()] == [["number"]]

    @registered(Order, fields=["number"], coalesce=True)
    def test_only_the_savepoints_part_of_several_changes_is_forgotten(self, order):
        with transaction.atomic():
            change(order, number="A1")
            with transaction.atomic():
                change(order, status="paid")
                transaction.set_rollback(True)
            order.refresh_from_db()
            change(order, stock=9)

        assert told() == [("order.updated", {"number": "A1", "changed": ["number", "stock"]})]

    @registered(Order, fields=["status"], coalesce=True)
    def test_a_delete_in_a_savepoint_is_taken_back_with_it(self):
        heard = []
        signals.event_recorded.connect(
            lambda event, **kwargs: heard.append(event), weak=False, dispatch_uid="test"
        )
        try:
            with transaction.atomic():
                order = Order.objects.create()
                with transaction.atomic():
                    Order.objects.get().delete()
                    transaction.set_rollback(True)
                change(order, status="paid")
        finally:
            signals.event_recorded.disconnect(dispatch_uid="test")

        assert told() == [("order.created", {"status": "paid"})]
        assert len(heard) == 1

    @registered(Order, fields=["status"], coalesce=True)
    def test_a_delete_after_an_update_in_a_savepoint_is_taken_back_with_it(self, order):
        with transaction.atomic():
            change(order, status="paid")
            with transaction.atomic():
                Order.objects.get().delete()
                transaction.set_rollback(True)
            change(order, number="A1")

        assert told() == [("order.updated", {"status": "paid", "changed": ["number", "status"]})]
