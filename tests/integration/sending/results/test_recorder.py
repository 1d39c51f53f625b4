"""The recorder: what attempts brought, recorded once, with what follows."""

from __future__ import annotations

import uuid

import pytest
from django.db import InterfaceError, InternalError, OperationalError, connection

from django_webhooks.models import Attempt, Delivery, Endpoint
from django_webhooks.sending import claims
from django_webhooks.sending.attempts import Job, Result, make
from django_webhooks.sending.http import Answer as Answered
from django_webhooks.sending.results import record, recorder
from tests import factories
from tests.factories import Clock
from tests.receivers import receiving

pytestmark = pytest.mark.django_db


@pytest.fixture
def clock():
    return Clock()


class TestTheRecorder:
    """Results are written by the holder of the lease, once, with all that follows."""

    def job(self, delivery):
        return Job(
            delivery=delivery,
            subscription=delivery.subscription,
            endpoint=delivery.subscription.endpoints.get(),
            policy=delivery.subscription.retry_policy,
        )

    def result(self, clock, *, status=200):
        lease = claims.take(now=clock(), limit=10, using="default")
        [delivery] = lease.deliveries
        job = self.job(delivery)
        with receiving(status) as receiver:
            job.endpoint.url = receiver.url
            return make(job, now=clock())

    def record(self, clock, *results, **options):
        return record(results, now=clock(), using="default", **options).entries

    def test_a_late_result_overwrites_nothing(self, clock):
        delivery = factories.delivery()
        late = self.result(clock, status=500)
        clock.move(seconds=61)
        current = self.result(clock)

        assert self.record(clock, late) == []
        delivery.refresh_from_db()
        assert (delivery.status, delivery.attempts_made) == ("waiting", 0)
        assert delivery.lease_token == current.job.delivery.lease_token
        assert [one.is_late for one in Attempt.objects.all()] == [True]

        self.record(clock, current)
        delivery.refresh_from_db()
        assert (delivery.status, delivery.attempts_made) == ("succeeded", 1)

    def test_one_that_is_late_costs_its_neighbours_nothing(self, clock):
        with receiving(200) as receiver:
            factories.subscription(url=receiver.url)
            [late], [neighbour] = factories.record(), factories.record()
            lease = claims.take(now=clock(), limit=10, using="default")
            results = [make(self.job(one), now=clock()) for one in lease.deliveries]
        Delivery.objects.filter(pk=late.pk).update(lease_token=uuid.uuid4())

        [entry] = self.record(clock, *results)

        assert entry.delivery.pk == neighbour.pk
        found = dict(Delivery.objects.values_list("pk", "status"))
        assert found == {late.pk: "waiting", neighbour.pk: "succeeded"}
        found = dict(Attempt.objects.values_list("delivery_id", "is_late"))
        assert found == {late.pk: True, neighbour.pk: False}

    def test_a_result_of_a_cancelled_delivery_changes_nothing(self, clock):
        delivery = factories.delivery()
        result = self.result(clock)
        Delivery.objects.filter(pk=delivery.pk).cancel()

        assert self.record(clock, result) == []
        delivery.refresh_from_db()
        assert delivery.status == "cancelled"

    def test_a_result_of_a_deleted_delivery_is_dropped(self, clock):
        delivery = factories.delivery()
        result = self.result(clock)
        Delivery.objects.filter(pk=delivery.pk).delete()

        assert self.record(clock, result) == []
        assert not Attempt.objects.exists()

    def test_a_result_of_a_deleted_endpoint_is_kept(self, clock):
        factories.delivery()
        result = self.result(clock)
        host = result.job.endpoint.host
        Endpoint.objects.all().delete()

        self.record(clock, result)

        attempt = Attempt.objects.get()
        assert (attempt.endpoint, attempt.endpoint_host) == (None, host)
        assert Delivery.objects.get().status == "succeeded"

    def test_fifty_results_cost_as_many_queries_as_one(self, clock, django_assert_num_queries):
        subscription = factories.subscription()
        for number in range(51):
            factories.record(data={"id": number})
        lease = claims.take(now=clock(), limit=51, using="default")
        results = []
        for delivery in lease.deliveries:
            job = Job(
                delivery=delivery,
                subscription=subscription,
                endpoint=subscription.endpoints.get(),
                policy=subscription.retry_policy,
            )
            response = Answered(status=204)
            results.append(
                Result(
                    job=job,
                    started_at=clock(),
                    duration=0.1,
                    response=response,
                    outcome=recorder_outcome(),
                )
            )
        fields = len(Attempt._meta.concrete_fields)
        limit = connection.features.max_query_params
        inserts = 1 if limit is None else -(-50 // (limit // fields))

        # The first success of an endpoint is noted.
        with django_assert_num_queries(7):
            self.record(clock, results[0])
        with django_assert_num_queries(5 + inserts):
            self.record(clock, *results[1:])

    # PostgreSQL says InternalError while it is read-only.
    @pytest.mark.parametrize("error", [OperationalError, InterfaceError, InternalError])
    @pytest.mark.django_db(transaction=True)
    def test_a_database_that_fails_for_a_while_is_asked_again(self, clock, monkeypatch, error):
        factories.delivery()
        result = self.result(clock)
        real, failures, pauses = recorder._store, [error("gone")] * 2, []

        def store(*args, **kwargs):
            if failures:
                raise failures.pop()
            return real(*args, **kwargs)

        monkeypatch.setattr(recorder, "_store", store)
        self.record(clock, result, sleep=pauses.append)

        assert Delivery.objects.get().status == "succeeded"
        assert Attempt.objects.count() == 1
        assert pauses == list(recorder.PAUSES[:2])

    @pytest.mark.django_db(transaction=True)
    def test_a_database_that_stays_away_is_an_error(self, clock, monkeypatch):
        factories.delivery()
        result = self.result(clock)

        def store(*args, **kwargs):
            raise OperationalError("gone")

        monkeypatch.setattr(recorder, "_store", store)
        with pytest.raises(OperationalError):
            self.record(clock, result, sleep=lambda seconds: None)

        assert Delivery.objects.get().status == "waiting"


def recorder_outcome():
    from django_webhooks.policies.outcome import Outcome, Verdict

    return Outcome(verdict=Verdict.SUCCEEDED)
