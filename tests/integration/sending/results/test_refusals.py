"""Endpoints that answer, and take nothing: 3xx, 4xx and 410; time is passed in.

What varies: the status, how many events there are, what else arrives, the order of sending, the
mode, the policies of the subscription, and the state that the endpoint is in.
"""

from __future__ import annotations

import json
from collections import Counter
from datetime import timedelta

import pytest

from django_webhooks import replays, signals
from django_webhooks.models import Attempt, Delivery, Endpoint, EndpointHealth, Subscription, Switch
from django_webhooks.sending import health_checks, maintenance, wire, worker
from tests import factories
from tests.factories import Clock
from tests.receivers import Answer, Receiver, receiving

pytestmark = pytest.mark.django_db

#: An answer to every event that is no success, each of another kind.
REFUSALS = [
    pytest.param(Answer(status, headers), id=str(status))
    for status, headers in [
        (302, {"Location": "https://example.com/moved"}),
        (304, {}),
        (308, {"Location": "/hook/"}),
        (400, {}),
        (401, {}),
        (402, {}),
        (403, {}),
        (404, {}),
        (405, {}),
        (408, {}),
        (413, {}),
        (422, {}),
        (425, {}),
        (451, {}),
    ]
]
FAILURES = [
    *REFUSALS,
    pytest.param(Answer(410), id="410"),
    pytest.param(Answer(500), id="500"),
    pytest.param(Answer(503, {"Retry-After": "3600"}), id="503 with Retry-After"),
    pytest.param(Answer(404, {"Retry-After": "3600"}), id="404 with Retry-After"),
    pytest.param(Answer(599), id="599"),
    pytest.param(Answer(204, is_cut=True), id="hangs up"),
]
#: One of each kind.
KINDS = [one for one in FAILURES if one.id in {"302", "404", "410", "500", "hangs up"}]


class Picky(Receiver):
    """Refuses the events of some numbers, whatever else it answers."""

    def __init__(self, *numbers: int, status: int = 404) -> None:
        super().__init__()
        self.numbers, self.status = set(numbers), status

    def handle(self, request):
        body = request.rfile.peek()
        number = json.loads(body[: int(request.headers["content-length"])])["data"]["id"]
        self.answers = [Answer(self.status if number in self.numbers else 204)]
        super().handle(request)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def pair():
    """A primary, a backup, and a subscription to both."""
    with receiving() as primary, receiving() as backup:
        yield subscribe(primary, backup), primary, backup


@pytest.fixture
def picky():
    """A primary that refuses event 0 by 404, a backup, and a subscription to both."""
    primary = Picky(0)
    with receiving() as backup:
        yield subscribe(primary, backup), primary, backup
    primary.close()


def subscribe(*receivers, **fields):
    subscription = factories.subscription(url=receivers[0].url, **fields)
    for position, receiver in enumerate(receivers[1:], start=1):
        Endpoint.objects.create(subscription=subscription, url=receiver.url, position=position)
    return subscription


def change(subscription, **fields):
    for name, value in fields.items():
        setattr(subscription, name, value)
    subscription.save()


def record(count, *, since=0, **fields):
    made = []
    for number in range(since, since + count):
        made += factories.record(data={"id": number}, **fields)
    return made


def drain(clock, times=1, **step):
    for _ in range(times):
        clock.move(**step)
        worker.drain(clock=clock)


def rise(clock, *, hold=31):
    """Let the hold pass, and probe as often as it takes."""
    clock.move(seconds=hold)
    for _ in range(2):
        clock.move(seconds=11)
        health_checks.check_all(clock=clock)


def candidate(position):
    return EndpointHealth.objects.get(endpoint__position=position)


def causes():
    return list(Switch.objects.order_by("pk").values_list("cause", flat=True))


def statuses():
    return Counter(Delivery.objects.values_list("status", flat=True))


def numbers(receiver):
    return [json.loads(request.body)["data"]["id"] for request in receiver.requests]


