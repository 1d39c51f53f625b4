"""Who is told of outages, once; time is passed in."""

from __future__ import annotations

import contextlib
import json
import re
from datetime import timedelta
from pathlib import Path
from smtplib import SMTPRecipientsRefused

import django
import pytest
from django.core import mail
from django.core.management import call_command
from django.db import transaction

from django_webhooks import catalog, encryption, events, signals, tasks, times
from django_webhooks.auditing import audit
from django_webhooks.models import Delivery, Endpoint, EndpointHealth, Event, Subscription
from django_webhooks.models.figures.heartbeat import Heartbeat
from django_webhooks.models.notification import Notification
from django_webhooks.sending import notifications, worker
from django_webhooks.sending.fan_out import operational
from django_webhooks.sending.health_checks import auto_disable
from django_webhooks.sending.notifications import mails
from django_webhooks.sending.wire import loops
from tests import factories
from tests.factories import Clock
from tests.receivers import receiving

pytestmark = pytest.mark.django_db
URL = "http://127.0.0.1:9/hook"


@pytest.fixture
def clock():
    return Clock()


def mail_by(settings, backend, **options):
    path = f"django.core.mail.backends.{backend}.EmailBackend"
    if django.VERSION >= (6, 1):
        settings.MAILERS = {"default": {"BACKEND": path, "OPTIONS": options}}
        return
    settings.EMAIL_BACKEND = path
    for name, value in options.items():
        setattr(settings, f"EMAIL_{name.upper()}", value)


def failing(subscription, *, since, state="unhealthy", position=0):
    """Let an endpoint be failing since a moment."""
    EndpointHealth.objects.filter(subscription=subscription, endpoint__position=position).update(
        state=state,
        failing_since=since,
        since=since,
        reason="timeout",
        hold_seconds=30,
        hold_until=since,
    )


def well(subscription):
    EndpointHealth.objects.filter(subscription=subscription).update(
        state="healthy", failing_since=None, reason=""
    )


def told():
    return [(one.type, one.payload["data"]) for one in Event.objects.order_by("pk")]


class TestEvents:
    def test_an_endpoint_that_fell_and_recovered_is_told_once_each(self, clock):
        broken = factories.subscription(name="broken")
        listener = factories.subscription(
            name="operations", event_types=["webhooks.*"], url="http://127.0.0.1:8/"
        )
        assert not notifications.are_pending(now=clock())
        failing(broken, since=clock())
        assert notifications.are_pending(now=clock())

        assert notifications.tell(now=clock()) == 1
        assert notifications.tell(now=clock()) == 0
        failing(broken, since=clock(), state="trial")
        assert notifications.tell(now=clock()) == 0
        well(broken)
        assert notifications.tell(now=clock()) == 1
        assert not notifications.are_pending(now=clock())

        [fell, rose] = told()
        assert fell[0] == "webhooks.endpoint.unhealthy"
        assert rose[0] == "webhooks.endpoint.recovered"
        assert fell[1]["name"] == "broken"
        assert fell[1]["host"] == "127.0.0.1:9"
        assert fell[1]["reason"] == "timeout"
        assert {one.subscription for one in Delivery.objects.all()} == {listener}

    def test_a_switch_is_told(self, clock):
        factories.subscription(name="operations", event_types=["webhooks.subscription.switched"])
        with receiving(500) as primary, receiving() as backup:
            broken = factories.subscription(name="broken", url=primary.url)
            Endpoint.objects.create(subscription=broken, url=backup.url, position=1)
            for number in range(4):
                factories.record(data={"id": number})
            worker.drain(clock=clock)
            notifications.tell(now=clock())
            notifications.tell(now=clock())

        [(_, data)] = [one for one in told() if one[0].startswith("webhooks.")]
        assert (data["cause"], data["reason"]) == ("failover", "http_500")
        assert data["to"] == backup.url[7:-5]

    def test_nobody_is_told_by_the_endpoint_that_fails(self, clock):
        broken = factories.subscription(event_types=["*", "webhooks.*"])
        factories.subscription(name="same endpoint", event_types=["webhooks.*"])
        failing(broken, since=clock())

        notifications.tell(now=clock())

        assert told() == []

    def test_another_owner_is_not_told(self, clock):
        broken = factories.subscription(owner_type="testapp.shop", owner_id="1")
        factories.subscription(
            url="http://127.0.0.1:8/", event_types=["webhooks.*"], owner_type="testapp.shop",
            owner_id="2",
        )  # fmt: skip
        failing(broken, since=clock())

        notifications.tell(now=clock())

        assert told() == []


