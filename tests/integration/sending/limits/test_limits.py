"""Limits of subscriptions: what goes, what waits until when, and that nothing waits for ever."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_webhooks import tasks
from django_webhooks.models import Attempt, Delivery, EndpointHealth, Subscription
from django_webhooks.models.figures import heartbeat
from django_webhooks.models.rate_limit_state import RateLimitState
from django_webhooks.sending import claims, limits, maintenance, worker
from django_webhooks.sending.worker import dispatch, executor, pacing
from tests import factories
from tests.factories import Clock
from tests.receivers import Answer, receiving
from tests.timing import until

pytestmark = pytest.mark.django_db


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(autouse=True)
def _runs_do_not_wait(monkeypatch):
    # A clock that stands brings no next moment.
    monkeypatch.setattr(pacing, "LINGER", 0.0)


def record(count, **fields):
    for number in range(count):
        factories.record(data={"id": number}, **fields)


def waits(clock):
    """How many are due, wait for a moment, are leased, or held."""
    found = Counter()
    for one in Delivery.objects.waiting():
        if one.due_at is None:
            found["held"] += 1
        elif one.lease_token:
            found["leased"] += 1
        else:
            found["later" if one.due_at > clock() else "due"] += 1
    return dict(found)


def leased(clock):
    """Have another worker lease what is due."""
    return claims.take(now=clock(), limit=100, using="default").deliveries


class TestRate:
    """Requests a second."""

    def test_a_burst_goes_and_the_others_wait_for_their_moments(self, clock):
        with receiving(204) as receiver:
            factories.subscription(url=receiver.url, rate_limit_per_second=5)
            record(12)
            worker.drain(clock=clock)

        assert len(receiver.requests) == 5
        moments = sorted(Delivery.objects.waiting().values_list("due_at", flat=True))
        assert [round((one - clock()).total_seconds(), 3) for one in moments] == [
            0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4,
        ]  # fmt: skip

    def test_they_go_oldest_first_as_time_passes(self, clock, settings):
        settings.WEBHOOKS_MAX_IN_FLIGHT = 1
        with receiving(204) as receiver:
            factories.subscription(url=receiver.url, rate_limit_per_second=5)
            record(12)
            arrived = []
            for _ in range(5):
                worker.drain(clock=clock)
                arrived.append(len(receiver.requests))
                clock.move(seconds=0.4)

        assert arrived == [5, 7, 9, 11, 12]
        ids = [one.message_id for one in Delivery.objects.order_by("pk")]
        assert sorted(receiver.ids[:5]) == sorted(ids[:5])
        assert receiver.ids[5:] == ids[5:]

    def test_moments_that_nobody_took_are_not_made_up_for(self, clock):
        with receiving(204) as receiver:
            factories.subscription(url=receiver.url, rate_limit_per_second=2)
            record(12)
            worker.drain(clock=clock)
            clock.move(hours=1)
            worker.drain(clock=clock)

        assert len(receiver.requests) == 4

    def test_what_more_than_a_few_seconds_hold_is_held(self, clock):
        with receiving(204) as receiver:
            factories.subscription(url=receiver.url, rate_limit_per_second=1)
            record(40)
            worker.drain(clock=clock)

        assert len(receiver.requests) == 1
        assert waits(clock) == {"later": 15, "held": 24}
        assert RateLimitState.objects.get().released_through is not None

    def test_what_is_held_is_released_as_time_passes_and_all_arrives(self, clock):
        with receiving(204) as receiver:
            factories.subscription(url=receiver.url, rate_limit_per_second=1)
            record(40)
            for _ in range(42):
                worker.drain(clock=clock)
                clock.move(seconds=1)

        assert len(receiver.requests) == 40
        assert receiver.ids == [one.message_id for one in Delivery.objects.order_by("pk")]
        assert RateLimitState.objects.get().released_through is None

    def test_a_low_rate(self, clock):
        with receiving(204) as receiver:
            factories.subscription(url=receiver.url, rate_limit_per_second=0.01)
            record(3)
            arrived = []
            for _ in range(6):
                maintenance.nudge(now=clock(), using="default")
                limits.nudge(now=clock(), using="default")
                worker.drain(clock=clock)
                arrived.append(len(receiver.requests))
                clock.move(seconds=50)

        assert arrived == [1, 1, 2, 2, 3, 3]

    def test_the_run_says_when_to_look_again(self, clock):
        with receiving(204) as receiver:
            factories.subscription(url=receiver.url, rate_limit_per_second=0.2)
            record(3)
            drained = worker.drain(clock=clock)

        assert drained.attempts == 1
        assert drained.next_in == pytest.approx(5, abs=0.01)

    def test_one_run_waits_for_the_next_moment_and_no_second_one(self, clock):
        with receiving(204) as receiver:
            factories.subscription(url=receiver.url, rate_limit_per_second=0.2)
            record(3)
            lease = claims.take(now=clock(), limit=100, using="default")
            run = dispatch._Run(using="default", clock=clock)
            run._submit(lease)
            Delivery.objects.waiting().update(due_at=clock(), lease_token=None)
            other = worker.drain(clock=clock)
            run.executor.close()

        assert run.pacer.next_moment() is not None
        assert other.next_in is None
        run.pacer.end()
        assert RateLimitState.objects.get().pacer is None

    @pytest.mark.parametrize(("is_patient", "count"), [(True, 2), (False, 1)])
    def test_a_patient_run_waits_for_moments_that_are_near(self, monkeypatch, is_patient, count):
        monkeypatch.setattr(pacing, "LINGER", 3.0)
        with receiving(204) as receiver:
            factories.subscription(url=receiver.url, rate_limit_per_second=0.5)
            record(2)
            drained = worker.drain(is_patient=is_patient)

        assert len(receiver.requests) == count
        assert (drained.next_in is None) is is_patient

    def test_retries_count(self, clock):
        with receiving(500) as receiver:
            factories.subscription(
                url=receiver.url, rate_limit_per_second=1, retry_base_seconds=1.0, health_fall=1000
            )
            record(2)
            for _ in range(6):
                worker.drain(clock=clock)
                clock.move(seconds=1)

        # Each moment brought one, old or new.
        assert 4 <= len(receiver.requests) <= 6
        assert Attempt.objects.filter(number=2).exists()

    def test_replays_count(self, clock):
        from django_webhooks.sending.replays.single import replay

        with receiving(204) as receiver:
            factories.subscription(url=receiver.url, rate_limit_per_second=1)
            record(1)
            worker.drain(clock=clock)
            replay(Delivery.objects.all())
            worker.drain(clock=clock)
            assert len(receiver.requests) == 1
            clock.move(seconds=1)
            worker.drain(clock=clock)

        assert len(receiver.requests) == 2

    def test_others_are_not_limited(self, clock):
        with receiving(204) as limited, receiving(204) as free:
            factories.subscription(url=limited.url, rate_limit_per_second=1)
            factories.subscription(url=free.url)
            record(30)
            worker.drain(clock=clock)

        assert (len(limited.requests), len(free.requests)) == (1, 30)

    def test_the_setting_limits_all_that_have_no_limit_of_their_own(self, clock, settings):
        settings.WEBHOOKS_RATE_LIMIT_PER_SECOND = 2
        with receiving(204) as one, receiving(204) as other:
            factories.subscription(url=one.url)
            factories.subscription(url=other.url, rate_limit_per_second=4)
            record(10)
            worker.drain(clock=clock)

        assert (len(one.requests), len(other.requests)) == (2, 4)

    def test_what_waited_too_long_in_a_process_asks_again(self, clock):
        with receiving(204) as receiver:
            factories.subscription(url=receiver.url, rate_limit_per_second=5)
            record(1)
            run = dispatch._Run(using="default", clock=clock)
            lease = claims.take(now=clock(), limit=10, using="default")
            [job] = run.pacer.admit(
                [run_planner(run, lease).plan(one) for one in lease.deliveries], lease
            )
            assert not run.pacer.is_stale(job, until=lease.until, now=clock())
            clock.move(seconds=0.6)
            begun = run._attempt((job, lease.until))
            run.executor.close()

        assert isinstance(begun, dispatch._Unstarted)
        assert receiver.requests == []


def run_planner(run, lease):
    return claims.Planner(clock=run.clock, until=lease.until, using=run.using)


class TestInFlight:
    """Requests in flight, over all workers."""

    def test_what_another_worker_has_counts(self, clock):
        with receiving(204) as receiver:
            factories.subscription(url=receiver.url, max_in_flight=3)
            record(3)
            assert len(leased(clock)) == 3
            record(5)
            drained = worker.drain(clock=clock)

        assert (drained.attempts, receiver.requests) == (0, [])
        assert waits(clock) == {"leased": 3, "held": 5}

    def test_a_dead_worker_counts_until_its_leases_end(self, clock):
        with receiving(204) as receiver:
            factories.subscription(url=receiver.url, max_in_flight=3)
            record(3)
            leased(clock)
            record(5)
            worker.drain(clock=clock)
            clock.move(seconds=61)
            worker.drain(clock=clock)

        assert len(receiver.requests) == 8
        assert RateLimitState.objects.get().released_through is None

    def test_never_more_at_once_at_the_receiver(self, clock, monkeypatch):
        # As after a success: else the second of a run waits for its first.
        monkeypatch.setattr(executor, "FIRST", 2)
        first = Answer(204, delay=0.05, gate=lambda: until(lambda: len(receiver.requests) > 1))
        with receiving(first, Answer(204, delay=0.05)) as receiver:
            factories.subscription(url=receiver.url, max_in_flight=2)
            record(12)
            for _ in range(20):
                worker.drain(clock=clock)

        assert len(receiver.requests) == 12
        assert most_at_once(receiver) == 2

    def test_what_ends_makes_room_in_the_same_transaction(self, clock, settings):
        with receiving(204) as receiver:
            factories.subscription(url=receiver.url, max_in_flight=2)
            record(6)
            run = dispatch._Run(using="default", clock=clock)
            run.take()
            assert waits(clock) == {"leased": 2, "held": 4}
            while not run.executor.is_empty:
                run._record(run.executor.collect(timeout=0.1))
            run.executor.close()

        assert len(receiver.requests) == 2
        assert waits(clock) == {"due": 2, "held": 2}

    def test_what_is_newer_goes_after_what_was_released(self, clock):
        with receiving(204) as receiver:
            factories.subscription(url=receiver.url, max_in_flight=1)
            record(1)
            first = claims.take(now=clock(), limit=1, using="default")
            record(3)
            worker.drain(clock=clock)
            claims.give_back(first.deliveries, now=clock(), using="default")
            Delivery.objects.filter(due_at__isnull=False).update(due_at=None)
            limits.nudge(now=clock(), using="default")
            [newest] = factories.record()
            # It is leased by itself, while another worker would take what was released.
            worker.drain([newest.pk], clock=clock)

        assert receiver.ids == [one.message_id for one in Delivery.objects.order_by("pk")]

    def test_what_fails_makes_room_too(self, clock):
        with receiving(500, 500, 204) as receiver:
            factories.subscription(url=receiver.url, max_in_flight=1, health_fall=100)
            record(4)
            worker.drain(clock=clock)

        assert len(receiver.requests) >= 3

    def test_both_limits(self, clock):
        with receiving(204) as receiver:
            factories.subscription(url=receiver.url, max_in_flight=2, rate_limit_per_second=4)
            record(20)
            arrived = []
            for _ in range(30):
                worker.drain(clock=clock)
                arrived.append(len(receiver.requests))
                clock.move(seconds=0.25)

        assert arrived[0] <= 4
        assert all(count <= 4 + index for index, count in enumerate(arrived))
        assert arrived[-1] == 20


def most_at_once(receiver):
    spans = [(one.at, one.answered_at) for one in receiver.requests]
    return max(sum(began <= at < ended for began, ended in spans) for at, _ in spans)


class TestNothingWaitsForEver:
    """What ends a wait, whatever happened."""

    @pytest.fixture
    def backed_up(self, clock):
        """A subscription with much held, whose worker is gone."""
        with receiving(204) as receiver:
            made = factories.subscription(url=receiver.url, rate_limit_per_second=1)
            record(40)
            worker.drain(clock=clock)
            assert waits(clock)["held"] == 24
            Delivery.objects.filter(due_at__isnull=False).update(due_at=None)
            RateLimitState.objects.update(reserved_until=None)
            yield made, receiver

    def drain(self, clock, *, times=60):
        for _ in range(times):
            worker.drain(clock=clock)
            clock.move(seconds=1)

    def test_the_sweep_releases_without_any_worker_s_memory(self, clock, backed_up, monkeypatch):
        _, receiver = backed_up
        monkeypatch.setattr(tasks, "hint", lambda task: None)
        monkeypatch.setattr(heartbeat, "beat", lambda name: None)
        monkeypatch.setattr(tasks, "DatabaseClock", lambda using: clock)
        assert waits(clock) == {"held": 39}

        tasks.sweep()

        assert waits(clock)["held"] < 39
        self.drain(clock)
        assert len(receiver.requests) == 40

    def test_a_limit_that_is_raised(self, clock, backed_up):
        made, receiver = backed_up
        made.rate_limit_per_second = 1000
        made.save()

        clock.move(seconds=0.1)
        worker.drain(clock=clock)

        assert len(receiver.requests) == 40

    def test_a_limit_that_is_lifted(self, clock, backed_up):
        made, receiver = backed_up
        made.rate_limit_per_second = None
        made.save()

        worker.drain(clock=clock)

        assert len(receiver.requests) == 40
        limits.nudge(now=clock(), using="default")
        assert RateLimitState.objects.get().released_through is None

    def test_a_limit_that_is_changed_past_the_model(self, clock, backed_up):
        _, receiver = backed_up
        Subscription.objects.update(rate_limit_per_second=None)

        limits.nudge(now=clock(), using="default")
        worker.drain(clock=clock)

        assert len(receiver.requests) == 40

    def test_a_limit_that_is_lowered(self, clock, backed_up):
        made, receiver = backed_up
        made.rate_limit_per_second = 0.1
        made.save()
        before = len(receiver.requests)

        clock.move(seconds=1)
        self.drain(clock, times=20)

        assert len(receiver.requests) - before in {2, 3}

    def test_pause_and_resume(self, clock, backed_up):
        made, receiver = backed_up
        made.pause()
        limits.nudge(now=clock(), using="default")
        self.drain(clock, times=3)
        assert len(receiver.requests) == 1

        made.resume()
        self.drain(clock)

        assert len(receiver.requests) == 40
        assert receiver.ids == [one.message_id for one in Delivery.objects.order_by("pk")]

    def test_what_a_pause_held_flows_as_the_limit_allows(self, clock):
        with receiving(204) as receiver:
            made = factories.subscription(url=receiver.url, rate_limit_per_second=10)
            made.pause()
            record(300)
            made.resume()
            # Past the real time that a busy machine took to record them.
            clock.move(seconds=120)
            assert waits(clock) == {"due": 200, "held": 100}  # a batch, and the rest
            self.drain(clock, times=40)

        assert len(receiver.requests) == 300

    def test_what_was_recorded_while_it_came_back_is_found(self, clock, backed_up):
        _, receiver = backed_up
        RateLimitState.objects.update(released_through=None)

        maintenance.release_forgotten(now=clock())
        limits.nudge(now=clock(), using="default")
        self.drain(clock)

        assert len(receiver.requests) == 40

    def test_a_subscription_whose_key_is_gone_is_left_alone(self, clock, backed_up):
        made, _ = backed_up
        Subscription.objects.filter(pk=made.pk).update(unreadable_since=clock())
        self.drain(clock, times=3)

        assert maintenance.release_readable() > 0

    def test_a_slow_start(self, clock, backed_up):
        _, receiver = backed_up
        EndpointHealth.objects.update(slow_start_released=0)
        assert limits.nudge(now=clock(), using="default") == 0

        maintenance.nudge(now=clock(), using="default")
        self.drain(clock, times=80)

        assert len(receiver.requests) == 40
        assert EndpointHealth.objects.get().slow_start_released is None

    def test_a_limit_that_is_lifted_in_a_slow_start_leaves_that_to_go_on(self, clock, backed_up):
        _, receiver = backed_up
        EndpointHealth.objects.update(slow_start_released=2)
        Subscription.objects.update(rate_limit_per_second=None)

        limits.nudge(now=clock(), using="default")

        assert waits(clock) == {"held": 39}
        maintenance.nudge(now=clock(), using="default")
        worker.drain(clock=clock)
        assert len(receiver.requests) == 40

    def test_failover(self, clock):
        with receiving(500) as primary, receiving(204) as backup:
            made = factories.subscription(url=primary.url, rate_limit_per_second=2)
            made.endpoints.create(url=backup.url, position=1)
            record(20)
            self.drain(clock, times=30)

        assert len(backup.requests) == 20
        sent = [*primary.requests, *backup.requests]
        assert len(sent) <= 2 + 2 * 30

    def test_a_trial_that_has_to_wait_is_made_later(self, clock):
        with receiving(204) as receiver:
            factories.subscription(url=receiver.url, rate_limit_per_second=0.5, max_in_flight=1)
            record(1)
            worker.drain(clock=clock)
            EndpointHealth.objects.update(
                state="trial", is_active=None, failing_since=clock(), since=clock()
            )
            record(1)
            Delivery.objects.waiting().update(due_at=clock())
            worker.drain(clock=clock)
            assert len(receiver.requests) == 1
            assert EndpointHealth.objects.get().trial_until is None
            clock.move(seconds=2)
            worker.drain(clock=clock)

        assert len(receiver.requests) == 2
        assert EndpointHealth.objects.get().state == "healthy"

    def test_a_subscription_that_is_deleted(self, clock, backed_up):
        made, _ = backed_up
        made.delete()

        worker.drain(clock=clock)

        assert not RateLimitState.objects.exists()
        assert limits.nudge(now=clock(), using="default") == 0


class TestWords:
    """What people are told of it."""

    def explain(self, clock, **filters):
        return Delivery.objects.waiting().filter(**filters).order_by("pk").first().explain(clock())

    def test_a_delivery_that_waits_for_its_moment(self, clock):
        with receiving(204) as receiver:
            factories.subscription(url=receiver.url, rate_limit_per_second=0.5)
            record(2)
            worker.drain(clock=clock)

        at = timezone.localtime(clock() + timedelta(seconds=2))
        assert self.explain(clock) == (
            "Waits because of the limit of its subscription (0.5 a second); its turn is at "
            f"{at:%Y-%m-%d %H:%M:%S}."
        )

    def test_a_delivery_that_is_held(self, clock):
        with receiving(204) as receiver:
            factories.subscription(url=receiver.url, rate_limit_per_second=1)
            record(40)
            worker.drain(clock=clock)

        at = timezone.localtime(clock() + timedelta(seconds=16))
        assert self.explain(clock, due_at=None) == (
            "Waits because of the limit of its subscription (1 a second); 0 others go first, and "
            f"its turn is at about {at:%Y-%m-%d %H:%M:%S}."
        )
        [_, second] = Delivery.objects.held().order_by("pk")[:2]
        assert "; 1 other goes first, and its turn is at about " in second.explain(clock())

    def test_a_delivery_that_waits_for_others_to_end(self, clock):
        factories.subscription(max_in_flight=2)
        record(2)
        leased(clock)
        record(3)
        worker.drain(clock=clock)

        last = Delivery.objects.order_by("-pk").first()
        assert last.explain(clock()) == (
            "Waits because of the limit of its subscription (2 at once); 2 others go first."
        )
        [second] = Delivery.objects.order_by("-pk")[1:2]
        assert second.explain(clock()) == (
            "Waits because of the limit of its subscription (2 at once); 1 other goes first."
        )

    def test_pages_show_the_limit_and_how_many_wait(self, clock, admin_client):
        with receiving(204) as receiver:
            made = factories.subscription(
                url=receiver.url, rate_limit_per_second=1, max_in_flight=5
            )
            record(40)
            worker.drain(clock=clock)

        page = admin_client.get(f"/admin/django_webhooks/subscription/{made.pk}/change/")
        overview = admin_client.get("/admin/django_webhooks/overviewpage/")

        words = "1 a second, 5 at once; waiting because of it: 39."
        assert words in page.content.decode()
        assert words in overview.content.decode()

    def test_no_limit(self, admin_client):
        made = factories.subscription()

        page = admin_client.get(f"/admin/django_webhooks/subscription/{made.pk}/change/")

        assert "No limit." in page.content.decode()


class TestFields:
    """What can be entered."""

    @pytest.mark.parametrize(
        "fields",
        [{"rate_limit_per_second": 0.0}, {"rate_limit_per_second": -1.0}, {"max_in_flight": 0}],
    )
    def test_a_limit_is_above_zero(self, fields):
        with pytest.raises(IntegrityError), transaction.atomic():
            factories.subscription(**fields)
        with pytest.raises(ValidationError):
            Subscription(name="x", **fields).full_clean()

    @pytest.mark.parametrize("rate", [float("inf"), float("nan")])
    def test_a_rate_is_finite(self, rate):
        with pytest.raises(ValidationError):
            Subscription(name="x", rate_limit_per_second=rate).clean_fields()


class TestCosts:
    """What limits cost those that have none, and what a backlog costs."""

    def test_who_has_no_limit_asks_nothing(self, clock):
        with receiving(204) as receiver:
            factories.subscription(url=receiver.url)
            record(3)
            with CaptureQueriesContext(connection) as statements:
                worker.drain(clock=clock)

        assert len(receiver.requests) == 3
        assert not any("webhooks_flow" in one["sql"] for one in statements.captured_queries)

    @pytest.mark.usefixtures("new_files")
    def test_a_long_backlog_is_put_aside_in_few_steps(self, clock, monkeypatch):
        monkeypatch.setattr(dispatch, "DRAIN_SECONDS", 100.0)
        count = 20_000
        factories.subscription(rate_limit_per_second=1)
        [first] = factories.record(data={"id": 1})
        Delivery.objects.bulk_create(
            (
                Delivery(
                    event_id=first.event_id,
                    subscription_id=first.subscription_id,
                    replay=number,
                    due_at=clock() - timedelta(minutes=1),
                )
                for number in range(1, count)
            ),
            batch_size=2000,
        )
        taken = []
        take = claims.take

        def taking(**options):
            lease = take(**options)
            taken.append(len(lease.deliveries))
            return lease

        monkeypatch.setattr(claims, "take", taking)
        with receiving(204) as free:
            factories.subscription(url=free.url, event_types=["user.joined"])
            factories.record("user.joined")
            worker.drain(clock=clock)

        assert len(free.requests) == 1
        assert sum(taken) < 1000
        assert Delivery.objects.due(clock()).count() == 0
        held = Delivery.objects.held()
        assert held.count() > count - 100
        if connection.vendor == "postgresql":
            # Statistics of before these rows would have it sort what it takes for one.
            with connection.cursor() as cursor:
                cursor.execute("ANALYZE django_webhooks_delivery")
        # The oldest of them is found by the index alone.
        plan = held.filter(subscription_id=first.subscription_id).oldest_first()[:10].explain()
        assert "webhooks_delivery_held" in plan or connection.vendor == "mysql"
        assert "sort" not in plan.lower() or connection.vendor == "mysql"
        assert "temp b-tree" not in plan.lower()
