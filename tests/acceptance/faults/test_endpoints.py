"""F18–F21, F23: what happens to endpoints and subscriptions while deliveries are leased."""

from __future__ import annotations

import contextlib

import pytest

from tests.acceptance.conftest import RABBITMQ, REDIS
from tests.acceptance.harness import SIGNING_SECRET, until
from tests.receivers import Answer, Receiver

from .conftest import ANY_BROKER, FAULTS, ONE_OF_BOTH, campaign

pytestmark = FAULTS
MODELS = "from django_webhooks import times\nfrom django_webhooks.models import *\n"
BOTH = (campaign(REDIS), campaign(RABBITMQ))
#: Failures tell nothing of the endpoint.
PATIENT = {"WEBHOOKS_HEALTH_FALL": 1000, "django_webhooks.policies.health.WINDOW_ATTEMPTS": 10_000}


@pytest.mark.stacks(*ANY_BROKER)
def test_f18_an_answer_that_never_arrives(harness, receiver, account):
    harness.settings |= {"WEBHOOKS_TIMEOUT_SECONDS": 4.0}
    receiver.answers = [Answer(204, delay=60.0), Answer(204)]
    harness.subscribe(receiver.url)
    harness.worker()
    harness.web()

    harness.ask("thing")
    account.clear()

    account.settle(repeats=1)
    assert receiver.requests[1].headers["webhook-retry-reason"] == "timeout"


@pytest.mark.stacks(*BOTH)
def test_f18_answers_cut_after_the_request(harness, receiver, account):
    receiver.answers = [Answer(204, is_cut=number % 4 == 0) for number in range(41)]
    receiver.answers.append(Answer(204))
    harness.subscribe(receiver.url)
    harness.emit(100)
    harness.worker()
    harness.beat()
    account.clear()

    account.settle(repeats=11, extra=10)
    assert sum(one.answer.is_cut for one in receiver.requests) == 11


@pytest.mark.stacks(*BOTH)
def test_f19_an_endpoint_that_fails_for_longer_than_the_schedule(harness, receiver, account):
    receiver.answers = [Answer(503)]
    harness.settings |= {**PATIENT, "WEBHOOKS_RETRY_ATTEMPTS": 3}
    harness.subscribe(receiver.url)
    harness.emit(10)
    harness.worker()
    harness.beat()
    account.clear()

    account.settle(told={"given_up"}, extra=10)
    assert len(receiver.requests) == 30
    said = harness.python(
        MODELS + "print(json.dumps([d.explain() for d in Delivery.objects.given_up()]))"
    )
    assert len(said) == 10
    assert all("Given up" in one and "http_503" in one for one in said)
    first = set(receiver.ids)
    receiver.answers = [Answer(204)]
    harness.python(
        "import io\nfrom django.core.management import call_command\n"
        "call_command('webhooks_replay', status='given_up', all=True, stdout=io.StringIO())"
    )
    until(lambda: len(receiver.requests) >= 40, "the replays do not arrive")
    account.clear()
    account.settle(told={"given_up"})
    assert {one.headers["webhook-id"] for one in receiver.requests if one.answer.takes} == first


def leased(harness, receiver):
    """Have a worker hold a backlog that it sends one by one, slowly."""
    receiver.answers = [Answer(204, delay=0.4)]
    harness.settings |= {"WEBHOOKS_MAX_IN_FLIGHT_PER_ENDPOINT": 1, "WEBHOOKS_LEASE_SECONDS": 12.0}
    harness.subscribe(receiver.url)
    harness.emit(60)
    harness.worker(pool="solo", concurrency=1)
    harness.beat()
    until(lambda: len(receiver.requests) >= 3, "nothing arrived")
    assert (
        harness.query(
            "SELECT count(*) FROM django_webhooks_delivery WHERE lease_token IS NOT NULL"
        )[0][0]
        > 10
    )


def held(harness):
    """Wait until nobody holds what waits, and return how it is explained."""
    waiting = "FROM django_webhooks_delivery WHERE status = 'waiting'"
    until(lambda: not harness.query(f"SELECT 1 {waiting} AND due_at IS NOT NULL"), "still leased")
    said = harness.python(
        MODELS + "print(json.dumps([d.explain() for d in Delivery.objects.waiting()]))"
    )
    assert len(said) > 10
    return set(said)