class TestMails:
    @pytest.fixture(autouse=True)
    def _addresses(self, settings):
        settings.WEBHOOKS_NOTIFY = ["ops@example.com"]

    def test_one_outage_is_one_mail(self, clock):
        broken = factories.subscription(name="CRM\nBcc: all@example.com")
        failing(broken, since=clock())
        for _ in range(5):
            notifications.tell(now=clock())
            clock.move(hours=1)

        [sent] = mail.outbox
        assert sent.to == ["ops@example.com"]
        assert sent.subject == "Webhooks: CRM Bcc: all@example.com has trouble"
        assert "127.0.0.1:9 (primary): Unhealthy timeout" in sent.body

    def test_it_says_where_deliveries_go(self, clock):
        broken = factories.subscription()
        Endpoint.objects.create(subscription=broken, url="http://127.0.0.1:8/", position=1)
        failing(broken, since=clock(), position=1)

        notifications.tell(now=clock())
        EndpointHealth.objects.update(is_active=None)
        Subscription.objects.update(notified_level=0, notified_at=None)
        notifications.tell(now=clock())

        assert "Deliveries go to 127.0.0.1:9 (primary)." in mail.outbox[0].body
        assert "Deliveries wait until one of them answers." in mail.outbox[1].body

    def test_flapping_is_told_once_an_hour_each_time_with_its_end(self, clock):
        broken = factories.subscription()
        for _ in range(13):
            failing(broken, since=clock())
            notifications.tell(now=clock())
            clock.move(minutes=5)
            well(broken)
            notifications.tell(now=clock())
            clock.move(minutes=5)

        words = [one.subject.partition("CRM ")[2] for one in mail.outbox]
        assert words == ["has trouble", "is well again"] * 3

    def test_a_callable_says_who_is_mailed(self, clock, settings):
        settings.WEBHOOKS_NOTIFY = lambda subscription: [f"{subscription.name}@example.com"]
        failing(factories.subscription(name="crm"), since=clock())

        notifications.tell(now=clock())

        assert mail.outbox[0].to == ["crm@example.com"]

    def test_its_path_may_be_given(self, clock, settings):
        settings.WEBHOOKS_NOTIFY = f"{__name__}.nobody"
        failing(factories.subscription(), since=clock())

        assert notifications.tell(now=clock()) == 0
        assert mail.outbox == []

    def test_nobody_is_mailed_without_addresses(self, clock, settings):
        settings.WEBHOOKS_NOTIFY = ()
        failing(factories.subscription(), since=clock())

        notifications.tell(now=clock())

        assert mail.outbox == []

    def test_a_mail_server_that_fails_is_asked_again(self, clock, settings):
        failing(factories.subscription(), since=clock())
        mail_by(settings, "smtp", host="127.0.0.1", port=9)
        with pytest.raises(OSError, match="refused"):
            notifications.tell(now=clock())
        mail_by(settings, "locmem")

        assert notifications.tell(now=clock()) == 1

    def test_an_address_that_is_refused_silences_nobody_else(self, clock, settings, monkeypatch):
        settings.WEBHOOKS_NOTIFY = lambda subscription: [f"{subscription.name}@example.com"]
        for name in ("a", "b"):
            failing(factories.subscription(name=name), since=clock())
        real = mails.send_mail

        def send_mail(subject, body, sender, recipients):
            if recipients == ["a@example.com"]:
                raise SMTPRecipientsRefused({"a@example.com": (550, b"no such user")})
            return real(subject, body, sender, recipients)

        monkeypatch.setattr(mails, "send_mail", send_mail)
        with pytest.raises(SMTPRecipientsRefused):
            notifications.tell(now=clock())
        assert [one.to for one in mail.outbox] == [["b@example.com"]]
        monkeypatch.setattr(mails, "send_mail", real)

        assert notifications.tell(now=clock()) == 1
        assert [one.to for one in mail.outbox] == [["b@example.com"], ["a@example.com"]]