class TestAll:
    """A1: the primary takes nothing, and the backup is well."""

    @pytest.mark.parametrize("answer", FAILURES)
    def test_everything_arrives_at_the_backup_at_once(self, pair, clock, answer):
        self.check(pair, clock, answer)

    @pytest.mark.parametrize(
        "fields",
        [
            pytest.param({"client_errors_final": True}, id="client errors final"),
            pytest.param({"retry_attempts": 1}, id="one attempt"),
            pytest.param({"retry_attempts": 2}, id="two attempts"),
            pytest.param({"failover": "each"}, id="each"),
            pytest.param({"failover": "each", "client_errors_final": True}, id="each, final"),
            pytest.param({"failback": "stay"}, id="stay"),
            pytest.param({"max_in_flight": 1}, id="one at once"),
        ],
    )
    @pytest.mark.parametrize("answer", KINDS)
    def test_it_does_whatever_the_subscription_says(self, pair, clock, answer, fields):
        self.check(pair, clock, answer, **fields)

    def check(self, pair, clock, answer, **fields):
        subscription, primary, backup = pair
        change(subscription, **fields)
        primary.answers = [answer]
        record(12)

        # Not a second passes: nothing waits out a retry.
        drain(clock, times=15)

        assert statuses() == {"succeeded": 12}
        assert sorted(set(numbers(backup))) == list(range(12))
        if fields.get("failover") != "each":
            # Three, and what was under way beside them.
            assert len(primary.requests) <= 3 + 8
            assert EndpointHealth.objects.get(is_active=True).endpoint.position == 1

    @pytest.mark.parametrize("answer", REFUSALS)
    def test_the_third_event_switches_and_people_are_told(
        self, pair, clock, answer, django_capture_on_commit_callbacks
    ):
        _, primary, _ = pair
        primary.answers = [answer]
        told = []

        def fell(*, endpoint, reason, **kwargs):
            told.append((endpoint.position, reason))

        signals.endpoint_unhealthy.connect(fell)
        try:
            with django_capture_on_commit_callbacks(execute=True):
                for number in range(3):
                    record(1, since=number)
                    assert causes() == []
                    drain(clock)
        finally:
            signals.endpoint_unhealthy.disconnect(fell)

        assert causes() == ["failover"]
        reason = Attempt.objects.order_by("pk").first().reason
        assert told == [(0, reason)]
        assert (candidate(0).state, candidate(0).reason) == ("unhealthy", reason)

    def test_a_single_endpoint_is_spared_and_burns_no_attempts(self, clock):
        with receiving(404) as receiver:
            factories.subscription(url=receiver.url)
            record(30)
            drain(clock, times=40, minutes=5)
            burnt = len(receiver.requests)
            assert statuses() == {"waiting": 30}
            receiver.answers = [Answer(204)]
            rise(clock)
            drain(clock, times=3, minutes=1)

        assert burnt <= 3 + 8
        assert statuses() == {"succeeded": 30}
        assert causes() == ["outage", "recovery"]

    def test_all_of_three_endpoints_are_tried(self, clock):
        with receiving(404) as first, receiving(403) as second, receiving() as third:
            subscribe(first, second, third)
            record(20)
            drain(clock, times=3)

        assert statuses() == {"succeeded": 20}
        assert causes() == ["failover", "failover"]
        assert len(third.requests) == 20

    @pytest.mark.parametrize("ordering", ["all", "key"])
    @pytest.mark.parametrize("answer", [*REFUSALS[:1], *REFUSALS[7:8], Answer(500), Answer(410)])
    def test_in_order(self, pair, clock, ordering, answer):
        """The head alone is tried; what waits behind it cannot prove anything."""
        subscription, primary, backup = pair
        change(subscription, ordering=ordering, retry_base_seconds=1.0)
        primary.answers = [answer]
        record(8, ordering_key="one")

        # 5xx needs three attempts of the head, as ever.
        drain(clock, times=20, seconds=10)

        assert statuses() == {"succeeded": 8}
        assert numbers(backup) == list(range(8))
        assert len(primary.requests) == (1 if answer == Answer(410) else 3)
        assert causes() == ["failover"]

    def test_a_pin_keeps_the_traffic_where_staff_want_it(self, pair, clock):
        subscription, primary, backup = pair
        primary.answers = [Answer(404)]
        subscription.endpoints.get(position=0).pin("a drill", by="anna")
        record(5)

        drain(clock, times=5, minutes=10)

        assert backup.requests == []
        assert Delivery.objects.waiting().count() == 5
        subscription.endpoints.get(position=0).unpin(by="anna")
        drain(clock, times=2)
        assert statuses() == {"succeeded": 5}

    def test_what_our_own_fault_keeps_from_being_sent_is_no_evidence(
        self, pair, clock, monkeypatch
    ):
        _, primary, backup = pair

        def fail(*args, **kwargs):
            raise RuntimeError

        monkeypatch.setattr(wire, "request_headers", fail)
        record(10)

        drain(clock)

        assert (primary.requests, backup.requests, causes()) == ([], [], [])
        assert set(Attempt.objects.values_list("reason", flat=True)) == {"internal"}

    def test_an_address_that_our_rules_refuse_takes_nothing(self, pair, clock):
        """It is blocked until somebody changes it, and the backup is not."""
        _, _, backup = pair
        Endpoint.objects.filter(position=0).update(url="https://10.1.2.3/hook")
        record(5)

        drain(clock, times=3)

        assert statuses() == {"succeeded": 5}
        assert len(backup.requests) == 5
        assert candidate(0).reason == "blocked"


