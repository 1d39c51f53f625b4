"""What projects test with: captured events, assertions, delivery to a callable."""

from __future__ import annotations

import importlib
import subprocess
import sys
import uuid
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from django.db import transaction
from django.test import TestCase

from django_webhooks import catalog, signing, testing
from django_webhooks.events import Draft, emit, emit_many
from django_webhooks.exceptions import PayloadError, UnknownEventType
from django_webhooks.models import Delivery, Event
from django_webhooks.testing import WebhooksTestMixin, capture_webhooks, comparing
from tests import factories
from tests.testapp.models import Shop


@pytest.fixture(autouse=True)
def _event_types():
    names = ("order.paid", "order.sent", "user.joined")
    for name in names:
        catalog.declare(name)
    yield
    for name in names:
        catalog.forget(name)


class TestOfAProject(WebhooksTestMixin, TestCase):
    """As a project writes it."""

    def setUp(self) -> None:
        super().setUp()
        emit("order.paid", {"id": 1})

    def test_events_of_set_up_and_test_are_captured(self) -> None:
        emit("order.sent", {"id": 1})

        assert [event.type for event in self.webhooks.events] == ["order.paid", "order.sent"]

    def test_nothing_is_left_of_other_tests(self) -> None:
        assert len(self.webhooks.events) == 1

    def test_a_block_captures_for_itself(self) -> None:
        with capture_webhooks() as inner:
            emit("order.sent", {"id": 1})

        inner.assert_emitted("order.sent")
        self.webhooks.assert_nothing_emitted("order.sent")


@pytest.mark.django_db
def test_events_are_captured_without_a_listener_and_not_recorded(webhooks_outbox):
    event = emit("order.paid", {"id": 1})

    assert webhooks_outbox.events == [event]
    assert not Event.objects.exists()


@pytest.mark.django_db
def test_events_are_captured_and_not_sent_where_somebody_listens(webhooks_outbox):
    factories.subscription()

    with transaction.atomic():
        emit_many(Draft(event_type="order.paid", data={"id": number}) for number in range(2))

    webhooks_outbox.assert_emitted("order.paid", times=2)
    assert not Delivery.objects.exists()


@pytest.mark.django_db
def test_events_are_recorded_again_after_the_block():
    factories.subscription()
    with capture_webhooks():
        emit("order.paid", {"id": 1})

    emit("order.paid", {"id": 2})

    assert Event.objects.get().data == {"id": 2}


def test_what_emit_refuses_it_refuses_in_tests(webhooks_outbox):
    with pytest.raises(UnknownEventType, match=r"order\.paid"):
        emit("order.payed", {})
    with pytest.raises(PayloadError):
        emit("order.paid", {"id": object()})

    webhooks_outbox.assert_nothing_emitted()


def test_a_repeated_idempotency_key_is_captured_once(webhooks_outbox):
    for _ in range(2):
        emit("order.paid", {}, idempotency_key="1")
    emit("order.sent", {}, idempotency_key="1")

    webhooks_outbox.assert_emitted("order.*", times=2)


def test_events_are_found_by_pattern(webhooks_outbox):
    emit("order.paid", {})
    emit("order.sent", {})
    emit("user.joined", {})

    assert [event.type for event in webhooks_outbox.of_type("order.*")] == [
        "order.paid",
        "order.sent",
    ]


MOMENT = datetime(2026, 1, 31, 12, tzinfo=UTC)
KEY = uuid.UUID(int=7)
DATA = {
    "id": 7,
    "total": Decimal("42.00"),
    "on": date(2026, 1, 31),
    "at": MOMENT,
    "key": KEY,
    "customer": {"name": "Ada", "tags": ["new", "vip"]},
    "lines": [{"sku": "a", "count": 1}, {"sku": "b", "count": 2}],
}


@pytest.mark.parametrize(
    "part",
    [
        {},
        {"id": 7},
        {"total": Decimal("42.00"), "on": date(2026, 1, 31), "at": MOMENT, "key": KEY},
        {"total": "42.00"},
        {"customer": {"name": "Ada"}},
        {"customer": {"tags": ("new", "vip")}},
        {"lines": [{"sku": "a"}, {"sku": "b"}]},
        {"id": pytest.approx(7.0)},
        DATA,
    ],
)
def test_a_part_of_the_data_is_enough(webhooks_outbox, part):
    emit("order.paid", DATA)

    [event] = webhooks_outbox.assert_emitted("order.paid", part)

    assert event.data["id"] == 7


