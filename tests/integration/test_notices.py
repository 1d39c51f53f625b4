"""Who is told of outages, once; time is passed in."""

from __future__ import annotations

import json
from datetime import timedelta
from smtplib import SMTPRecipientsRefused

import django
import pytest
from django.core import mail

from django_webhooks import signals, tasks
from django_webhooks.models import Delivery, Endpoint, Event, Health, Subscription
from django_webhooks.sending import disabling, dispatch, mails, notices
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
    Health.objects.filter(subscription=subscription, endpoint__position=position).update(
        state=state, failing_since=since, since=since, reason="timeout", hold=30, hold_until=since
    )


def well(subscription):
    Health.objects.filter(subscription=subscription).update(
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
        assert not notices.are_pending(now=clock())
        failing(broken, since=clock())
        assert notices.are_pending(now=clock())

        assert notices.tell(now=clock()) == 1
        assert notices.tell(now=clock()) == 0
        failing(broken, since=clock(), state="trial")
        assert notices.tell(now=clock()) == 0
        well(broken)
        assert notices.tell(now=clock()) == 1
        assert not notices.are_pending(now=clock())

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
            dispatch.drain(clock=clock)
            notices.tell(now=clock())
            notices.tell(now=clock())

        [(_, data)] = [one for one in told() if one[0].startswith("webhooks.")]
        assert (data["cause"], data["reason"]) == ("failover", "http_500")
        assert data["to"] == backup.url[7:-5]

    def test_nobody_is_told_by_the_endpoint_that_fails(self, clock):
        broken = factories.subscription(event_types=["*", "webhooks.*"])
        factories.subscription(name="same door", event_types=["webhooks.*"])
        failing(broken, since=clock())

        notices.tell(now=clock())

        assert told() == []

    def test_another_owner_is_not_told(self, clock):
        broken = factories.subscription(owner_type="testapp.shop", owner_id="1")
        factories.subscription(
            url="http://127.0.0.1:8/", event_types=["webhooks.*"], owner_type="testapp.shop",
            owner_id="2",
        )  # fmt: skip
        failing(broken, since=clock())

        notices.tell(now=clock())

        assert told() == []


class TestMails:
    @pytest.fixture(autouse=True)
    def _addresses(self, settings):
        settings.WEBHOOKS_NOTIFY = ["ops@example.com"]

    def test_one_outage_is_one_mail(self, clock):
        broken = factories.subscription(name="CRM\nBcc: all@example.com")
        failing(broken, since=clock())
        for _ in range(5):
            notices.tell(now=clock())
            clock.move(hours=1)

        [sent] = mail.outbox
        assert sent.to == ["ops@example.com"]
        assert sent.subject == "Webhooks: CRM Bcc: all@example.com has trouble"
        assert "127.0.0.1:9 (primary): Unhealthy timeout" in sent.body

    def test_it_says_where_deliveries_go(self, clock):
        broken = factories.subscription()
        Endpoint.objects.create(subscription=broken, url="http://127.0.0.1:8/", position=1)
        failing(broken, since=clock(), position=1)

        notices.tell(now=clock())
        Health.objects.update(is_active=None)
        Subscription.objects.update(told_down_at=None)
        notices.tell(now=clock())

        assert "Deliveries go to 127.0.0.1:9 (primary)." in mail.outbox[0].body
        assert "Deliveries wait until one of them answers." in mail.outbox[1].body

    def test_flapping_is_one_mail_an_hour(self, clock):
        broken = factories.subscription()
        for _ in range(13):
            failing(broken, since=clock())
            notices.tell(now=clock())
            clock.move(minutes=5)
            well(broken)
            notices.tell(now=clock())
            clock.move(minutes=5)

        assert len(mail.outbox) == 2

    def test_a_callable_says_who_is_mailed(self, clock, settings):
        settings.WEBHOOKS_NOTIFY = lambda subscription: [f"{subscription.name}@example.com"]
        failing(factories.subscription(name="crm"), since=clock())

        notices.tell(now=clock())

        assert mail.outbox[0].to == ["crm@example.com"]

    def test_its_path_may_be_given(self, clock, settings):
        settings.WEBHOOKS_NOTIFY = "tests.integration.test_notices.nobody"
        failing(factories.subscription(), since=clock())

        assert notices.tell(now=clock()) == 0
        assert mail.outbox == []

    def test_nobody_is_mailed_without_addresses(self, clock, settings):
        settings.WEBHOOKS_NOTIFY = ()
        failing(factories.subscription(), since=clock())

        notices.tell(now=clock())

        assert mail.outbox == []

    def test_a_mail_server_that_fails_is_asked_again(self, clock, settings):
        failing(factories.subscription(), since=clock())
        mail_by(settings, "smtp", host="127.0.0.1", port=9)
        with pytest.raises(OSError, match="refused"):
            notices.tell(now=clock())
        mail_by(settings, "locmem")

        assert notices.tell(now=clock()) == 1

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
            notices.tell(now=clock())
        assert [one.to for one in mail.outbox] == [["b@example.com"]]
        monkeypatch.setattr(mails, "send_mail", real)

        assert notices.tell(now=clock()) == 1
        assert [one.to for one in mail.outbox] == [["b@example.com"], ["a@example.com"]]


class TestDisabling:
    def step(self, clock):
        disabling.disable_long_down(now=clock())
        notices.tell(now=clock())

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
        notices.tell(now=clock())
        clock.move(hours=61)
        disabling.disable_long_down(now=clock())
        mail.outbox.clear()
        mail_by(settings, "smtp", host="127.0.0.1", port=9)
        with pytest.raises(OSError, match="refused"):
            notices.tell(now=clock())
        mail_by(settings, "locmem")

        assert notices.tell(now=clock()) == 1
        assert notices.tell(now=clock()) == 0

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

        assert [set(one) for one in warned] == [{"has trouble", "will be disabled"}] * 2
        broken.refresh_from_db()
        assert (broken.down_warnings, broken.told_stage) == (0, 0)

    def test_one_endpoint_that_is_well_is_enough(self, clock):
        broken = factories.subscription()
        Endpoint.objects.create(subscription=broken, url="http://127.0.0.1:8/", position=1)
        failing(broken, since=clock())
        clock.move(days=6)

        assert disabling.disable_long_down(now=clock()) == 0

    def test_the_last_one_that_fell_counts(self, clock):
        broken = factories.subscription()
        Endpoint.objects.create(subscription=broken, url="http://127.0.0.1:8/", position=1)
        failing(broken, since=clock())
        clock.move(days=4)
        failing(broken, since=clock(), position=1)
        clock.move(days=4)
        assert disabling.disable_long_down(now=clock()) == 0
        clock.move(days=1)
        assert disabling.disable_long_down(now=clock()) == 1

    def test_a_subscription_may_have_its_own_time(self, clock):
        broken = factories.subscription(disable_after=3600)
        failing(broken, since=clock())
        clock.move(hours=1)

        assert disabling.disable_long_down(now=clock()) == 1

    def test_what_is_resumed_begins_with_a_clean_slate(self, clock):
        with receiving(204) as receiver:
            broken = factories.subscription(url=receiver.url)
            for number in range(3):
                factories.record(data={"id": number})
            Delivery.objects.update(due_at=None)
            Health.objects.update(is_active=None)
            failing(broken, since=clock())
            clock.move(days=6)
            self.step(clock)
            broken.refresh_from_db()

            broken.resume()

            assert disabling.disable_long_down(now=clock()) == 0
            door = Health.objects.get()
            assert (door.state, door.is_active, door.failing_since) == ("healthy", True, None)
            assert Delivery.objects.held().count() == 2
            dispatch.drain(clock=clock)
        assert Delivery.objects.succeeded().count() == 3
        broken.refresh_from_db()
        assert (broken.down_warnings, broken.told_stage) == (0, 0)


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
    notices.tell(now=clock())

    assert set(json.loads(bytes(Event.objects.get().body))["data"]) == {
        "subscription", "name", "endpoint", "host", "reason",
    }  # fmt: skip
