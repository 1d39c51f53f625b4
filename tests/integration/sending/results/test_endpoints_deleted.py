"""Endpoints that are deleted, moved or disabled while results of their requests are recorded."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.db import connection, transaction

from django_webhooks import times
from django_webhooks.models import Attempt, Delivery, Endpoint, EndpointHealth, Subscription, Switch
from django_webhooks.policies import outcome
from django_webhooks.sending import limits
from django_webhooks.sending import results as recorder
from django_webhooks.sending.attempts import Job, Result
from django_webhooks.sending.claims import routing
from django_webhooks.sending.database import compiled_sql, loaders
from django_webhooks.sending.http import Answer
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)
#: Seconds in which the other thread gets as far as it can.
MOMENT = 0.5
HOST = "old.example.com"


class Meanwhile(threading.Thread):
    """Does something in a connection of its own."""

    def __init__(self, act):
        super().__init__(daemon=True)
        self.act, self.error = act, None

    def run(self):
        try:
            self.act()
        except Exception as error:
            self.error = error
        finally:
            connection.close()


def delete():
    Endpoint.objects.get(position=0).delete()


def delete_in_a_transaction():
    with transaction.atomic():
        delete()


def delete_in_the_list():
    Endpoint.objects.filter(position=0).delete()


def delete_all_in_the_list():
    Endpoint.objects.all().delete()


def delete_subscription():
    Subscription.objects.get().delete()


def delete_subscriptions():
    Subscription.objects.all().delete()


def delete_by_sql():
    """As somebody at the console of the database does, in the order of our locks."""
    with transaction.atomic():
        key = Endpoint.objects.get(position=0).pk
        list(Endpoint.objects.select_for_update().filter(pk=key))
        list(EndpointHealth.objects.select_for_update().filter(pk=key))
        Attempt.objects.filter(endpoint=key).update(endpoint=None)
        Switch.objects.filter(from_endpoint=key).update(from_endpoint=None)
        Switch.objects.filter(to_endpoint=key).update(to_endpoint=None)
        Delivery.objects.filter(endpoint=key).update(endpoint=None)
        EndpointHealth.objects.filter(pk=key)._raw_delete("default")
        Endpoint.objects.filter(pk=key)._raw_delete("default")


def disable():
    Endpoint.objects.get(position=0).disable("by hand")


def move():
    endpoint = Endpoint.objects.get(position=0)
    endpoint.url = "https://new.example.com/hook"
    endpoint.save()


def reorder():
    first, second = Endpoint.objects.order_by("position")
    for endpoint, position in ((first, 7), (second, 0), (first, 1)):
        endpoint.position = position
        endpoint.save()


DELETIONS = [
    delete,
    delete_in_a_transaction,
    delete_in_the_list,
    delete_all_in_the_list,
    delete_subscription,
    delete_subscriptions,
    delete_by_sql,
]
CHANGES = [disable, move, reorder]


def result_of(delivery, *, status):
    """A request that was made, to the primary."""
    now = times.now()
    Delivery.objects.filter(pk=delivery.pk).update(
        lease_token=delivery.event_id, due_at=now + timedelta(seconds=60)
    )
    [leased] = loaders.deliveries([delivery.pk], token=delivery.event_id, using="default")
    route = routing.of(leased.subscription, leased)
    job = Job(
        delivery=leased,
        subscription=leased.subscription,
        endpoint=route.endpoint,
        policy=leased.subscription.retry_policy,
    )
    return Result(
        job=job,
        started_at=now,
        duration=0.01,
        response=Answer(status=status, headers={}, body=b""),
        outcome=outcome.of_answer(status, {}, now=now, client_errors_final=False),
    )


@pytest.fixture
def results(request):
    subscription = factories.subscription(url=f"https://{HOST}/hook", event_types=["*"])
    Endpoint.objects.create(
        subscription=subscription, url="https://backup.example.com/hook", position=1
    )
    status = request.param
    return [result_of(factories.record(data={"id": n})[0], status=status) for n in range(3)]


@pytest.fixture(params=["limits.lock", "compiled_sql.insert_all"])
def in_the_middle(request, monkeypatch):
    """Do something in another connection, just before the recorder gets so far."""
    module, name = request.param.split(".")
    module = {"limits": limits, "compiled_sql": compiled_sql}[module]
    real = getattr(module, name)
    others = []

    def instead(*args, **how):
        if not others[0].ident:
            others[0].start()
            # SQLite lets one transaction write at a time; elsewhere it may wait for this one too.
            others[0].join(MOMENT)
        return real(*args, **how)

    def meanwhile(act):
        others.append(Meanwhile(act))
        monkeypatch.setattr(module, name, instead)
        return others[0]

    return meanwhile


@pytest.mark.parametrize("results", [204, 503, 404, 410, 429], indirect=True)
@pytest.mark.parametrize("act", DELETIONS + CHANGES)
def test_what_was_sent_is_recorded_and_the_change_succeeds(results, in_the_middle, act):
    other = in_the_middle(act)

    recorder.record(results, now=times.now(), using="default")
    other.join(60)

    assert other.error is None
    attempts = Attempt.objects.all()
    assert [one.endpoint_host for one in attempts] == [HOST] * 3
    assert {one.is_late for one in attempts} == {False}
    if act not in CHANGES:
        assert {one.endpoint_id for one in attempts} == {None}
    # Nothing of it is in a worker's hands any more, so that nothing is repeated.
    assert not Delivery.objects.filter(lease_token__isnull=False).exists()
    assert set(Delivery.objects.values_list("attempts_made", flat=True)) == {1}


@pytest.mark.parametrize("act", [delete_in_the_list, delete])
def test_another_endpoint_is_active_then(act):
    subscription = factories.subscription(url=f"https://{HOST}/hook")
    backup = Endpoint.objects.create(
        subscription=subscription, url="https://backup.example.com/hook", position=1
    )

    act()

    assert EndpointHealth.objects.get(is_active=True).endpoint == backup


def test_many_deletions_and_many_results_at_once():
    """As the admin deletes an active endpoint under traffic; no deadlock, no refusal."""
    if connection.vendor != "postgresql":
        pytest.skip("MariaDB may choose either as the victim of a deadlock; SQLite has one writer")
    made = []
    for number in range(6):
        subscription = factories.subscription(url=f"https://{HOST}/{number}", event_types=[])
        subscription.event_types = [f"thing.{number}"]
        made.append(subscription)
    results = [
        result_of(
            Delivery.objects.create(event=factories.event(), subscription=one, due_at=times.now()),
            status=status,
        )
        for one in made
        for status in (204, 503, 204, 404)
    ]
    recorders = [
        Meanwhile(lambda part=part: recorder.record(part, now=times.now(), using="default"))
        for part in (results[0::3], results[1::3], results[2::3])
    ]
    deleters = [
        Meanwhile(lambda one=one: Endpoint.objects.filter(subscription=one).delete())
        for one in made
    ]
    for thread in [*recorders, *deleters]:
        thread.start()
    for thread in [*recorders, *deleters]:
        thread.join(60)

    assert [one.error for one in [*recorders, *deleters]] == [None] * 9
    assert Attempt.objects.count() == len(results)
    assert not Attempt.objects.filter(endpoint__isnull=False).exists()
