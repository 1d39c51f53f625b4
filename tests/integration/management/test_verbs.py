"""The verbs of the admin as commands: replay, ping, pause."""

from __future__ import annotations

from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from django_webhooks import catalog, times, wakeups
from django_webhooks.auditing.models import AuditEntry
from django_webhooks.models import BulkReplay, Delivery, Subscription
from django_webhooks.sending import replays
from tests import factories
from tests.receivers import receiving

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _event_types(monkeypatch):
    catalog.declare("order.paid", example={"id": 7})
    monkeypatch.setattr(wakeups, "begin_replay", lambda key: None)
    monkeypatch.setattr(wakeups, "wake", lambda ids: None)
    yield
    catalog.forget("order.paid")


def run(command, *arguments, **options):
    out = StringIO()
    call_command(command, *arguments, stdout=out, **options)
    return out.getvalue().splitlines()


def given_up(**fields):
    delivery = factories.delivery(**fields)
    Delivery.objects.filter(pk=delivery.pk).update(
        status="given_up", reason="http_500", due_at=None, finished_at=times.now()
    )
    return delivery


class TestReplay:
    def test_of_a_subscription_by_name(self):
        over = given_up()

        [said] = run("webhooks_replay", "CRM", reason="outage", by="ada")

        made = BulkReplay.objects.get()
        assert said == f"CRM: 1 delivery is replayed by bulk replay {made.pk}."
        assert (made.reason, made.by, made.total) == ("outage", "ada", 1)
        replays.go_on(made.pk)
        assert Delivery.objects.get(replay_of=over).is_over is False

    def test_a_dry_run_counts_only(self):
        given_up()
        given_up(name="ERP")

        said = run("webhooks_replay", all=True, dry_run=True)

        assert said == ["CRM: 1 delivery would be replayed.", "ERP: 1 delivery would be replayed."]
        assert not BulkReplay.objects.exists()

    def test_an_endpoint_is_not_of_named_deliveries(self):
        over = given_up()

        with pytest.raises(CommandError, match="name that in place of --ids"):
            run("webhooks_replay", ids=[str(over.pk)], endpoint=1)

        assert not BulkReplay.objects.exists()

    def test_of_named_deliveries_to_an_endpoint_at_a_rate(self):
        over = given_up()

        run("webhooks_replay", ids=[str(over.pk)], rate=7, new_ids=True)
        run("webhooks_replay", "CRM", endpoint=0)

        second, first = BulkReplay.objects.all()
        assert (first.rate, first.gives_new_message_ids, first.endpoint) == (7, True, None)
        assert second.endpoint == over.subscription.endpoints.get()

    @pytest.mark.parametrize(
        ("options", "count"),
        [
            ({"since": "1h"}, 1),
            ({"until": "1h"}, 0),
            ({"since": "2999-01-01"}, 0),
            ({"finished_since": "1h"}, 1),
            ({"finished_until": "1h"}, 0),
            ({"status": "any"}, 1),
            ({"status": "succeeded"}, 0),
            ({"reason_was": "timeout"}, 0),
            ({"event_type": "order.paid"}, 1),
        ],
    )
    def test_what_is_chosen(self, options, count):
        given_up()

        [said] = run("webhooks_replay", "CRM", dry_run=True, **options)

        assert f" {count} deliver" in said

    def test_where_there_is_nothing(self):
        factories.subscription()

        assert run("webhooks_replay", "CRM") == ["CRM: nothing to replay."]

    @pytest.mark.parametrize(
        ("arguments", "options", "says"),
        [
            ([], {}, "or use --all"),
            (["nobody"], {}, "no subscription 'nobody'"),
            (["CRM"], {"since": "long ago"}, "not a moment"),
            (["CRM"], {"finished_since": "long ago"}, "not a moment"),
            (["CRM"], {"rate": 0}, "--rate"),
            (["CRM"], {"endpoint": 5}, "no endpoint at position 5"),
        ],
    )
    def test_what_it_cannot_do_it_says(self, arguments, options, says):
        given_up()

        with pytest.raises(CommandError, match=says):
            run("webhooks_replay", *arguments, **options)

    def test_a_disabled_endpoint_is_refused(self):
        over = given_up()
        over.subscription.endpoints.get().disable("gone")

        with pytest.raises(CommandError, match="gone or disabled"):
            run("webhooks_replay", "CRM", endpoint=0)

    def test_a_name_that_several_have_is_told_by_key(self):
        one, _other = factories.subscription(), factories.subscription()

        with pytest.raises(CommandError, match=str(one.pk)):
            run("webhooks_replay", "CRM")
        assert run("webhooks_replay", str(one.pk)) == ["CRM: nothing to replay."]


