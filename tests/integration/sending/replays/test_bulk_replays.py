"""Bulk replays: in batches, at a rate, each event once, whatever dies in between."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest

from django_webhooks import tasks, times, wakeups
from django_webhooks.auditing.models import AuditEntry
from django_webhooks.exceptions import NothingToReplay
from django_webhooks.models import BulkReplay, Delivery, Endpoint
from django_webhooks.sending import database, replays, worker
from django_webhooks.sending.replays import ReplayOptions, Selection
from django_webhooks.sending.replays.single import replay
from tests import factories
from tests.factories import Clock
from tests.receivers import receiving

pytestmark = pytest.mark.django_db
FAILED = Selection(status="given_up")


@pytest.fixture(autouse=True)
def _any_type(settings):
    settings.WEBHOOKS_ALLOW_UNKNOWN_EVENT_TYPES = True


def failed(count, **fields):
    subscription = factories.subscription(**fields)
    for number in range(count):
        factories.record(data={"id": number})
    own = Delivery.objects.filter(subscription=subscription)
    own.update(status="given_up", reason="http_500", due_at=None, finished_at=times.now())
    return subscription


def run(made, *, now=None):
    """Do all its batches, and return how many deliveries each released."""
    now = now or times.now()
    due = []
    while True:
        step = replays.go_on(made.pk, now=now)
        due.append(step.due)
        if step.wait is None:
            return due
        now += timedelta(seconds=step.wait)


def test_everything_selected_is_replayed_in_batches_of_its_rate():
    failed(25)

    made = replays.start(FAILED, reason="outage", by="ada", rate=10)
    due = run(made)

    made.refresh_from_db()
    assert due == [10, 10, 5]
    assert (made.status, made.total, made.replayed, made.skipped) == ("done", 25, 25, 0)
    assert made.finished_at is not None
    assert made.deliveries.count() == 25
    assert all(one.replay_of_id for one in made.deliveries.all())
    [entry] = AuditEntry.objects.filter(action="deliveries.replayed")
    assert (entry.by, entry.detail["total"]) == ("ada", 25)


def test_a_batch_before_its_moment_replays_nothing():
    failed(3)
    made = replays.start(FAILED, reason="x", rate=2)
    now = times.now()

    assert replays.go_on(made.pk, now=now).due == 2
    assert replays.go_on(made.pk, now=now).due == 0
    assert replays.go_on(made.pk, now=now).wait == pytest.approx(1.0)


def test_the_same_token_begins_one():
    failed(3)
    token = uuid.uuid4()

    first = replays.start(FAILED, reason="x", token=token)
    second = replays.start(FAILED, reason="x", token=token)

    assert first == second
    assert BulkReplay.objects.count() == 1


def test_what_fails_after_it_began_is_not_part_of_it():
    failed(2)
    made = replays.start(FAILED, reason="x", rate=1)
    replays.go_on(made.pk)
    made.deliveries.update(status="given_up", due_at=None, finished_at=times.now())

    run(made, now=times.now() + timedelta(minutes=1))

    made.refresh_from_db()
    assert made.replayed == 2
    assert made.deliveries.count() == 2


def test_an_event_is_sent_once_although_several_of_its_deliveries_failed():
    failed(1)
    run(replays.start(FAILED, reason="first"))
    Delivery.objects.waiting().update(status="given_up", due_at=None, finished_at=times.now())

    made = replays.start(FAILED, reason="second", rate=1)
    due = run(made)

    made.refresh_from_db()
    assert sum(due) == 1
    assert (made.total, made.replayed, made.skipped) == (1, 1, 0)


def test_what_arrived_by_another_delivery_is_not_to_be_replayed():
    failed(1)
    run(replays.start(FAILED, reason="first"))
    Delivery.objects.waiting().update(status="succeeded", due_at=None, finished_at=times.now())

    with pytest.raises(NothingToReplay):
        replays.start(FAILED, reason="second")


def test_what_arrived_by_another_delivery_meanwhile_is_left_out():
    failed(1)
    made = replays.start(FAILED, reason="second")
    replay(list(Delivery.objects.given_up()))
    Delivery.objects.waiting().update(status="succeeded", due_at=None, finished_at=times.now())

    run(made)

    made.refresh_from_db()
    assert (made.replayed, made.skipped) == (0, 1)


def test_one_that_is_stopped_replays_no_more():
    failed(3)
    made = replays.start(FAILED, reason="x", rate=1)
    replays.go_on(made.pk)

    assert replays.stop(made, by="ada")
    assert not replays.stop(made, by="ada")
    assert replays.go_on(made.pk, now=times.now() + timedelta(hours=1)).due == 0

    made.refresh_from_db()
    assert (made.status, made.replayed) == ("stopped", 1)


def test_nothing_to_replay_says_so():
    factories.delivery()

    with pytest.raises(NothingToReplay, match="what waits is sent by itself"):
        replays.start(Selection(), reason="x")


def test_a_worker_that_dies_in_a_batch_leaves_it_to_the_next(monkeypatch):
    failed(4)
    made = replays.start(FAILED, reason="x", rate=2)
    replays.go_on(made.pk)

    def dies(*args, **options):
        raise SystemExit

    later = times.now() + timedelta(minutes=1)
    with monkeypatch.context() as patched:
        patched.setattr(BulkReplay, "save", dies)
        with pytest.raises(SystemExit):
            replays.go_on(made.pk, now=later)
    assert made.deliveries.count() == 2

    assert replays.stalled(now=later) == [made.pk]
    run(made, now=later)
    assert made.deliveries.count() == 4


def test_a_stalled_one_is_told_to_a_worker_by_the_sweep(monkeypatch):
    failed(1)
    made = replays.start(FAILED, reason="x")
    BulkReplay.objects.update(next_at=times.now() - timedelta(minutes=1))
    told = []
    monkeypatch.setattr(tasks.replay, "delay", told.append)
    monkeypatch.setattr(tasks, "hint", lambda task: None)

    tasks.sweep()

    assert told == [str(made.pk)]


class TestManner:
    def test_to_a_chosen_endpoint_although_another_is_active(self):
        with receiving(204) as primary, receiving(204) as backup:
            subscription = failed(2, url=primary.url)
            second = Endpoint.objects.create(subscription=subscription, url=backup.url, position=1)
            run(
                replays.start(
                    FAILED, reason="x", replay_options=ReplayOptions(endpoint=second.pk), rate=10
                )
            )

            worker.drain(clock=Clock())

        assert (len(primary.requests), len(backup.requests)) == (0, 2)
        assert backup.requests[0].headers["webhook-failover-reason"] == "chosen"

    def test_a_chosen_endpoint_that_was_disabled_since_gives_way_to_the_active_one(self):
        with receiving(204) as primary, receiving(204) as backup:
            subscription = failed(1, url=primary.url)
            second = Endpoint.objects.create(subscription=subscription, url=backup.url, position=1)
            run(replays.start(FAILED, reason="x", replay_options=ReplayOptions(endpoint=second.pk)))
            second.disable("gone")

            worker.drain(clock=Clock())

        assert (len(primary.requests), len(backup.requests)) == (1, 0)

    def test_new_message_ids_for_a_receiver_that_lost_what_it_had(self):
        with receiving(204) as receiver:
            failed(1, url=receiver.url)
            event = Delivery.objects.get().event
            made = replays.start(
                FAILED, reason="x", replay_options=ReplayOptions(has_new_message_id=True)
            )
            run(made)

            worker.drain(clock=Clock())

        [request] = receiver.requests
        [delivery] = made.deliveries.all()
        assert request.headers["webhook-id"] == delivery.message_id != event.message_id
        assert request.body == bytes(event.body)

    def test_an_endpoint_of_another_subscription_is_refused(self):
        failed(1)
        other = factories.subscription(name="other").endpoints.get()

        with pytest.raises(ValueError, match="belongs to one subscription"):
            replays.start(FAILED, reason="x", replay_options=ReplayOptions(endpoint=other.pk))

    def test_a_disabled_endpoint_is_refused(self):
        endpoint = failed(1).endpoints.get()
        endpoint.disable("gone")

        with pytest.raises(ValueError, match="gone or disabled"):
            replays.start(FAILED, reason="x", replay_options=ReplayOptions(endpoint=endpoint.pk))


class TestTask:
    def test_it_comes_back_for_the_next_batch(self, settings, monkeypatch):
        failed(3)
        made = replays.start(FAILED, reason="x", rate=1)
        told = []
        monkeypatch.setattr(tasks, "hint", lambda task: told.append(1))

        tasks.replay.apply((str(made.pk),))

        made.refresh_from_db()
        assert made.status == "done"
        assert made.replayed == 3
        assert told == [1]

    def test_a_broker_that_cannot_be_reached_costs_nothing(self, monkeypatch):
        def fails(*args, **options):
            raise OSError("no broker")

        monkeypatch.setattr(tasks.replay, "apply_async", fails)

        wakeups.begin_replay(str(uuid.uuid4()))


class TestSelection:
    def test_it_is_stored_and_read_again(self):
        chosen = Selection(
            status="given_up",
            event_type="order.paid",
            reason="http_503",
            status_code=503,
            since=times.now() - timedelta(hours=1),
            until=times.now(),
            finished_since=times.now() - timedelta(minutes=30),
            finished_until=times.now(),
        )

        assert Selection.of(chosen.stored) == chosen

    @pytest.mark.parametrize(
        "stored",
        [
            {"colour": "red"},
            {"since": "yesterday"},
            {"finished_until": "yesterday"},
            {"subscription": "7"},
            {"status_code": "x"},
        ],
    )
    def test_what_is_malformed_is_refused(self, stored):
        with pytest.raises(ValueError, match=r"."):
            Selection.of(stored)

    def test_it_keeps_to_times_types_and_owners(self):
        delivery = factories.delivery(owner=None)
        now = times.now()
        using = database.alias()

        def found(**wanted):
            return list(Selection(**wanted).deliveries(using=using))

        assert found(since=now - timedelta(minutes=1)) == [delivery]
        assert found(since=now + timedelta(minutes=1)) == []
        assert found(until=now - timedelta(minutes=1)) == []
        assert found(event_type="order.paid") == [delivery]
        assert found(event_type="order.sent") == []
        assert found(owners=[]) == []
        assert found(owners=[["", ""]]) == [delivery]

    @pytest.mark.parametrize("status", ["given_up", "succeeded", "cancelled"])
    def test_when_it_was_over_is_another_moment_than_when_it_was_recorded(self, status):
        now = times.now()
        recorded, finished = now - timedelta(days=3), now - timedelta(minutes=10)
        subscription = factories.delivery().subscription
        over = factories.over(subscription, recorded=recorded, finished=finished, status=status)
        using = database.alias()

        def found(**wanted):
            return list(Selection(**wanted).deliveries(using=using))

        assert found(finished_since=now - timedelta(hours=2)) == [over]
        assert found(finished_since=finished, finished_until=now) == [over]
        assert found(finished_until=finished) == []
        assert found(since=now - timedelta(hours=2), finished_until=now) == []
        assert found(until=now - timedelta(days=2), finished_since=finished) == [over]
        assert found(status="waiting", finished_since=finished) == []

    def test_attempts_are_found_by_status_host_and_endpoint(self):
        with receiving(503) as receiver:
            delivery = factories.delivery(receiver.url)
            worker.drain(clock=Clock())
        using = database.alias()
        endpoint = delivery.subscription.endpoints.get()
        for wanted, count in [
            ({"status_code": 503}, 1),
            ({"status_code": 204}, 0),
            ({"host": endpoint.host}, 1),
            ({"host": "nowhere:1"}, 0),
            ({"endpoint": str(endpoint.pk)}, 1),
            ({"endpoint": str(uuid.uuid4())}, 0),
        ]:
            assert Selection(**wanted).deliveries(using=using).count() == count, wanted


def test_an_event_is_sent_once_although_its_replay_fails_before_the_next_batch():
    failed(1)
    run(replays.start(FAILED, reason="first"))
    over = {"status": "given_up", "due_at": None, "finished_at": times.now()}
    Delivery.objects.waiting().update(**over)
    made = replays.start(FAILED, reason="second", rate=1)

    replays.go_on(made.pk)
    Delivery.objects.waiting().update(**over)
    run(made, now=times.now() + timedelta(minutes=1))

    assert made.deliveries.count() == 1


def test_an_event_that_fails_after_it_began_is_not_part_of_it():
    failed(2)
    made = replays.start(FAILED, reason="x", rate=1)
    replays.go_on(made.pk)
    [later] = factories.record(data={"id": "later"})
    Delivery.objects.filter(pk=later.pk).update(
        status="given_up", due_at=None, finished_at=times.now()
    )

    run(made, now=times.now() + timedelta(minutes=1))

    made.refresh_from_db()
    assert (made.total, made.replayed) == (2, 2)