class TestDisabling:
    def step(self, clock):
        auto_disable.disable_long_down(now=clock())
        notifications.tell(now=clock())

    def test_warnings_at_a_half_and_at_nine_tenths_then_the_end(
        self, clock, settings, django_capture_on_commit_callbacks
    ):
        settings.WEBHOOKS_NOTIFY = ["ops@example.com"]
        broken = factories.subscription()
        factories.record()
        since = clock()
        failing(broken, since=since)
        seen, subjects = [], []

        def look(*, subscription, reason, **kwargs):
            seen.append(reason)

        signals.subscription_disabled.connect(look)
        try:
            for hours in (1, 59, 61, 107, 109, 119, 121, 200):
                clock.now = since + timedelta(hours=hours)
                mail.outbox.clear()
                with django_capture_on_commit_callbacks(execute=True):
                    self.step(clock)
                    self.step(clock)
                subjects.append([one.subject.partition("CRM ")[2] for one in mail.outbox])
        finally:
            signals.subscription_disabled.disconnect(look)

        soon = ["will be disabled"]
        assert subjects == [["has trouble"], [], soon, [], soon, [], ["is disabled"], []]
        broken.refresh_from_db()
        assert broken.status == "disabled"
        assert broken.status_reason.startswith("All endpoints have failed since ")
        assert len(seen) == 1
        assert Delivery.objects.waiting().count() == 1

    def test_a_warning_that_could_not_be_mailed_is_mailed_later(self, clock, settings):
        settings.WEBHOOKS_NOTIFY = ["ops@example.com"]
        factories.subscription(name="operations", event_types=["webhooks.subscription.*"])
        broken = factories.subscription()
        failing(broken, since=clock())
        notifications.tell(now=clock())
        clock.move(hours=61)
        auto_disable.disable_long_down(now=clock())
        mail.outbox.clear()
        mail_by(settings, "smtp", host="127.0.0.1", port=9)
        with pytest.raises(OSError, match="refused"):
            notifications.tell(now=clock())
        mail_by(settings, "locmem")

        assert notifications.tell(now=clock()) == 1
        assert notifications.tell(now=clock()) == 0

        assert [one.subject for one in mail.outbox] == ["Webhooks: CRM will be disabled"]
        # Programs were told when it was decided, and once.
        assert told() == [
            (
                "webhooks.subscription.failing",
                {"subscription": str(broken.pk), "name": "CRM", "share": 0.5},
            )
        ]

    def test_who_recovered_is_warned_anew(self, clock, settings):
        settings.WEBHOOKS_NOTIFY = ["ops@example.com"]
        broken = factories.subscription()
        warned = []
        for _ in range(2):
            failing(broken, since=clock())
            clock.move(hours=61)
            mail.outbox.clear()
            self.step(clock)
            warned.append([one.subject.partition("CRM ")[2] for one in mail.outbox])
            well(broken)
            clock.move(hours=1)
            self.step(clock)

        # One mail tells both.
        assert warned == [["will be disabled"]] * 2
        broken.refresh_from_db()
        assert (broken.notified_down_stage, broken.notified_level) == (0, 0)

    def test_one_endpoint_that_is_well_is_enough(self, clock):
        broken = factories.subscription()
        Endpoint.objects.create(subscription=broken, url="http://127.0.0.1:8/", position=1)
        failing(broken, since=clock())
        clock.move(days=6)

        assert auto_disable.disable_long_down(now=clock()) == 0

    def test_the_last_one_that_fell_counts(self, clock):
        broken = factories.subscription()
        Endpoint.objects.create(subscription=broken, url="http://127.0.0.1:8/", position=1)
        failing(broken, since=clock())
        clock.move(days=4)
        failing(broken, since=clock(), position=1)
        clock.move(days=4)
        assert auto_disable.disable_long_down(now=clock()) == 0
        clock.move(days=1)
        assert auto_disable.disable_long_down(now=clock()) == 1

    def test_a_subscription_may_have_its_own_time(self, clock):
        broken = factories.subscription(disable_after_seconds=3600)
        failing(broken, since=clock())
        clock.move(hours=1)

        assert auto_disable.disable_long_down(now=clock()) == 1

    def test_what_is_resumed_begins_with_a_clean_slate(self, clock):
        with receiving(204) as receiver:
            broken = factories.subscription(url=receiver.url)
            for number in range(3):
                factories.record(data={"id": number})
            Delivery.objects.update(due_at=None)
            EndpointHealth.objects.update(is_active=None)
            failing(broken, since=clock())
            clock.move(days=6)
            self.step(clock)
            broken.refresh_from_db()

            broken.resume()

            assert auto_disable.disable_long_down(now=clock()) == 0
            candidate = EndpointHealth.objects.get()
            assert (candidate.state, candidate.is_active, candidate.failing_since) == (
                "healthy",
                True,
                None,
            )
            assert Delivery.objects.held().count() == 2
            worker.drain(clock=clock)
        assert Delivery.objects.succeeded().count() == 3
        broken.refresh_from_db()
        assert (broken.notified_down_stage, broken.notified_level) == (0, 0)