class TestOne:
    """A2: one event alone is refused."""

    @pytest.mark.parametrize("status", [302, 400, 404, 409, 413, 422])
    @pytest.mark.parametrize("is_alone", [True, False], ids=["nothing else", "others arrive"])
    @pytest.mark.parametrize("at", [0, 3, 7], ids=["first", "between", "last"])
    def test_it_is_no_evidence_against_its_endpoint(
        self, picky, clock, settings, status, is_alone, at
    ):
        settings.WEBHOOKS_EVENT_MAX_AGE_SECONDS = 30 * 86_400.0
        _, primary, backup = picky
        primary.numbers, primary.status = {at}, status
        # The backup is the same application.
        backup.answers = [Answer(status)]
        for number in [at] if is_alone else range(8):
            record(1, since=number)
            drain(clock)

        drain(clock, times=13, hours=15)

        assert causes() == []
        assert {one.state for one in EndpointHealth.objects.all()} == {"healthy"}
        [refused] = Delivery.objects.exclude(status="succeeded")
        assert (refused.status, refused.attempts_made) == ("given_up", 12)
        # It was tried once where it might have been taken.
        assert len(backup.requests) == 1
        assert (numbers(backup), numbers(primary).count(at)) == ([at], 11)

    def test_retries_of_one_between_successes_of_others(self, picky, clock):
        subscription, primary, _ = picky
        change(
            subscription,
            retry_base_seconds=0.5,
            retry_cap_seconds=1.0,
            retry_attempts=200,
            health_fall=1,
        )
        Endpoint.objects.get(position=1).disable("none")
        record(1)
        for number in range(1, 60):
            record(1, since=number)
            drain(clock, seconds=1)

        assert causes()[1:] == []
        assert candidate(0).state == "healthy"
        assert numbers(primary).count(0) > 30

    def test_it_is_tried_elsewhere_after_as_many_refusals_as_make_an_endpoint_fall(
        self, picky, clock
    ):
        _, primary, backup = picky
        record(3)

        drain(clock, times=2)
        drain(clock, seconds=40)
        assert backup.requests == []
        drain(clock, seconds=40)
        drain(clock)

        assert statuses() == {"succeeded": 3}
        assert numbers(backup) == [0]
        assert numbers(primary).count(0) == 3
        [request] = backup.requests
        assert request.headers["webhook-endpoint-role"] == "backup"
        assert request.headers["webhook-failover-reason"] == "http_404"
        assert Delivery.objects.get(endpoint__isnull=False).endpoint.position == 1
        assert causes() == []

    def test_what_is_refused_elsewhere_too_goes_on_by_its_own_policy(self, picky, clock):
        _, primary, backup = picky
        backup.answers = [Answer(422)]
        [delivery] = record(1)

        drain(clock, times=3, minutes=4)
        drain(clock)
        delivery.refresh_from_db()

        assert (len(primary.requests), len(backup.requests)) == (3, 1)
        assert (delivery.status, delivery.endpoint) == ("waiting", None)
        wait = delivery.due_at - clock()
        assert timedelta(minutes=14) < wait < timedelta(minutes=22)
        # It is no evidence against the backup either.
        assert (candidate(1).failures, candidate(1).state) == (0, "healthy")

    def test_in_an_order_it_is_tried_elsewhere_before_others_wait_for_it(self, picky, clock):
        subscription, primary, backup = picky
        change(subscription, ordering="all")
        record(5)

        drain(clock, times=3)

        assert statuses() == {"succeeded": 5}
        assert (numbers(primary), numbers(backup)) == ([0, 1, 2, 3, 4], [0])
        assert causes() == []

    def test_final_client_errors_are_so_once_all_have_said_so(self, picky, clock):
        subscription, primary, backup = picky
        change(subscription, client_errors_final=True)
        backup.answers = [Answer(422)]
        record(4)

        drain(clock, times=3)

        assert statuses() == {"succeeded": 3, "given_up": 1}
        assert (numbers(primary).count(0), numbers(backup)) == (1, [0])
        assert causes() == []

    def test_a_receiver_that_asks_to_stop_is_not_asked_elsewhere(self, pair, clock):
        _, primary, backup = pair
        primary.answers = [Answer(500, {"webhook-no-retry": "1"}), Answer(204)]
        record(1)

        drain(clock, times=2)

        assert Delivery.objects.get().reason == "receiver_refused"
        assert backup.requests == []

    def test_an_event_past_its_age_is_not_sent_elsewhere(self, picky, clock):
        _, _, backup = picky
        record(1)

        drain(clock, days=8)
        drain(clock)

        assert Delivery.objects.get().reason == "expired"
        assert backup.requests == []

    def test_a_replay_that_was_meant_for_an_endpoint_is_tried_there_alone(self, picky, clock):
        subscription, primary, backup = picky
        change(subscription, retry_attempts=4)
        record(1)
        Delivery.objects.cancel("cancelled")
        backup.answers = [Answer(500)]
        replays.replay(
            list(Delivery.objects.values_list("pk", flat=True)),
            replay_options=replays.ReplayOptions(
                endpoint=subscription.endpoints.get(position=1).pk
            ),
        )

        drain(clock, times=2)
        # Its attempts are not burnt at once, although it is not the active endpoint.
        assert len(backup.requests) == 1
        drain(clock, times=5, hours=13)

        assert len(backup.requests) == 4
        assert primary.requests == []
        assert statuses() == {"cancelled": 1, "given_up": 1}

    def test_where_the_receiver_refuses_one_by_one_nothing_is_evidence(self, pair, clock):
        subscription, primary, backup = pair
        change(subscription, health_statuses="5xx", retry_attempts=5)
        primary.answers = [Answer(422)]
        record(40)

        drain(clock, times=6, hours=13)

        assert statuses() == {"given_up": 40}
        assert (causes(), backup.requests) == ([], [])

    def test_the_setting_says_so_for_those_that_say_nothing(self, pair, clock, settings):
        subscription, primary, _ = pair
        settings.WEBHOOKS_HEALTH_STATUSES = "5xx"
        primary.answers = [Answer(422)]
        record(10)
        drain(clock)
        assert causes() == []

        change(subscription, health_statuses="non_2xx")
        record(10, since=10)
        drain(clock, times=2)
        assert causes() == ["failover"]

    @pytest.mark.parametrize("status", [500, 503])
    def test_servers_fail_whatever_the_policy(self, pair, clock, status):
        subscription, primary, _ = pair
        change(subscription, health_statuses="5xx")
        primary.answers = [Answer(status)]
        record(10)

        drain(clock)

        assert statuses() == {"succeeded": 10}
        assert causes() == ["failover"]

    @pytest.mark.parametrize("answer", [Answer(500), Answer(204, is_cut=True)], ids=["500", "cut"])
    def test_silence_at_low_traffic_still_makes_an_endpoint_fall(self, pair, clock, answer):
        _, primary, backup = pair
        primary.answers = [answer]
        record(1)

        drain(clock, times=4, minutes=1)

        assert causes() == ["failover"]
        assert len(backup.requests) == 1


