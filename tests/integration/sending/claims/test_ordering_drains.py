"""Order as receivers see it: retries, failover and outages; time is passed in."""

from __future__ import annotations

import json

import pytest

from django_webhooks.models import Delivery, Endpoint, EndpointHealth, Switch
from django_webhooks.sending import maintenance, worker
from tests import factories
from tests.factories import Clock
from tests.receivers import Answer, receiving

pytestmark = pytest.mark.django_db


@pytest.fixture
def clock():
    return Clock()


def record(*keys):
    """Record an event for each key, and return the deliveries."""
    return [factories.record(data={"id": n}, ordering_key=key)[0] for n, key in enumerate(keys)]


def sent(receiver, status=204):
    """Return the ids that the receiver accepted, in order of their requests."""
    accepted = [one for one in receiver.requests if one.status == status]
    return [json.loads(one.body)["data"]["id"] for one in accepted]


class TestDrains:
    """What the receivers see."""

    def test_the_order_is_kept_and_one_drain_sends_all(self, clock):
        with receiving(204) as receiver:
            factories.subscription(url=receiver.url, ordering="key")
            record(*("ab"[number % 2] for number in range(40)))

            worker.drain(clock=clock)

        arrived = sent(receiver)
        assert [one for one in arrived if one % 2] == list(range(1, 40, 2))
        assert [one for one in arrived if not one % 2] == list(range(0, 40, 2))

    def test_a_retry_holds_up_its_partition_alone(self, clock):
        with receiving() as receiver:
            factories.subscription(url=receiver.url, ordering="key")
            receiver.answers = [Answer(500), Answer(204)]
            record("a", "a", "b", "")

            worker.drain(clock=clock)
            first = sent(receiver)
            clock.move(seconds=10)
            worker.drain(clock=clock)

        # One of the three that may go failed.
        assert len(first) in {2, 3}
        assert Delivery.objects.succeeded().count() == 4
        arrived = sent(receiver)
        assert arrived.index(0) < arrived.index(1)

    def test_one_that_is_given_up_lets_the_next_go_at_once(self, clock):
        with receiving() as receiver:
            factories.subscription(url=receiver.url, ordering="all", retry_attempts=1)
            receiver.answers = [Answer(400), Answer(204)]
            record("", "", "")

            worker.drain(clock=clock)

        assert sent(receiver) == [1, 2]
        assert Delivery.objects.given_up().count() == 1

    @pytest.mark.parametrize("failover", ["each", "switch"])
    def test_the_order_is_kept_while_the_traffic_goes_to_a_backup(self, clock, failover):
        with receiving() as primary, receiving() as backup:
            made = factories.subscription(url=primary.url, ordering="all", failover=failover)
            Endpoint.objects.create(subscription=made, url=backup.url, position=1)
            primary.answers = [Answer(503)]
            record(*("" for _ in range(10)))

            for _ in range(20):
                worker.drain(clock=clock)
                clock.move(seconds=300)

        assert sent(backup) == list(range(10))
        # Nothing overlaps: each request begins when the one before it was answered.
        requests = sorted(primary.requests + backup.requests, key=lambda one: one.at)
        ends = [one.answered_at for one in requests]
        assert all(one.at >= before for before, one in zip(ends, requests[1:], strict=False))

    def test_one_event_is_evidence_where_the_others_wait_behind_it(self, clock):
        with receiving(204) as backup:
            made = factories.subscription(ordering="all")
            Endpoint.objects.create(subscription=made, url=backup.url, position=1)
            record("", "", "")

            for _ in range(4):
                worker.drain(clock=clock)
                clock.move(seconds=300)

        assert list(Switch.objects.values_list("cause", flat=True)) == ["failover"]
        assert sent(backup) == [0, 1, 2]

    def test_an_outage_of_all_endpoints_ends_in_order(self, clock):
        with receiving(204) as receiver:
            factories.subscription(url=receiver.url, ordering="all", retry_attempts=50)
            record(*("" for _ in range(6)))
            receiver.answers = [Answer(503)]
            for _ in range(4):
                worker.drain(clock=clock)
                clock.move(seconds=300)
            assert not EndpointHealth.objects.filter(is_active=True).exists()
            receiver.answers = [Answer(204)]
            EndpointHealth.objects.update(state="trial", hold_until=None)

            maintenance.nudge(now=clock())
            for _ in range(8):
                worker.drain(clock=clock)
                clock.move(seconds=2)

        assert sent(receiver) == [0, 1, 2, 3, 4, 5]