def test_the_tasks_tell(settings, monkeypatch):
    sent = []
    monkeypatch.setattr(tasks.notify, "delay", lambda: sent.append(tasks.notify()))
    settings.WEBHOOKS_NOTIFY = ["ops@example.com"]
    broken = factories.subscription()
    clock = Clock()
    failing(broken, since=clock())

    tasks.check_health()
    tasks.check_health()

    assert sent == [1]
    assert len(mail.outbox) == 1


def nobody(subscription):
    return []


def test_the_payload_of_an_operational_event_is_json(clock):
    factories.subscription(name="ops", event_types=["webhooks.*"], url="http://127.0.0.1:8/")
    failing(factories.subscription(), since=clock())
    notifications.tell(now=clock())

    assert set(json.loads(bytes(Event.objects.get().body))["data"]) == {
        "subscription", "name", "endpoint", "host", "reason",
    }  # fmt: skip


def give_up(subscription, *, events, clock, answers=500, attempts=1):
    """Let deliveries of a subscription be attempted and given up, through the sender itself."""
    Subscription.objects.filter(pk=subscription.pk).update(retry_attempts=attempts)
    for number in range(events):
        factories.record(data={"id": number})
    worker.drain(clock=clock)


class TestGivenUp:
    @pytest.fixture(autouse=True)
    def _addresses(self, settings):
        settings.WEBHOOKS_NOTIFY = lambda subscription: ["owner@example.com"]

    def test_a_delivery_that_is_given_up_is_told_at_once_by_all_three(self, clock):
        seen = []

        def look(*, delivery, **kwargs):
            seen.append(delivery.reason)

        factories.subscription(name="ops", event_types=["webhooks.*"], url="http://127.0.0.1:8/")
        signals.delivery_given_up.connect(look)
        with receiving(422) as receiver:
            broken = factories.subscription(name="CRM", url=receiver.url)
            give_up(broken, events=1, clock=clock)
        signals.delivery_given_up.disconnect(look)
        notifications.tell(now=clock())
        notifications.tell(now=clock())

        delivery = Delivery.objects.given_up().get()
        assert seen == ["http_422"]
        [data] = [data for kind, data in told() if kind == "webhooks.delivery.given_up"]
        assert data["count"] == 1
        assert data["reasons"] == {"http_422": 1}
        assert data["deliveries"] == [str(delivery.pk)]
        [sent] = mail.outbox
        assert sent.subject == "Webhooks: deliveries of CRM were given up"
        assert "1 delivery was given up (http_422: 1)" in sent.body
        assert str(delivery.pk) in sent.body
        assert "replay" in sent.body

    def test_a_loop_is_mailed_and_told_by_no_event_that_might_go_round_as_well(self, clock):
        factories.subscription(name="ops", event_types=["webhooks.*"], url="http://127.0.0.1:8/")
        looping = factories.subscription(name="CRM", url=URL)
        with events.handling({"webhook-hops": str(loops.MAX_HOPS)}):
            events.emit("order.paid", {"id": 1})
        factories.fan_out()
        notifications.tell(now=clock())
        notifications.tell(now=clock())

        delivery = Delivery.objects.given_up().get()
        assert (delivery.subscription_id, delivery.reason) == (looping.pk, "loop")
        assert [kind for kind, _ in told() if kind.startswith("webhooks.")] == []
        [sent] = mail.outbox
        assert sent.subject == "Webhooks: deliveries of CRM were given up"
        assert "1 delivery was given up (loop: 1)" in sent.body

    def test_a_thousand_are_one_event_and_one_mail_with_a_count_and_examples(self, clock):
        broken = factories.subscription(name="CRM")
        factories.subscription(name="ops", event_types=["webhooks.*"], url="http://127.0.0.1:8/")
        rows = Notification.objects
        for number in range(100):
            keys = [broken.pk] * 5
            rows.given_up(broken.pk, {"http_500": 7, "timeout": 2, f"http_{400 + number}": 1}, keys)

        assert Notification.objects.count() == 1
        notifications.tell(now=clock())

        [(_, data)] = told()
        assert data["count"] == 1000
        assert data["reasons"]["http_500"] == 700
        assert len(data["deliveries"]) == 5
        [sent] = mail.outbox
        assert "1000 deliveries were given up (http_500: 700, timeout: 200" in sent.body

    def test_more_within_the_interval_wait_and_are_one_mail(self, clock):
        broken = factories.subscription(name="CRM")
        for _ in range(30):
            Notification.objects.given_up(broken.pk, {"timeout": 3}, [])
            notifications.tell(now=clock())
            clock.move(minutes=1)
        assert len(mail.outbox) == 1
        assert "3 deliveries" in mail.outbox[0].body

        clock.move(minutes=31)
        notifications.tell(now=clock())

        assert len(mail.outbox) == 2
        assert "87 deliveries" in mail.outbox[1].body

    def test_what_is_given_up_while_others_are_told_of_is_told_as_well(self, clock, monkeypatch):
        """Each moment of telling: while programs are told, and while a mail is on its way."""
        broken, rows, more = factories.subscription(), Notification.objects, {"event": 2, "mail": 4}
        factories.subscription(name="ops", event_types=["webhooks.*"], url="http://127.0.0.1:8/")

        def meanwhile(name, act):
            def acting(*arguments, **options):
                if count := more.pop(name, 0):
                    rows.given_up(broken.pk, {"timeout": count}, [])
                return act(*arguments, **options)

            return acting

        monkeypatch.setattr(operational, "emit", meanwhile("event", operational.emit))
        monkeypatch.setattr(mails, "send_mail", meanwhile("mail", mails.send_mail))
        rows.given_up(broken.pk, {"timeout": 3}, [])
        for _ in range(3):
            notifications.tell(now=clock())
            clock.move(hours=2)

        counts = [int(re.search(r"(\d+) deliver", one.body)[1]) for one in mail.outbox]
        assert sum(data["count"] for _, data in told()) == 9
        assert sum(counts) == 9
        assert not notifications.are_pending(now=clock())

    def test_other_subscriptions_are_told_of_within_the_interval(self, clock):
        for name in ("a", "b"):
            one = factories.subscription(name=name)
            Notification.objects.given_up(one.pk, {"timeout": 1}, [])
            notifications.tell(now=clock())
            clock.move(minutes=1)

        assert [one.subject for one in mail.outbox] == [
            "Webhooks: deliveries of a were given up",
            "Webhooks: deliveries of b were given up",
        ]

    def test_who_is_told_of_several_at_once_gets_one_mail(self, clock):
        for number in range(25):
            one = factories.subscription(name=f"s{number:02}")
            Notification.objects.given_up(one.pk, {"timeout": 1}, [])

        notifications.tell(now=clock())

        [sent] = mail.outbox
        assert sent.subject == "Webhooks: news of 25 subscriptions"
        assert "s00" in sent.body
        assert "s19" in sent.body
        assert "s20" not in sent.body
        assert "5 more subscriptions have news" in sent.body

    def test_a_rollback_tells_nothing(self, clock):
        broken = factories.subscription()
        with contextlib.suppress(ZeroDivisionError), transaction.atomic():
            Notification.objects.given_up(broken.pk, {"timeout": 1}, [])
            raise ZeroDivisionError

        assert notifications.tell(now=clock()) == 0

    def test_a_mail_that_cannot_be_sent_loses_nothing(self, clock, settings):
        broken = factories.subscription()
        Notification.objects.given_up(broken.pk, {"timeout": 1}, [])
        mail_by(settings, "smtp", host="127.0.0.1", port=9)
        for _ in range(3):
            with pytest.raises(OSError, match="refused"):
                notifications.tell(now=clock())
            Notification.objects.given_up(broken.pk, {"timeout": 1}, [])
            clock.move(minutes=1)
        mail_by(settings, "locmem")

        notifications.tell(now=clock())

        [sent] = mail.outbox
        assert "4 deliveries" in sent.body

    def test_nobody_to_mail_is_no_error_and_nothing_piles_up(self, clock, settings):
        settings.WEBHOOKS_NOTIFY = ()
        broken = factories.subscription()
        Notification.objects.given_up(broken.pk, {"timeout": 1}, [])

        notifications.tell(now=clock())

        assert mail.outbox == []
        assert not notifications.are_pending(now=clock())

    def test_old_ones_are_removed_and_untold_ones_kept(self, clock):
        broken = factories.subscription()
        Notification.objects.given_up(broken.pk, {"timeout": 1}, [])
        notifications.tell(now=clock())
        Notification.objects.given_up(broken.pk, {"timeout": 1}, [])
        Notification.objects.update(created_at=clock() - timedelta(days=31))

        assert Notification.objects.prune(now=clock()) == 1
        assert Notification.objects.count() == 1