class TestTrial:
    def fall(self, primary, clock, status=404):
        primary.answers = [Answer(status)]
        record(4)
        drain(clock, times=2)
        primary.requests.clear()

    def test_a_new_event_that_is_refused_holds_it_longer(self, pair, clock):
        """A5: a handshake succeeds all the while."""
        _, primary, _ = pair
        self.fall(primary, clock)
        holds = []
        for number in range(4, 7):
            rise(clock, hold=candidate(0).hold_seconds + 1)
            assert candidate(0).state == "trial"
            record(1, since=number)
            drain(clock, seconds=1)
            holds.append(candidate(0).hold_seconds)

        assert holds == [60, 120, 240]
        assert (candidate(0).state, len(primary.requests)) == ("unhealthy", 3)
        assert statuses() == {"succeeded": 7}
        assert causes() == ["failover"]

    def test_handshakes_do_not_heal_what_deliveries_said(self, pair, clock):
        _, primary, _ = pair
        primary.answers = [Answer(404)]
        for number in range(3):
            record(1, since=number)
            drain(clock)
            for _ in range(3):
                clock.move(minutes=2)
                health_checks.check_all(clock=clock)
            # Each goes on to the backup after three refusals; the evidence stays.
            assert (candidate(0).failures > number) or causes()

        assert causes() == ["failover"]

    def test_what_was_refused_before_does_not_try_it_while_others_may(self, pair, clock):
        """What may be refused for its content would hold up the return of all others."""
        _, primary, backup = pair
        self.fall(primary, clock)
        backup.answers = [Answer(404)]
        record(1, since=4)
        drain(clock)
        rise(clock)
        drain(clock, minutes=1)

        # It waits for a retry, went to the backup, and nothing else was there to try.
        assert (primary.requests, candidate(0).state) == ([], "trial")
        backup.answers = primary.answers = [Answer(204)]
        record(1, since=5)
        drain(clock)
        assert numbers(primary)[0] == 5
        assert causes()[-1] == "failback"

    @pytest.mark.parametrize("ordering", ["none", "key"])
    def test_after_an_outage_a_new_event_tries_before_those_that_were_refused(
        self, clock, ordering
    ):
        primary = Picky(0, 1)
        subscription = subscribe(primary, health_fall=2, ordering=ordering)
        for key in "ab":
            record(1, since="ab".index(key), ordering_key=key)
        drain(clock)
        assert causes()[-1] == "outage"
        change(subscription, health_fall=3)
        Delivery.objects.update(due_at=None)
        record(2, since=2, ordering_key="c")
        rise(clock)
        drain(clock, times=3, seconds=1)
        # Those that were refused again brought the slow start nothing to go on with.
        maintenance.nudge(now=clock())
        drain(clock, seconds=1)

        primary.close()
        assert numbers(primary)[:3] == [0, 1, 2]
        assert candidate(0).state == "healthy"
        assert Delivery.objects.succeeded().count() == 2

    @pytest.mark.parametrize("is_forced", [True, False], ids=["by the sweep", "by a probe"])
    def test_two_that_are_refused_again_hold_it_longer(self, clock, is_forced):
        with receiving(404) as receiver:
            factories.subscription(url=receiver.url)
            record(3)
            drain(clock)
            Delivery.objects.update(due_at=None)
            rise(clock)
            states = []
            for _ in range(2):
                if is_forced:
                    maintenance.nudge(now=clock())
                else:
                    clock.move(seconds=11)
                    health_checks.check_all(clock=clock)
                drain(clock, seconds=1)
                states.append((candidate(0).state, candidate(0).hold_seconds))

        assert states == [("trial", 30.0), ("unhealthy", 60.0)]


