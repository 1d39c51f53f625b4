"""Sweeping, pruning and replaying."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest

from django_webhooks import tasks, times
from django_webhooks.models import Attempt, Delivery, Event, Subscription
from django_webhooks.sending import claims, maintenance
from django_webhooks.sending.maintenance import pruning
from django_webhooks.sending.replays.single import replay
from tests import factories

pytestmark = pytest.mark.django_db


def finish(delivery, *, status="succeeded", days=0):
    Delivery.objects.filter(pk=delivery.pk).update(
        status=status,
        due_at=None,
        lease_token=None,
        finished_at=times.now() - timedelta(days=days),
    )
    delivery.refresh_from_db()
    return delivery


class TestSweep:
    """What nobody was told of is found."""

    @pytest.fixture
    def sent(self, monkeypatch):
        found = []
        monkeypatch.setattr(tasks, "hint", lambda task: found.append(()))
        return found

    def later(self):
        # What was written this moment may be due a moment later.
        Delivery.objects.filter(due_at__isnull=False).update(
            due_at=times.now() - timedelta(seconds=1)
        )

    def test_due_work_wakes_a_worker(self, sent):
        factories.delivery()
        self.later()

        tasks.sweep()

        assert sent == [()]

    def test_much_work_wakes_several(self, sent, monkeypatch):
        monkeypatch.setattr(claims, "BATCH_SIZE", 2)
        factories.subscription()
        for number in range(5):
            factories.record(data={"id": number})
        self.later()

        tasks.sweep()

        assert len(sent) == 3

    def test_endless_work_wakes_a_bounded_number(self, sent, monkeypatch):
        monkeypatch.setattr(claims, "BATCH_SIZE", 1)
        factories.subscription()
        for number in range(12):
            factories.record(data={"id": number})
        self.later()

        tasks.sweep()

        assert len(sent) == tasks.MAX_WAKE_UPS

    def test_what_waits_for_a_subscription_that_is_gone_is_cancelled(self, sent):
        """An event that was being recorded when it was deleted came too late for its end."""
        factories.subscription()
        [orphan], [leased], [other] = (factories.record() for _ in range(3))
        for one, token in ((orphan, None), (leased, uuid.uuid4())):
            rows = Delivery.objects.filter(pk=one.pk)
            rows.update(subscription=None, due_at=None, lease_token=token)

        tasks.prune()

        orphan.refresh_from_db()
        assert (orphan.status, orphan.reason) == ("cancelled", "subscription_deleted")
        assert set(Delivery.objects.waiting()) == {leased, other}

    def test_nothing_due_wakes_nobody(self, sent):
        tasks.sweep()

        assert sent == []

    def test_an_idle_sweep_costs_few_queries(self, sent, django_assert_max_num_queries):
        factories.subscription()
        # What was noted of it gets its place in the trail.
        tasks.sweep()

        with django_assert_max_num_queries(11):  # the heartbeat, now and then, in two of them
            tasks.sweep()

    def test_what_was_recorded_while_its_subscription_resumed_is_released(self):
        delivery = factories.delivery()
        Delivery.objects.update(due_at=None)

        assert maintenance.release_forgotten() == 1
        delivery.refresh_from_db()
        assert delivery.due_at is not None

    def test_what_is_held_for_a_reason_stays(self):
        factories.delivery().subscription.pause()
        factories.delivery(url=None)
        Delivery.objects.update(due_at=None)

        assert maintenance.release_forgotten() == 0


class TestPrune:
    """What is over for long goes, what waits stays."""

    def test_what_is_old_goes_with_its_attempts_and_event(self):
        delivery = finish(factories.delivery(), days=31)
        Attempt.objects.create(delivery=delivery, number=1, outcome="succeeded")

        assert tasks.prune() == 1
        assert not Delivery.objects.exists()
        assert not Attempt.objects.exists()
        assert not Event.objects.exists()

    def test_each_status_has_its_retention(self):
        finish(factories.delivery(), status="given_up", days=31)

        assert tasks.prune() == 0

    @pytest.mark.parametrize("days", [29, 0])
    def test_what_is_recent_stays(self, days):
        finish(factories.delivery(), days=days)

        assert tasks.prune() == 0

    def test_what_waits_is_never_removed(self, settings):
        settings.WEBHOOKS_RETENTION_DAYS = {"waiting": 0, "succeeded": 1}
        factories.delivery()
        Delivery.objects.update(created_at=times.now() - timedelta(days=1000))

        assert tasks.prune() == 0

    def test_each_that_is_left_out_has_its_default(self, settings):
        settings.WEBHOOKS_RETENTION_DAYS = {"given_up": None}
        finish(factories.delivery(), days=31)

        assert tasks.prune() == 1

    def test_none_keeps_for_ever(self, settings):
        settings.WEBHOOKS_RETENTION_DAYS = {"succeeded": None}
        finish(factories.delivery(), days=9999)

        assert tasks.prune() == 0

    def test_an_event_stays_while_another_delivery_of_it_does(self):
        first = factories.delivery()
        finish(first, days=31)
        replay([first])

        assert tasks.prune() == 1
        assert Event.objects.count() == 1
        assert Delivery.objects.get().replay_of is None

    def test_batches_and_a_time_limit_bound_it(self, monkeypatch):
        monkeypatch.setattr(pruning, "PRUNE_BATCH", 2)
        factories.subscription()
        for number in range(5):
            finish(factories.record(data={"id": number})[0], days=31)

        assert maintenance.prune(max_seconds=0) == 0
        assert maintenance.prune(dry_run=True) == 5
        assert maintenance.prune() == 5


class TestReplay:
    """An old event is sent again, as a new delivery."""

    def test_a_replay_is_a_new_delivery_of_the_same_event(self):
        original = finish(factories.delivery(), status="given_up")

        [new] = replay([original])

        assert new.due_at == new.created_at
        assert (new.event, new.subscription_id) == (original.event, original.subscription_id)
        assert (new.replay, new.replay_of) == (1, original)
        new.refresh_from_db()
        assert new.status == "waiting"
        assert new.due_at is not None
        original.refresh_from_db()
        assert original.status == "given_up"

    def test_a_second_click_sends_nothing_more(self):
        original = finish(factories.delivery(), status="given_up")
        replay([original])

        assert replay([original]) == []
        assert Delivery.objects.count() == 2

    def test_what_still_waits_is_not_replayed(self):
        assert replay([factories.delivery()]) == []

    def test_a_replay_can_be_replayed(self):
        first = finish(factories.delivery(), status="given_up")
        [second] = replay([first])
        finish(second, status="given_up")

        [third] = replay([first, second])

        assert third.replay == 2

    def test_a_deleted_subscription_gets_no_replay(self):
        delivery = finish(factories.delivery())
        Subscription.objects.all().delete()
        delivery.refresh_from_db()

        assert replay([delivery]) == []

    def test_a_replay_to_a_paused_subscription_is_held(self):
        delivery = finish(factories.delivery())
        delivery.subscription.pause()

        [new] = replay([delivery])

        assert new.due_at is None