class TestStates:
    """What is read off the rows, whoever wrote them."""

    @pytest.fixture(autouse=True)
    def _addresses(self, settings):
        settings.WEBHOOKS_NOTIFY = ["ops@example.com"]
        settings.WEBHOOKS_SITE_URL = "https://www.example.com/"

    def test_an_endpoint_that_is_gone_is_told_once(self, clock):
        factories.subscription(name="ops", event_types=["webhooks.*"], url="http://127.0.0.1:8/")
        with receiving(410) as receiver:
            broken = factories.subscription(name="CRM", url=receiver.url)
            factories.record()
            worker.drain(clock=clock)
        for _ in range(3):
            notifications.tell(now=clock())
            clock.move(hours=2)

        kinds = [kind for kind, _ in told()]
        assert kinds.count("webhooks.endpoint.disabled") == 1
        sent = [one for one in mail.outbox if "disabled" in one.subject]
        assert [one.subject for one in sent] == ["Webhooks: an endpoint of CRM is disabled"]
        assert "http_410" in sent[0].body
        assert "enable it" in sent[0].body
        link = f"https://www.example.com/admin/django_webhooks/subscription/{broken.pk}/change/"
        assert link in sent[0].body

    def test_one_that_was_enabled_and_is_gone_again_is_told_again(self, clock):
        broken = factories.subscription(name="CRM")
        endpoint = broken.endpoints.get()
        for _ in range(2):
            endpoint.disable("http_410")
            notifications.tell(now=clock())
            endpoint.enable()
            notifications.tell(now=clock())

        assert [one.subject for one in mail.outbox] == [
            "Webhooks: an endpoint of CRM is disabled"
        ] * 2

    def test_an_outage_after_trouble_is_told_although_the_interval_is_not_over(self, clock):
        broken = factories.subscription(name="CRM")
        Endpoint.objects.create(subscription=broken, url="http://127.0.0.1:8/", position=1)
        failing(broken, since=clock(), position=0)
        notifications.tell(now=clock())
        clock.move(minutes=1)
        failing(broken, since=clock(), position=1)
        EndpointHealth.objects.update(is_active=None)
        for _ in range(3):
            notifications.tell(now=clock())
            clock.move(minutes=1)

        assert [one.subject for one in mail.outbox] == ["Webhooks: CRM has trouble"] * 2
        assert "wait until one of them answers" in mail.outbox[1].body

    def test_the_end_is_told_once(self, clock):
        broken = factories.subscription(name="CRM")
        failing(broken, since=clock())
        notifications.tell(now=clock())
        well(broken)
        for _ in range(3):
            clock.move(hours=2)
            notifications.tell(now=clock())

        assert [one.subject for one in mail.outbox] == [
            "Webhooks: CRM has trouble",
            "Webhooks: CRM is well again",
        ]

    def test_what_cannot_be_decrypted_is_told_and_its_end(
        self, clock, django_capture_on_commit_callbacks
    ):
        seen = []

        def unreadable(**kwargs):
            seen.append("unreadable")

        def readable(**kwargs):
            seen.append("readable")

        signals.subscription_unreadable.connect(unreadable)
        signals.subscription_readable.connect(readable)
        factories.subscription(name="CRM")
        for since in (clock(), None):
            Subscription.objects.update(unreadable_since=since)
            with django_capture_on_commit_callbacks(execute=True):
                for _ in range(2):
                    notifications.tell(now=clock())

        assert seen == ["unreadable", "readable"]
        assert [one.subject for one in mail.outbox] == [
            "Webhooks: CRM cannot be decrypted",
            "Webhooks: CRM is well again",
        ]
        assert "WEBHOOKS_ENCRYPTION_KEYS" in mail.outbox[0].body

    def test_without_an_admin_or_a_url_there_is_no_link(self, clock, settings):
        failing(factories.subscription(name="one"), since=clock())
        settings.ROOT_URLCONF = "tests.integration.receiving.test_receiving"
        notifications.tell(now=clock())
        settings.WEBHOOKS_SITE_URL = ""
        failing(factories.subscription(name="two"), since=clock())
        notifications.tell(now=clock())

        assert len(mail.outbox) == 2
        assert not any("https://" in one.body for one in mail.outbox)