@pytest.mark.stacks(*BOTH)
def test_f20_an_endpoint_deleted_while_its_deliveries_are_leased(harness, receiver, account):
    leased(harness, receiver)

    harness.python(MODELS + "Endpoint.objects.get().delete()")

    (said,) = held(harness)
    assert "no endpoint" in said
    arrived = len(receiver.requests)
    harness.python(
        MODELS + "Endpoint.objects.create(subscription=Subscription.objects.get(),"
        f" url={receiver.url!r})"
    )
    account.clear()
    account.settle(extra=40)
    assert arrived < len(receiver.requests) == 60


@pytest.mark.stacks(*BOTH)
def test_f20_a_subscription_disabled_while_its_deliveries_are_leased(harness, receiver, account):
    leased(harness, receiver)

    harness.python(MODELS + "Subscription.objects.get().disable('wrong address')")

    (said,) = held(harness)
    assert "disabled" in said
    harness.python(MODELS + "Subscription.objects.get().resume()")
    account.clear()
    account.settle(extra=40)
    assert len(receiver.requests) == 60


@pytest.mark.stacks(*BOTH)
def test_f20_a_subscription_deleted_while_its_deliveries_are_leased(harness, receiver, account):
    leased(harness, receiver)

    harness.python(MODELS + "Subscription.objects.get().delete()")
    account.clear()

    account.settle(told={"cancelled"}, extra=5)
    cancelled = harness.query(
        "SELECT reason, count(*) FROM django_webhooks_delivery"
        " WHERE status = 'cancelled' GROUP BY 1"
    )
    assert len(cancelled) == 1
    assert cancelled[0][0]
    assert cancelled[0][1] > 10


@pytest.mark.stacks(*BOTH)
def test_f21_a_key_and_a_url_changed_while_deliveries_are_leased(harness, receiver, account):
    leased(harness, receiver)
    with contextlib.closing(Receiver([Answer(204, delay=0.1)])) as other:
        account.receivers.append(other)
        secret = "whsec_" + "C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
        account.secrets = (SIGNING_SECRET, secret)

        harness.python(
            MODELS + "endpoint = Endpoint.objects.get()\n"
            f"endpoint.url = {other.url!r}\nendpoint.save()\n"
            f"Subscription.objects.get().rotate_key(secret={secret!r})"
        )
        account.clear()

        account.settle(extra=20)
        assert len(receiver.requests) + len(other.requests) == 60
        hosts = dict(
            harness.query("SELECT endpoint_host, count(*) FROM django_webhooks_attempt GROUP BY 1")
        )
        assert hosts == {f"127.0.0.1:{one.port}": len(one.requests) for one in (receiver, other)}
        # Two signatures as soon as there are two keys.
        assert " " in other.requests[-1].headers["webhook-signature"]


def beside(harness, receiver, poison, *, url=""):
    """Start with a good subscription and one with a poison, both with a backlog of 20."""
    harness.settings |= PATIENT
    harness.subscribe(receiver.url)
    harness.python(
        MODELS + "s = Subscription.objects.create(name='poison', event_types=['*'])\n"
        f"Endpoint.objects.create(subscription=s, url={url or receiver.url!r})\n" + poison
    )
    harness.emit(20)
    worker = harness.worker()
    harness.beat()
    until(lambda: len(receiver.requests) >= 20, "its neighbours do not arrive")
    until(lambda: harness.statuses().get("succeeded") == 20, "its neighbours are not recorded")
    return worker


def poisoned(harness):
    """Return status and reason of the poisoned deliveries, and how often they were tried."""
    return harness.query(
        "SELECT d.status, d.reason, max(d.attempts_made) FROM django_webhooks_delivery d"
        " JOIN django_webhooks_subscription s ON s.id = d.subscription_id"
        " WHERE s.name = 'poison' GROUP BY 1, 2"
    )


@pytest.mark.stacks(*BOTH)
def test_f23_a_bad_header_in_an_old_row(harness, receiver, account):
    beside(
        harness,
        receiver,
        "Endpoint.objects.filter(subscription=s).update(headers={'x-old': 'a\\r\\nhost: b'})",
    )

    until(lambda: poisoned(harness)[0][2] > 0, "it is not said why it waits")
    assert {row[:2] for row in poisoned(harness)} <= {("waiting", "blocked"), ("waiting", "")}
    assert len(receiver.requests) == 20
    harness.python(
        MODELS + "Endpoint.objects.filter(subscription__name='poison').update(headers={})"
    )
    account.secrets = (*account.secrets, *keys(harness))
    account.clear()
    settled_twice(account)


