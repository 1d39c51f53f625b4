"""Hearing: an event is written exactly where a subscription is there before it, or it is kept."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from django.db import connection, connections, transaction

from django_webhooks import catalog, process_state
from django_webhooks.events import emit
from django_webhooks.models import Event, Subscription
from django_webhooks.models.event_type_pattern import EventTypePattern
from django_webhooks.models.owner import OwnerKey
from django_webhooks.sending.recording import hearing
from tests import factories
from tests.testapp.models import Shop

pytestmark = pytest.mark.django_db


def heard(*wanted):
    return hearing.of_owners(wanted, using="default")


MINE, THEIRS, NOBODYS = OwnerKey("shop", "1"), OwnerKey("shop", "2"), OwnerKey()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({}, {NOBODYS}, id="without an owner"),
        pytest.param({"owner_type": "shop", "owner_id": "1"}, {MINE}, id="of an owner"),
        pytest.param({"is_global": True}, {MINE, THEIRS, NOBODYS}, id="global"),
    ],
)
def test_an_event_is_heard_by_its_owner_and_by_global_subscriptions(fields, expected):
    factories.subscription(**fields)
    wanted = [("order.paid", owner) for owner in (MINE, THEIRS, NOBODYS)]

    assert {owner for _, owner in heard(*wanted)} == expected
    process_state.forget()
    assert {owner for one in wanted for _, owner in heard(one)} == expected


def test_of_several_types_those_are_heard_that_a_pattern_matches():
    factories.subscription(event_types=["order.item.*", "user.joined"])
    types = {"order.item.added", "order.paid", "user.joined", "webhooks.switched"}

    assert hearing.of_types(types, using="default") == {"order.item.added", "user.joined"}


def test_that_somebody_listens_is_remembered_for_a_while(django_assert_num_queries, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(hearing.time, "monotonic", lambda: now[0])
    factories.subscription()
    with django_assert_num_queries(1):
        assert heard(("order.paid", NOBODYS))
    Subscription.objects.all().delete()

    now[0] += 4.9
    with django_assert_num_queries(0):
        assert heard(("order.paid", NOBODYS))
    now[0] += 0.2
    with django_assert_num_queries(1):
        assert not heard(("order.paid", NOBODYS))


def test_that_nobody_listens_is_never_remembered():
    assert emit("order.paid", {}) is None
    # Bulk statements send no signals, like those of another process.
    [made] = Subscription.objects.bulk_create([Subscription(name="CRM")])
    EventTypePattern.objects.bulk_create([EventTypePattern(subscription=made, pattern="*")])

    assert emit("order.paid", {}) is not None


def test_very_many_are_asked_for_in_parts(monkeypatch, django_assert_num_queries):
    monkeypatch.setattr(hearing, "MAX_ASKED", 2)
    factories.subscription(owner_type="shop", owner_id="3")
    owners = [OwnerKey("shop", str(number)) for number in range(5)]

    with django_assert_num_queries(3):
        found = heard(*(("order.paid", owner) for owner in owners))

    assert found == {("order.paid", owners[3])}


def test_what_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr(hearing, "MAX_REMEMBERED", 3)
    factories.subscription(is_global=True)

    for number in range(20):
        heard(("order.paid", OwnerKey("shop", str(number))))

    assert len(hearing._heard_until) <= 3


def test_an_event_that_was_written_in_vain_is_removed_by_its_fan_out():
    subscription = factories.subscription()
    emit("order.paid", {})
    subscription.delete()
    assert emit("order.paid", {}) is not None

    factories.fan_out()

    assert not Event.objects.exists()


class TestKept:
    """Events that nobody hears, and that are kept."""

    @pytest.mark.parametrize("how", ["setting", "event type"])
    def test_an_event_is_kept_without_a_question(self, how, settings, django_assert_num_queries):
        name = "order.paid"
        if how == "setting":
            settings.WEBHOOKS_KEEP_UNHEARD = True
        else:
            name = catalog.declare("order.kept", keep=True).name
        with transaction.atomic(), django_assert_num_queries(1):
            event = emit(name, {})

        factories.fan_out()

        event.refresh_from_db()
        assert event.fan_out == Event.FanOut.UNHEARD
        assert list(Event.objects.unheard()) == [event]
        assert "Nobody listened" in event.explain()

    def test_a_later_subscriber_can_be_given_what_it_missed(self, settings):
        settings.WEBHOOKS_KEEP_UNHEARD = True
        event = emit("order.paid", {})
        factories.fan_out()
        subscription = factories.subscription()

        assert Event.objects.fan_out_again() == 1
        factories.fan_out()

        assert [one.event for one in subscription.deliveries.all()] == [event]
        assert Event.objects.get().fan_out is None
        assert Event.objects.fan_out_again() == 0


@pytest.mark.skipif(connection.vendor == "sqlite", reason="who writes sees all that is committed")
@pytest.mark.django_db(transaction=True)
class TestSnapshots:
    """A transaction that reads from an older snapshot writes the event when in doubt."""

    @pytest.fixture
    def subscribe(self):
        """Subscribe in another connection, which commits at once."""

        def subscribe():
            other = connections.create_connection("default")
            try:
                mine, connections["default"] = connections["default"], other
                factories.subscription()
            finally:
                connections["default"] = mine
                other.close()

        return subscribe

    @pytest.fixture
    def isolated(self, monkeypatch):
        """Begin transactions in an isolation, as OPTIONS of the database or SQL may ask for it."""
        connection.ensure_connection()

        def isolated(level):
            if connection.vendor == "mysql":
                monkeypatch.setattr(connection, "isolation_level", level)
            with connection.cursor() as cursor:
                if connection.vendor == "mysql":
                    cursor.execute(f"SET SESSION TRANSACTION ISOLATION LEVEL {level}")

        yield isolated
        connection.close()

    @pytest.mark.parametrize("level", ["read committed", "repeatable read", "serializable"])
    @pytest.mark.parametrize("by", ["type", "owner"])
    def test_who_subscribed_meanwhile_hears_the_event(self, level, by, subscribe, isolated):
        isolated(level)
        with transaction.atomic():
            if connection.vendor == "postgresql":
                with connection.cursor() as cursor:
                    cursor.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")
            if not (connection.vendor == "mysql" and level == "serializable"):
                # There to read is to lock, and nobody can subscribe meanwhile.
                assert Subscription.objects.count() == 0
            subscribe()
            if by == "owner":
                event = emit("order.paid", {})
            else:
                assert hearing.of_types({"order.paid"}, using="default") == {"order.paid"}
                event = emit("order.paid", {})

        factories.fan_out()

        assert event.deliveries.count() == 1

    def test_silence_in_a_snapshot_is_written_and_removed(self, isolated):
        isolated("repeatable read")
        with transaction.atomic():
            if connection.vendor == "postgresql":
                with connection.cursor() as cursor:
                    cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            assert emit("order.paid", {}, owner=Shop(pk=5)) is not None

        factories.fan_out()

        assert not Event.objects.exists()

    def test_elsewhere_silence_writes_nothing(self, isolated):
        isolated("read committed")
        with transaction.atomic():
            assert emit("order.paid", {}) is None
        assert emit("order.paid", {}) is None


#: Emits an event of each type that it reads, answers whether that was recorded, and rolls it back.
EMITTER = """
import sys
import django
django.setup()
from django.conf import settings
from django.db import transaction
from django_webhooks.events import emit
settings.WEBHOOKS_ALLOW_UNKNOWN_EVENT_TYPES = True
for line in sys.stdin:
    with transaction.atomic():
        print(int(emit(line.strip(), {}) is not None), flush=True)
        transaction.set_rollback(True)
"""


@pytest.mark.timeout(330)
@pytest.mark.skipif(connection.vendor == "sqlite", reason="its database is in memory")
@pytest.mark.django_db(transaction=True)
def test_of_a_thousand_events_each_is_heard_by_who_subscribed_before_in_another_process():
    name = str(connection.settings_dict["NAME"])
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "TEST_DATABASE_NAME": name,
    }
    child = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", EMITTER],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def emits(event_type):
        child.stdin.write(f"{event_type}\n")
        child.stdin.flush()
        return child.stdout.readline().strip()

    with child:
        found = []
        for number in range(500):
            event_type = f"order.n{number}"
            before = emits(event_type)
            with transaction.atomic():
                [made] = Subscription.objects.bulk_create([Subscription(name=event_type)])
                EventTypePattern.objects.create(subscription=made, pattern=event_type)
            found.append((before, emits(event_type)))
        child.stdin.close()

    assert found == [("0", "1")] * 500