class TestSite:
    @pytest.fixture(autouse=True)
    def _addresses(self, settings):
        settings.WEBHOOKS_NOTIFY = lambda subscription: ["owner@example.com"]
        settings.WEBHOOKS_NOTIFY_OPERATORS = ["operators@example.com"]
        factories.subscription(name="CRM")
        Subscription.objects.update(created_at=times.now() - timedelta(days=1))

    def at_work(self, clock):
        for name in ("sweep", "check_health", "roll_up", "deliver"):
            Heartbeat.objects.beat(name, now=clock())

    def look(self, clock):
        notifications.watch(now=clock())
        return notifications.tell(now=clock())

    def test_a_dead_beat_is_told_to_operators_once_and_its_end(
        self, clock, django_capture_on_commit_callbacks
    ):
        seen = []

        def down(*, subject, detail, **kwargs):
            seen.append(subject)

        signals.site_not_well.connect(down)
        with django_capture_on_commit_callbacks(execute=True):
            for _ in range(3):
                self.look(clock)
        self.at_work(clock)
        for _ in range(3):
            self.look(clock)
        clock.move(minutes=10)
        self.look(clock)

        assert seen == ["beat"]
        assert {tuple(one.to) for one in mail.outbox} == {("operators@example.com",)}
        assert [one.subject for one in mail.outbox] == [
            "Webhooks: not well",
            "Webhooks: the site is well again",
            "Webhooks: not well",
        ]
        assert "Start Celery's beat" in mail.outbox[0].body

    @pytest.mark.parametrize(
        ("trouble", "sentence"),
        [
            (lambda: Heartbeat.objects.filter(pk="sweep").delete(), "Periodic tasks"),
            (lambda: (factories.emit(), Heartbeat.objects.filter(pk="deliver").delete()), "make"),
            (lambda: (factories.record(), Heartbeat.objects.filter(pk="deliver").delete()), "take"),
            (lambda: factories.emit(), "oldest event"),
            (lambda: factories.record(), "oldest delivery"),
            (lambda: factories.event(fan_out=Event.FanOut.FAILED), "could not be made"),
        ],
        ids=["beat", "worker of events", "worker", "events late", "deliveries late", "fan-out"],
    )
    def test_whatever_is_not_well_is_told_once_and_its_end(self, clock, trouble, sentence):
        self.at_work(clock)
        trouble()
        Event.objects.update(created_at=clock() - timedelta(minutes=20))
        Delivery.objects.update(due_at=clock() - timedelta(minutes=20))
        self.look(clock)
        self.look(clock)
        Delivery.objects.all().delete()
        Event.objects.all().delete()
        self.at_work(clock)
        self.look(clock)
        self.look(clock)

        assert [one.subject for one in mail.outbox] == [
            "Webhooks: not well",
            "Webhooks: the site is well again",
        ]
        assert all(sentence in one.body for one in mail.outbox)

    def test_the_command_tells_where_nobody_else_can(self, capsys):
        with pytest.raises(SystemExit):
            call_command("webhooks_health", "--notify")
        with pytest.raises(SystemExit):
            call_command("webhooks_health", "--notify")

        assert [one.to for one in mail.outbox] == [["operators@example.com"]]

    def test_workers_tell_of_a_dead_beat(self, clock):
        factories.record()
        Heartbeat.objects.beat("deliver")

        notifications.stand_in()
        notifications.stand_in()

        assert [one.subject for one in mail.outbox] == ["Webhooks: not well"]

    def test_workers_say_nothing_while_others_watch(self):
        assert notifications.watch_if_due()

        notifications.stand_in()

        assert mail.outbox == []
        assert not notifications.watch_if_due()
        assert notifications.watch_if_due(now=times.now() + timedelta(minutes=1))

    def test_keys_that_are_lost_are_told_before_a_worker_meets_them(self, clock, settings):
        self.at_work(clock)
        settings.WEBHOOKS_ENCRYPTION_KEYS = [encryption.generate_key()]

        self.look(clock)

        [sent] = mail.outbox
        assert "2 encrypted values cannot be read" in sent.body

    @pytest.mark.parametrize("is_list", [True, False])
    def test_without_operators_a_list_of_owners_stands_in(self, clock, settings, is_list):
        settings.WEBHOOKS_NOTIFY_OPERATORS = ()
        if is_list:
            settings.WEBHOOKS_NOTIFY = ["ops@example.com"]

        self.look(clock)

        assert [one.to for one in mail.outbox] == ([["ops@example.com"]] if is_list else [])
        assert not notifications.are_pending(now=clock())

    def test_programs_without_an_owner_are_told(self, clock):
        factories.subscription(name="ops", event_types=["webhooks.site.*"])
        factories.subscription(
            name="other", event_types=["webhooks.*"], owner_type="testapp.shop", owner_id="1"
        )

        self.look(clock)

        [(kind, data)] = told()
        assert (kind, data["problem"]) == ("webhooks.site.not_well", "no_beat")
        assert [one.subscription.name for one in Delivery.objects.all()] == ["ops"]