def keys(harness):
    """Return the signing key of the poisoned subscription."""
    return harness.python(
        MODELS + "s = Subscription.objects.get(name='poison')\n"
        "print(json.dumps([k.secret for k in s.signing_keys.all()]))"
    )


def settled_twice(account):
    """Settle where two subscriptions of one receiver hear each event: once each."""
    account.by_path = True
    account.settle(extra=10)
    assert len([one for one in account.requests if one.answer.takes]) == 40


@pytest.mark.stacks(*BOTH)
def test_f23_a_lost_encryption_key(harness, receiver, account):
    kept, lost = harness.python(
        "from cryptography.fernet import Fernet\n"
        "print(json.dumps([Fernet.generate_key().decode() for _ in range(2)]))"
    )
    harness.settings |= {"WEBHOOKS_ENCRYPTION_KEYS": [kept, lost]}
    whole = [kept, lost]
    harness.subscribe(receiver.url)
    harness.settings |= {**PATIENT, "WEBHOOKS_ENCRYPTION_KEYS": [lost, kept]}
    harness.python(
        MODELS + f"s = Subscription.objects.create(name='poison', event_types=['*'])\n"
        f"Endpoint.objects.create(subscription=s, url={receiver.url!r} + '/poison')"
    )
    secrets = keys(harness)
    harness.settings |= {"WEBHOOKS_ENCRYPTION_KEYS": [kept]}
    harness.emit(20)
    workers = [harness.worker(), harness.beat()]
    until(lambda: harness.statuses().get("succeeded") == 20, "its neighbours do not arrive")

    said = harness.python(
        MODELS + "print(json.dumps([d.explain() for d in Delivery.objects.waiting()]))"
    )
    assert len(said) == 20
    assert all("cannot be decrypted" in one for one in said)
    for one in workers:
        harness.stop(one)
    harness.settings |= {"WEBHOOKS_ENCRYPTION_KEYS": whole}
    harness.worker()
    harness.beat()
    account.secrets = (*account.secrets, *secrets)
    account.clear()
    settled_twice(account)


@pytest.mark.stacks(*ONE_OF_BOTH)
@pytest.mark.parametrize(
    ("column", "reason"),
    [
        pytest.param("timeout_seconds", "internal", marks=pytest.mark.campaign),
        ("retry_cap_seconds", "http_503"),
    ],
)
def test_f23_a_row_that_makes_the_sender_raise(harness, receiver, account, column, reason):
    """No number where one is reckoned with: before the attempt, and in what follows from it."""
    with contextlib.closing(Receiver([Answer(503)])) as other:
        poison = f"Subscription.objects.filter(pk=s.pk).update({column}=float('nan'))"
        worker = beside(harness, receiver, poison, url=other.url)

        until(lambda: "ValueError" in harness.log(worker), "nothing was raised")
        until(
            lambda: all(one[:2] == ("waiting", reason) for one in poisoned(harness)),
            f"it does not say why: {poisoned(harness)}",
        )
        assert len(receiver.requests) == 20
        other.answers = [Answer(204)]
        harness.python(MODELS + f"Subscription.objects.filter(name='poison').update({column}=None)")
        if column == "retry_cap_seconds":
            # By the default it would wait for seconds and minutes.
            harness.python(MODELS + "Delivery.objects.try_now(times.now())")
        account.receivers.append(other)
        account.secrets = (*account.secrets, *keys(harness))
        account.clear()
        settled_twice(account)


REFUSES = """
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF NEW.delivery_id = (SELECT max(d.id::text)::uuid FROM django_webhooks_delivery d) THEN
            RAISE EXCEPTION 'a bug' USING ERRCODE = '22000';
        END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER refuse BEFORE INSERT ON django_webhooks_attempt
        FOR EACH ROW EXECUTE FUNCTION refuse()
"""


@pytest.mark.stacks(*BOTH)
def test_f23_a_result_that_the_database_refuses(harness, receiver, account):
    harness.subscribe(receiver.url)
    harness.emit(20)
    harness.query(REFUSES)
    harness.worker()
    harness.beat()

    until(lambda: harness.statuses().get("succeeded") == 19, "its neighbours are not recorded")

    others = receiver.ids
    worst = max(set(others), key=others.count)
    assert [one for one in set(others) if others.count(one) > 1] in ([], [worst])
    harness.query("DROP FUNCTION refuse CASCADE")
    account.clear()
    account.settle(repeats=others.count(worst) + 1)