class TestGone:
    """A3 and A4: an endpoint that says that it is gone."""

    @pytest.mark.parametrize("mode", ["switch", "each"])
    @pytest.mark.parametrize("attempts", [1, 2, 12])
    @pytest.mark.parametrize("final", [False, True])
    def test_all_arrive_at_the_backup(self, pair, clock, mode, attempts, final):
        subscription, primary, backup = pair
        change(subscription, failover=mode, retry_attempts=attempts, client_errors_final=final)
        primary.answers = [Answer(410)]
        told = []

        def disabled(*, endpoint, reason, **kwargs):
            told.append((endpoint.position, reason))

        signals.endpoint_disabled.connect(disabled)
        try:
            record(40)
            drain(clock, times=3)
        finally:
            signals.endpoint_disabled.disconnect(disabled)

        assert statuses() == {"succeeded": 40}
        assert len(set(backup.ids)) == 40
        assert told == [(0, "http_410")]
        # The first, and what was under way beside it.
        assert len(primary.requests) <= 8
        assert not Endpoint.objects.get(position=0).is_usable

    @pytest.mark.parametrize("attempts", [1, 2])
    def test_it_costs_the_delivery_none_of_its_attempts(self, pair, clock, attempts):
        subscription, primary, backup = pair
        change(subscription, retry_attempts=attempts)
        primary.answers, backup.answers = [Answer(410)], [Answer(500)]
        record(1)

        drain(clock, times=4, hours=1)

        assert statuses() == {"given_up": 1}
        assert (len(primary.requests), len(backup.requests)) == (1, attempts)

    @pytest.mark.parametrize("attempts", [1, 2, 12])
    @pytest.mark.parametrize("final", [False, True])
    def test_the_backup_while_the_primary_is_unhealthy(self, pair, clock, attempts, final):
        subscription, primary, backup = pair
        change(subscription, retry_attempts=attempts, client_errors_final=final)
        primary.answers = [Answer(500)]
        record(20)
        drain(clock, times=2)
        backup.answers = [Answer(410)]
        record(50, since=20)
        drain(clock, times=4)

        assert not Endpoint.objects.get(position=1).is_usable
        assert Delivery.objects.held().count() == 50
        primary.answers = [Answer(204)]
        rise(clock)
        drain(clock, times=3, seconds=1)
        assert statuses() == {"succeeded": 70}

    def test_without_another_it_is_held_until_one_is_there(self, clock):
        with receiving(410) as gone, receiving() as new:
            subscription = factories.subscription(url=gone.url, retry_attempts=1)
            record(3)
            drain(clock, times=2)
            assert Delivery.objects.held().count() == 3
            Endpoint.objects.create(subscription=subscription, url=new.url, position=1)
            drain(clock, times=2, minutes=1)

        assert statuses() == {"succeeded": 3}

    def test_it_is_final_where_there_is_no_other_and_the_subscription_says_so(self, clock):
        with receiving(410) as gone:
            factories.subscription(url=gone.url, client_errors_final=True)
            record(1)
            drain(clock)

        assert statuses() == {"given_up": 1}

    def test_another_that_is_disabled_may_be_enabled(self, pair, clock):
        subscription, primary, backup = pair
        change(subscription, client_errors_final=True)
        primary.answers = backup.answers = [Answer(410)]
        record(3)
        drain(clock, times=4)
        assert Delivery.objects.held().count() == 3

        backup.answers = [Answer(204)]
        Endpoint.objects.get(position=1).enable()
        drain(clock, times=2, minutes=1)
        assert statuses() == {"succeeded": 3}

    def test_one_on_trial(self, pair, clock):
        _, primary, _ = pair
        primary.answers = [Answer(500)]
        record(3)
        drain(clock)
        rise(clock)
        primary.answers = [Answer(410)]
        record(5, since=3)

        drain(clock, seconds=1)
        drain(clock)

        assert statuses() == {"succeeded": 8}
        assert not Endpoint.objects.get(position=0).is_usable

    def test_one_that_is_pinned(self, pair, clock):
        subscription, primary, backup = pair
        subscription.endpoints.get(position=0).pin("a drill", by="anna")
        primary.answers = [Answer(410)]
        record(5)

        drain(clock, times=2)

        assert statuses() == {"succeeded": 5}
        assert len(backup.requests) == 5


