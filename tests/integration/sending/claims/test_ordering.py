"""Order: what of a subscription goes one after the other; time is passed in."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from django_webhooks import events, replays
from django_webhooks.fields import uuid7
from django_webhooks.hooks import drafts
from django_webhooks.models import Delivery, Event, Subscription
from django_webhooks.policies.ordering import EVERYTHING, Ordering, partition
from django_webhooks.sending import claims, maintenance, worker
from django_webhooks.sending.claims import ordering
from django_webhooks.sending.maintenance import release
from tests import factories, pages
from tests.factories import Clock
from tests.testapp.hooks import listen, registered
from tests.testapp.models import Order

pytestmark = pytest.mark.django_db


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def subscription():
    return factories.subscription(ordering="key")


def record(*keys):
    """Record an event for each key, and return the deliveries."""
    return [factories.record(data={"id": n}, ordering_key=key)[0] for n, key in enumerate(keys)]


def take(clock, **options):
    options.setdefault("limit", 100)
    return claims.take(now=clock(), using="default", **options)


def keys_of(lease):
    return {one.pk for one in lease.deliveries}


def end(*deliveries, status="succeeded"):
    """End deliveries as the recorder does, without a request."""
    rows = Delivery.objects.filter(pk__in=[one.pk for one in deliveries])
    over = {"status": status, "finished_at": factories.times.now()}
    rows.update(due_at=None, lease_token=None, **over)
    rows.pass_on(now=factories.times.now())


class TestRecording:
    """Which deliveries have a partition, and which."""

    @pytest.mark.parametrize(
        ("ordering", "key", "expected"),
        [
            (Ordering.NONE, "order-17", ""),
            (Ordering.KEY, "order-17", "order-17"),
            (Ordering.KEY, "", ""),
            (Ordering.ALL, "order-17", EVERYTHING),
            (Ordering.ALL, "", EVERYTHING),
        ],
    )
    def test_the_order_of_the_subscription_decides(self, ordering, key, expected):
        factories.subscription(ordering=ordering.value)

        [delivery] = factories.record(ordering_key=key)

        assert delivery.event.ordering_key == key
        if expected == "order-17":
            expected = partition(Ordering.KEY, "order-17")
            assert len(expected) == 32
        assert delivery.partition == expected

    def test_partitions_tell_apart_what_databases_do_not(self, subscription):
        partitions = {one.partition for one in record("a", "A", "a ", "ä", "*")}

        assert len(partitions) == 5
        assert EVERYTHING not in partitions

    def test_a_key_may_be_long(self, subscription):
        [delivery] = record("k" * 200)

        delivery.event.refresh_from_db()
        assert delivery.event.ordering_key == "k" * 200

    def test_a_key_that_is_too_long_is_refused_before_anything_is_written(self, subscription):
        with pytest.raises(ValueError, match="ordering_key of at most 200"):
            events.emit("order.paid", {}, ordering_key="k" * 201)

        assert not Event.objects.exists()

    def test_emit_and_emit_many_take_it(self, subscription):
        events.emit("order.paid", {}, ordering_key="17")
        events.emit_many([events.Draft(event_type="order.paid", data={}, ordering_key="18")])

        assert list(Event.objects.order_by("pk").values_list("ordering_key", flat=True)) == [
            "17",
            "18",
        ]


@registered(Order, fields=["number"])
def test_a_row_of_a_model_is_a_key():
    listen()
    order = Order.objects.create(number="1")
    key = order.pk
    order.number = "2"
    order.save()
    order.delete()

    assert [one.ordering_key for one in Event.objects.all()] == [f"testapp.order:{key}"] * 3


@registered(Order, fields=["number"], ordering_key=lambda self, instance: f"shop {instance.number}")
def test_a_model_chooses_its_own_key():
    listen()
    Order.objects.create(number="1")

    assert Event.objects.get().ordering_key == "shop 1"


class TestTurns:
    """Leases of what has a partition."""

    def test_the_first_of_each_partition_is_leased(self, subscription, clock):
        a1, b1, a2, free1, free2 = record("a", "b", "a", "", "")

        lease = take(clock)

        assert keys_of(lease) == {a1.pk, b1.pk, free1.pk, free2.pk}
        assert lease.found == 5
        a2.refresh_from_db()
        assert (a2.due_at, a2.lease_token) == (None, None)

    def test_many_partitions_are_leased_at_once(self, subscription, clock):
        made = record(*(f"{number}" for number in range(50)), *("0" for _ in range(50)))

        with CaptureQueriesContext(connection) as queries:
            lease = take(clock)

        assert keys_of(lease) == {one.pk for one in made[:50]}
        verbs = [q["sql"].split()[0] for q in queries if q["sql"][:6] in {"SELECT", "UPDATE"}]
        # Two looks; endpoints, heads, what is under way, what is free; marked and held; loaded.
        assert len(verbs) <= 2 + (1 if connection.vendor == "sqlite" else 0) + 6 + 5

    def test_all_of_a_subscription_can_be_one_partition(self, clock):
        factories.subscription(ordering="all")
        made = record("a", "", "b")

        assert keys_of(take(clock)) == {made[0].pk}
        assert keys_of(take(clock)) == set()

    def test_subscriptions_have_partitions_of_their_own(self, subscription, clock):
        other = factories.subscription(ordering="key")
        made = factories.record(ordering_key="a")

        assert {one.subscription_id for one in made} == {subscription.pk, other.pk}
        assert keys_of(take(clock)) == {one.pk for one in made}

    def test_one_that_is_named_out_of_turn_waits(self, subscription, clock):
        first, second = record("a", "a")

        # It is due, and so its partition gets its turn.
        assert keys_of(take(clock, ids=[second.pk])) == {first.pk}

    def test_the_next_is_due_once_the_first_is_over(self, subscription, clock):
        first, second, third = record("a", "a", "a")
        take(clock)

        end(first)

        assert keys_of(take(clock)) == {second.pk}
        assert Delivery.objects.get(pk=third.pk).due_at is None

    def test_one_that_waits_for_its_retry_holds_up_the_others(self, subscription, clock):
        first, second, other = record("a", "a", "b")
        Delivery.objects.filter(pk=first.pk).update(
            due_at=clock() + timedelta(minutes=1), attempts_made=1
        )

        assert keys_of(take(clock)) == {other.pk}

        clock.move(seconds=61)
        assert keys_of(take(clock)) >= {first.pk}
        assert Delivery.objects.get(pk=second.pk).due_at is None

    def test_one_that_becomes_visible_late_waits_for_what_is_under_way(self, subscription, clock):
        early = uuid7()
        late, last = record("a", "a")
        assert keys_of(take(clock)) == {late.pk}
        factories.event(pk=early)
        Delivery.objects.create(
            id=early,
            event_id=early,
            subscription=subscription,
            partition=late.partition,
            due_at=clock(),
        )

        assert keys_of(take(clock)) == set()
        end(late)

        assert keys_of(take(clock)) == {early}
        end(Delivery.objects.get(pk=early))
        assert keys_of(take(clock)) == {last.pk}

    def test_one_that_became_visible_late_goes_before_a_retry(self, subscription, clock):
        early = uuid7()
        [late] = record("a")
        lease = take(clock)
        factories.event(pk=early)
        Delivery.objects.create(
            id=early,
            event_id=early,
            subscription=subscription,
            partition=late.partition,
            due_at=clock(),
        )
        # It is held, because the other is under way.
        assert keys_of(take(clock)) == set()

        claims.give_back(lease.deliveries, now=clock(), using="default")

        assert keys_of(take(clock)) == {early}
        assert Delivery.objects.get(pk=late.pk).due_at is None

    def test_what_a_dead_worker_held_is_the_first_to_be_taken_again(self, subscription, clock):
        first, _ = record("a", "a")
        lost = take(clock)
        assert keys_of(take(clock)) == set()
        clock.move(seconds=61)

        again = take(clock)

        assert keys_of(again) == {first.pk}
        assert again.token != lost.token

    def test_a_subscription_without_endpoints_holds_all(self, clock):
        factories.subscription(ordering="key", url=None)
        [delivery] = record("a")
        Delivery.objects.update(due_at=clock())

        lease = take(clock)

        assert (keys_of(lease), lease.found) == (set(), 1)
        assert Delivery.objects.get(pk=delivery.pk).due_at is None

    def test_a_backlog_is_looked_at_once(self, subscription, clock):
        record(*("a" for _ in range(30)))

        looked_at = [take(clock, limit=10).found for _ in range(5)]

        assert looked_at == [10, 10, 10, 0, 0]

    def test_a_head_whose_turn_was_forgotten_is_found_by_the_sweep(self, subscription, clock):
        first, second = record("a", "a")
        Delivery.objects.update(due_at=None)
        later = clock() + 3 * release.RECENT

        assert maintenance.release_forgotten(now=later) == 1
        assert Delivery.objects.get(pk=second.pk).due_at is None
        assert keys_of(take(clock)) == {first.pk}
        assert maintenance.release_forgotten(now=later) == 0

    def test_the_sweep_leaves_the_heads_of_what_is_paused(self, subscription, clock):
        record("a", "a")
        subscription.pause()
        Delivery.objects.update(due_at=None)

        assert maintenance.release_forgotten(now=clock() + 3 * release.RECENT) == 0


class TestWhatEndsATurn:
    """Whatever ends a delivery lets the next one go at once."""

    @pytest.fixture
    def pair(self, subscription, clock):
        made = record("a", "a")
        assert keys_of(take(clock)) == {made[0].pk}
        assert keys_of(take(clock)) == set()
        return made

    def test_cancelling_it(self, pair, clock):
        first, second = pair

        assert Delivery.objects.filter(pk=first.pk).cancel() == 1

        assert keys_of(take(clock)) == {second.pk}

    def test_cancelling_what_is_in_the_middle(self, subscription, clock):
        first, second, third = record("a", "a", "a")
        take(clock)

        Delivery.objects.filter(pk=second.pk).cancel()
        assert keys_of(take(clock)) == set()
        end(first)

        assert keys_of(take(clock)) == {third.pk}

    def test_deleting_the_subscription(self, pair, subscription):
        subscription.delete()

        assert {one.status for one in Delivery.objects.all()} == {"cancelled"}

    def test_pruning_changes_nothing(self, pair, clock):
        first, second = pair
        end(first)
        Delivery.objects.filter(pk=first.pk).update(finished_at=clock() - timedelta(days=99))

        assert maintenance.prune(now=clock()) == 1

        assert keys_of(take(clock)) == {second.pk}

    def test_a_pause_holds_and_resuming_releases_heads_alone(self, subscription, clock):
        first, second, other = record("a", "a", "b")
        subscription.pause()
        worker.drain(clock=clock)
        assert Delivery.objects.held().count() == 3

        subscription.resume()

        due = Delivery.objects.filter(due_at__isnull=False)
        assert {one.pk for one in due} == {first.pk, other.pk}
        assert Delivery.objects.get(pk=second.pk).due_at is None

    def test_a_slow_start_counts_heads(self, subscription):
        a1, _, b1, free, c1 = record("a", "a", "b", "", "c")
        Delivery.objects.update(due_at=None)

        assert Delivery.objects.filter(subscription=subscription).release(limit=3) == 3

        due = Delivery.objects.filter(due_at__isnull=False)
        assert {one.pk for one in due} == {a1.pk, b1.pk, free.pk}
        assert Delivery.objects.filter(subscription=subscription).release(limit=3) == 1
        assert Delivery.objects.get(pk=c1.pk).due_at is not None

    def test_a_replay_goes_to_the_end_of_its_partition(self, pair, clock):
        first, second = pair
        end(first)

        [again] = replays.replay([first])

        assert again.partition == first.partition
        assert again.priority == Delivery.Priority.RETRY
        assert keys_of(take(clock)) == {second.pk}
        end(second)
        assert keys_of(take(clock)) == {again.pk}

    def test_a_replay_goes_by_the_order_of_today(self, pair, subscription):
        first, _ = pair
        end(first)
        Subscription.objects.update(ordering="all")

        [again] = replays.replay([first])

        assert again.partition == EVERYTHING

    def test_trying_now_out_of_turn_does_not_jump_the_queue(self, subscription, clock):
        first, second = record("a", "a")
        Delivery.objects.update(due_at=clock() + timedelta(hours=1), attempts_made=1)

        assert Delivery.objects.filter(pk=second.pk).try_now(clock()) == 1
        assert keys_of(take(clock)) == set()
        assert Delivery.objects.filter(pk=first.pk).try_now(clock()) == 1
        assert keys_of(take(clock)) == {first.pk}


def test_what_waits_for_its_turn_says_so(subscription, clock):
    first, second = record("a", "a")
    expected = f"Waits for its turn: delivery {first.pk} with the same ordering key goes first."

    assert second.explain(clock()) == expected
    assert first.explain(clock()).startswith("Waits for a worker")
    take(clock)
    second.refresh_from_db()
    assert second.explain(clock()) == expected
    first.refresh_from_db()
    assert first.explain(clock()).startswith("A worker is sending it")


def test_where_all_go_in_order_no_key_is_spoken_of(subscription, clock):
    Subscription.objects.update(ordering="all")
    first, second = record("a", "")

    assert second.explain(clock()) == (
        f"Waits for its turn: delivery {first.pk} of the same subscription goes first."
    )


def test_the_endpoints_are_locked_where_there_are_any(subscription):
    other = factories.subscription(url=None)

    found = ordering._lock([subscription.pk, other.pk], using="default")

    assert found == {subscription.pk}


@pytest.mark.parametrize(
    ("ordering", "key", "shown"),
    [
        ("key", "order-17", "order-17 (in order)"),
        ("all", "", "- (all of the subscription, in order)"),
        ("none", "order-17", "order-17"),
        ("none", "", "-"),
    ],
)
def test_the_admin_shows_the_key_and_the_order(admin_client, ordering, key, shown):
    factories.subscription(ordering=ordering)
    [delivery] = record(key)

    page = admin_client.get(pages.url("delivery", "change", delivery.pk)).content.decode()
    event = admin_client.get(pages.url("event", "change", delivery.event_id)).content.decode()

    assert f">{shown}<" in page
    assert key in event
    assert "Ordering key" in event


@registered(Order, fields=["number"])
def test_a_row_whose_key_is_long_has_a_digest_of_it():
    hook = drafts.hooks[Order]
    long = Order(pk=1, number="1")
    long.__dict__["id"] = "x" * 300

    key = hook.ordering_key(long)

    assert len(key) == 64
    assert key != hook.ordering_key(Order(pk=1, number="1")) == "testapp.order:1"