@pytest.mark.parametrize(
    "part",
    [
        {"id": 8},
        {"unknown": None},
        {"id": {"a": 1}},
        {"total": Decimal("42")},
        {"customer": {"name": "Bob"}},
        {"customer": {"tags": ["new"]}},
        {"customer": ["name"]},
        {"lines": [{"sku": "b"}, {"sku": "a"}]},
        {"id": object()},
        None,
    ],
)
def test_other_data_is_not_enough(webhooks_outbox, part):
    emit("order.paid", DATA)

    with pytest.raises(AssertionError, match=r"order\.paid with .* was not emitted"):
        webhooks_outbox.assert_emitted("order.paid", part)


@pytest.mark.django_db
def test_the_owner_is_compared_where_it_is_given(webhooks_outbox):
    shop, other = Shop.objects.create(name="A"), Shop.objects.create(name="B")
    emit("order.paid", {}, owner=shop)
    emit("order.sent", {})

    webhooks_outbox.assert_emitted("order.paid")
    webhooks_outbox.assert_emitted("order.paid", owner=shop)
    webhooks_outbox.assert_emitted("order.sent", owner=None)

    with pytest.raises(AssertionError, match="of <Shop: "):
        webhooks_outbox.assert_emitted("order.paid", owner=other)
    with pytest.raises(AssertionError, match="without an owner was not emitted"):
        webhooks_outbox.assert_emitted("order.paid", owner=None)
    with pytest.raises(AssertionError, match=rf"order\.paid {{}} of testapp\.shop {shop.pk}"):
        webhooks_outbox.assert_nothing_emitted()


def test_a_failure_lists_what_was_emitted(webhooks_outbox):
    emit("order.paid", {"id": 1})

    with pytest.raises(AssertionError) as failure:
        webhooks_outbox.assert_emitted("order.sent", {"id": 2})

    assert str(failure.value) == (
        'order.sent with {"id": 2} was not emitted.\nEmitted were:\n  order.paid {"id": 1}'
    )


def test_a_failure_says_that_nothing_was_emitted(webhooks_outbox):
    with pytest.raises(AssertionError, match=r"was not emitted\.\nNothing was emitted\."):
        webhooks_outbox.assert_emitted("order.sent")


def test_a_failure_is_short_however_much_was_emitted(webhooks_outbox):
    for _ in range(30):
        emit("order.paid", {"text": "x" * 1000})

    with pytest.raises(AssertionError) as failure:
        webhooks_outbox.assert_emitted("order.sent")

    lines = str(failure.value).splitlines()
    assert lines[-1] == "  and 10 more"
    assert max(map(len, lines)) < comparing.SHOWN + 30


def test_the_number_of_events_is_compared_where_it_is_given(webhooks_outbox):
    emit("order.paid", {})

    webhooks_outbox.assert_emitted("order.paid", times=1)
    assert webhooks_outbox.assert_emitted("order.sent", times=0) == []
    with pytest.raises(AssertionError, match=r"order\.paid was emitted 1 times, not 2\."):
        webhooks_outbox.assert_emitted("order.paid", times=2)


def test_nothing_of_a_type_was_emitted(webhooks_outbox):
    emit("order.paid", {})

    webhooks_outbox.assert_nothing_emitted("user.*")
    with pytest.raises(AssertionError, match=r"Events of order\.\* were emitted\.\n"):
        webhooks_outbox.assert_nothing_emitted("order.*")


def test_captured_events_are_delivered_to_a_callable(webhooks_outbox):
    first = emit("order.paid", {"id": 1})
    second = emit("order.sent", {"id": 2})

    def receiver(request):
        signing.verify(secrets=[webhooks_outbox.secret], headers=request.headers, body=request.body)
        return request.headers["webhook-id"], request.payload["data"]

    returned = webhooks_outbox.deliver(receiver)

    assert returned == [(first.message_id, {"id": 1}), (second.message_id, {"id": 2})]


def test_the_plugin_needs_no_settings_when_it_is_loaded():
    code = "import sys, django_webhooks.testing; sys.exit('django' in sys.modules)"

    finished = subprocess.run([sys.executable, "-c", code], env={}, check=False)

    assert finished.returncode == 0


def test_the_helpers_work_without_pytest(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytest", None)
    monkeypatch.delitem(sys.modules, "django_webhooks.testing.fixtures")
    monkeypatch.delattr(testing, "webhooks_outbox")

    importlib.reload(testing)

    assert not hasattr(testing, "webhooks_outbox")