class TestTurns:
    def test_one_process_tells_at_a_time(self, clock):
        failing(factories.subscription(), since=clock())
        factories.subscription(name="ops", event_types=["webhooks.*"], url="http://127.0.0.1:8/")
        Heartbeat.objects.create(name="notify", reached=clock() + timedelta(minutes=1))

        assert notifications.tell(now=clock()) == 0
        clock.move(minutes=2)
        assert notifications.tell(now=clock()) == 1

    def test_a_turn_of_a_clock_that_was_wrong_holds_nobody_up(self, clock):
        Heartbeat.objects.create(name="notify", reached=clock() + timedelta(days=100))

        assert notifications.tell(now=clock()) == 0
        assert Heartbeat.objects.get(pk="notify").reached is None

    def test_an_audit_with_news_is_an_event(self, clock):
        factories.subscription(name="ops", event_types=["webhooks.audit.*"])
        audit.keep(audit.run())

        notifications.tell(now=clock())

        [(kind, data)] = told()
        assert kind == "webhooks.audit.findings"
        assert set(data["counts"]) == {"info", "warning", "severe", "accepted"}


def test_each_kind_is_an_event_type_that_is_documented():
    text = (Path(__file__).parents[4] / "docs/reference/signals.md").read_text()

    for kind in Notification.Kind:
        assert catalog.get(f"webhooks.{kind.value}").description
        assert f"| `webhooks.{kind.value}` |" in text