class TestPing:
    def test_it_says_what_became_of_it(self):
        with receiving(204) as receiver:
            factories.subscription(event_types=["user.*"], url=receiver.url)

            [said] = run("webhooks_ping", "CRM", here=True)

        assert said.startswith("CRM: Arrived at ")
        assert b'"data":{"id":7}' in receiver.requests[0].body
        assert AuditEntry.objects.latest("pk").action == "subscription.tested"

    def test_it_exits_with_one_where_it_did_not_arrive(self):
        with receiving(503) as receiver:
            factories.subscription(url=receiver.url)

            with pytest.raises(SystemExit):
                run("webhooks_ping", "CRM", here=True, data='{"a": 1}')

        assert b'"data":{"a":1}' in receiver.requests[0].body

    def test_without_a_worker_it_waits_no_longer_than_asked(self):
        factories.subscription()

        with pytest.raises(SystemExit):
            run("webhooks_ping", "CRM", wait=0.0)

    def test_a_dry_run_sends_nothing(self):
        factories.subscription()

        assert run("webhooks_ping", "CRM", dry_run=True) == ["CRM: order.paid would be sent."]
        assert not Delivery.objects.exists()

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ({"data": "{"}, "not JSON"),
            ({"event_type": "order.payed"}, "did you mean"),
            ({"data": '"' + "x" * 300_000 + '"'}, "WEBHOOKS_MAX_PAYLOAD_BYTES"),
        ],
    )
    def test_what_it_cannot_send_it_says(self, options, says):
        factories.subscription()

        with pytest.raises(CommandError, match=says):
            run("webhooks_ping", "CRM", **options)

    def test_without_a_catalog_a_type_must_be_named(self, monkeypatch):
        factories.subscription()
        monkeypatch.setattr(catalog, "all", list)

        with pytest.raises(CommandError, match="--event-type"):
            run("webhooks_ping", "CRM")


class TestPause:
    def test_there_and_back(self):
        subscription = factories.subscription()

        paused = run("webhooks_pause", "CRM", reason="they move", by="ada")
        again = run("webhooks_pause", "CRM")
        subscription.refresh_from_db()
        assert (subscription.status, subscription.status_reason) == ("paused", "they move")
        resumed = run("webhooks_pause", all=True, resume=True)

        assert paused == ["CRM: paused.", "1 subscription paused."]
        assert again == ["CRM: is paused already.", "0 subscriptions paused."]
        assert resumed == ["CRM: resumed.", "1 subscription resumed."]
        assert Subscription.objects.get().is_active
        entries = AuditEntry.objects.filter(
            action__in=["subscription.paused", "subscription.resumed"]
        )
        assert list(entries.order_by("pk").values_list("action", "by")) == [
            ("subscription.paused", "ada"),
            ("subscription.resumed", ""),
        ]

    def test_a_dry_run_says_which(self):
        factories.subscription()

        said = run("webhooks_pause", "CRM", dry_run=True)

        assert said == ["CRM: would be paused.", "1 subscription would be paused."]
        assert Subscription.objects.get().is_active