def test_attempts_that_are_used_up_before_the_switch_are_made_at_the_backup(pair, clock):
    """Load is no evidence, and yet what the primary never takes is not given up."""
    subscription, primary, backup = pair
    change(subscription, retry_attempts=3)
    primary.answers = [Answer(429)]
    record(5)

    drain(clock, times=4, hours=1)

    assert statuses() == {"succeeded": 5}
    assert causes() == []
    assert (len(primary.requests), len(backup.requests)) == (15, 5)
    numbered = {one.headers["webhook-attempt"] for one in backup.requests}
    limits = {one.headers["webhook-max-attempts"] for one in backup.requests}
    assert (numbered, limits) == ({"4"}, {"4"})
    assert Subscription.objects.get().status == "active"


@pytest.mark.parametrize("statuses", [(404, 404), (404, 500), (302, 403), (500, 401)])
def test_where_neither_takes_anything_all_is_held(pair, clock, statuses):
    _, primary, backup = pair
    primary.answers, backup.answers = [Answer(statuses[0])], [Answer(statuses[1])]
    record(40)

    drain(clock, times=10, minutes=5)

    assert causes() == ["failover", "outage"]
    assert Delivery.objects.waiting().count() == 40
    burnt = Attempt.objects.count()
    drain(clock, times=10, minutes=5)
    assert Attempt.objects.count() == burnt


def test_what_is_given_up_was_tried_everywhere(clock):
    with receiving(429) as first, receiving(429) as second, receiving(503) as third:
        subscribe(first, second, third, retry_attempts=2)
        record(1)
        drain(clock, times=6, hours=1)

    assert statuses() == {"given_up": 1}
    assert [len(one.requests) for one in (first, second, third)] == [2, 1, 1]
