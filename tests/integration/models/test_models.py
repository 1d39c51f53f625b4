"""Rows: what must always hold, and what they say of themselves."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils.timezone import override as in_zone

from django_webhooks import times
from django_webhooks.models import Attempt, Delivery, Endpoint, Subscription
from django_webhooks.models.owner import OwnerKey
from tests import factories
from tests.testapp.models import Shop

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


class TestSubscriptions:
    """Who listens."""

    def test_event_types_are_given_and_read_as_a_list(self):
        made = Subscription.objects.create(name="CRM", event_types=["order.*", "user.joined"])

        assert Subscription.objects.get(pk=made.pk).event_types == ["order.*", "user.joined"]

    def test_event_types_can_be_replaced(self):
        made = factories.subscription(event_types=["order.*", "user.joined"])
        made.event_types = ["user.joined", "*"]
        assert made.event_types == ["user.joined", "*"]

        made.save()

        assert Subscription.objects.get().event_types == ["*", "user.joined"]

    def test_saving_without_event_types_keeps_them(self):
        factories.subscription()
        made = Subscription.objects.get()
        made.name = "ERP"
        made.save()

        assert Subscription.objects.get().event_types == ["order.*"]

    @pytest.mark.parametrize("pattern", ["order.", "*.paid", ""])
    def test_a_malformed_pattern_is_refused(self, pattern):
        with pytest.raises(ValidationError, match="matches no event type"):
            Subscription(event_types=[pattern])

    def test_a_single_text_is_refused(self):
        with pytest.raises(TypeError, match="list of patterns"):
            Subscription(event_types="order.*")

    def test_a_global_subscription_has_no_owner(self):
        shop = Shop.objects.create(name="one")

        with pytest.raises(IntegrityError), transaction.atomic():
            factories.subscription(is_global=True, owner=shop)

    @pytest.mark.parametrize(
        "fields",
        [
            {"retry_attempts": 0},
            {"timeout_seconds": 0},
            {"retry_base_seconds": -1},
            {"retry_cap_seconds": 0},
        ],
    )
    def test_limits_are_positive(self, fields):
        with pytest.raises(IntegrityError), transaction.atomic():
            factories.subscription(**fields)

    def test_an_owner_is_found_again(self):
        shop = Shop.objects.create(name="one")
        made = factories.subscription(owner=shop)

        assert Subscription.objects.get().owner == shop
        assert made.owner_key == OwnerKey("testapp.shop", str(shop.pk))
        shop.delete()
        assert Subscription.objects.get().owner is None
        made.owner = None
        assert (made.owner_type, made.owner_id) == ("", "")

    def test_an_owner_whose_model_is_gone_is_none(self):
        assert Subscription(owner_type="gone.shop", owner_id="1").owner is None

    def test_its_own_limits_come_before_the_settings(self, settings):
        settings.WEBHOOKS_RETRY_BASE_SECONDS = 7.0
        made = factories.subscription(retry_attempts=3, retry_cap_seconds=60.0, timeout_seconds=2.0)

        assert made.retry_policy.attempts == 3
        assert (made.retry_policy.base, made.retry_policy.cap) == (7.0, 60.0)
        assert made.attempt_timeout == 2.0

    def test_an_attempt_never_outlasts_its_lease(self, settings):
        settings.WEBHOOKS_LEASE_SECONDS = 20.0

        assert factories.subscription(timeout_seconds=300.0).attempt_timeout == 15.0

    def test_pausing_holds_and_resuming_releases(self):
        subscription = factories.subscription()
        subscription.pause("deploy")
        [delivery] = factories.record()
        assert subscription.status_reason == "deploy"
        assert list(Delivery.objects.held()) == [delivery]

        subscription.resume()

        assert not Delivery.objects.held().exists()
        assert Delivery.objects.due(times.now() + timedelta(seconds=1)).count() == 1

    def test_disabling_holds_as_well(self):
        subscription = factories.subscription()
        subscription.disable("all endpoints failed")
        factories.record()

        assert Delivery.objects.held().count() == 1

    def test_deleting_one_cancels_what_waits_visibly(self):
        delivery = factories.delivery()

        delivery.subscription.delete()

        delivery.refresh_from_db()
        assert (delivery.status, delivery.reason) == ("cancelled", "subscription_deleted")
        assert delivery.subscription is None

    def test_deleting_many_cancels_as_well(self):
        factories.delivery()

        Subscription.objects.all().delete()

        assert Delivery.objects.get().status == "cancelled"


class TestEndpoints:
    """Where it goes."""

    def test_positions_are_unique_in_a_subscription(self):
        subscription = factories.subscription()

        with pytest.raises(IntegrityError), transaction.atomic():
            Endpoint.objects.create(subscription=subscription, url="https://example.com/")

    def test_a_new_endpoint_lets_flow_what_waited_for_it(self):
        delivery = factories.delivery(url=None)
        Delivery.objects.update(due_at=None)

        Endpoint.objects.create(subscription=delivery.subscription, url="https://example.com/")

        delivery.refresh_from_db()
        assert delivery.due_at is not None

    def test_an_endpoint_of_a_paused_subscription_lets_nothing_flow(self):
        delivery = factories.delivery(url=None)
        delivery.subscription.pause()
        Delivery.objects.update(due_at=None)

        Endpoint.objects.create(subscription=delivery.subscription, url="https://example.com/")

        delivery.refresh_from_db()
        assert delivery.due_at is None

    def test_enabling_one_lets_flow(self):
        delivery = factories.delivery()
        endpoint = Endpoint.objects.get()
        endpoint.disable("gone")
        Delivery.objects.update(due_at=None)
        assert not Endpoint.objects.usable().exists()

        endpoint.enable()

        delivery.refresh_from_db()
        assert delivery.due_at is not None
        assert endpoint.is_usable

    def test_its_text_is_host_and_role_and_no_secret(self):
        endpoint = Endpoint(url="https://user:pass@example.com:8443/secret?key=1", position=1)

        assert str(endpoint) == "backup"
        assert endpoint.label == "example.com:8443 (backup)"


class TestDeliveries:
    """What is on its way."""

    def test_an_event_reaches_a_subscription_once(self):
        delivery = factories.delivery()

        with pytest.raises(IntegrityError), transaction.atomic():
            Delivery.objects.create(
                event=delivery.event, subscription=delivery.subscription, due_at=NOW
            )

    @pytest.mark.parametrize(
        "fields",
        [
            {"status": "succeeded"},
            {"finished_at": NOW},
            {"status": "given_up", "finished_at": NOW, "due_at": NOW},
            {"status": "given_up", "finished_at": NOW, "lease_token": uuid.uuid4()},
        ],
    )
    def test_it_waits_or_is_over(self, fields):
        factories.delivery()
        Delivery.objects.update(due_at=None)

        with pytest.raises(IntegrityError), transaction.atomic():
            Delivery.objects.update(**fields)

    def test_named_sets(self):
        delivery = factories.delivery()
        assert list(Delivery.objects.waiting()) == [delivery]
        assert not delivery.is_over
        Delivery.objects.update(status="given_up", due_at=None, finished_at=NOW)

        assert list(Delivery.objects.given_up()) == [delivery]
        assert not Delivery.objects.succeeded().exists()
        assert not Delivery.objects.held().exists()

    @pytest.mark.parametrize(
        ("fields", "sentence"),
        [
            (
                {"status": "succeeded", "finished_at": NOW, "attempts_made": 2},
                "Arrived at 2026-01-31 12:00:00 on attempt 2.",
            ),
            (
                {
                    "status": "given_up",
                    "finished_at": NOW,
                    "attempts_made": 12,
                    "reason": "http_503",
                },
                "Given up at 2026-01-31 12:00:00 on attempt 12 (http_503); it can be replayed.",
            ),
            (
                {"status": "cancelled", "finished_at": NOW},
                "Cancelled at 2026-01-31 12:00:00 (-).",
            ),
            ({"due_at": NOW}, "Waits for a worker since 2026-01-31 12:00:00."),
            (
                {"due_at": NOW + timedelta(hours=1), "attempts_made": 1, "reason": "timeout"},
                "Attempt 1 failed (timeout); the next one is due at 2026-01-31 13:00:00.",
            ),
            (
                {"due_at": NOW + timedelta(seconds=30), "lease_token": uuid.uuid4()},
                "A worker is sending it, or returns it at 2026-01-31 12:00:30 at the latest.",
            ),
        ],
    )
    def test_it_explains_itself_in_one_sentence(self, fields, sentence):
        delivery = Delivery(subscription=Subscription(name="CRM"), **fields)

        with in_zone("UTC"):
            assert delivery.explain(NOW) == sentence

    @pytest.mark.parametrize(("status", "word"), [("paused", "paused"), ("disabled", "disabled")])
    def test_it_says_that_its_subscription_holds_it(self, status, word):
        delivery = Delivery(subscription=Subscription(name="CRM", status=status))

        assert delivery.explain() == (
            f"Waits because its subscription is {word}; resume it to send."
        )


def test_texts_of_rows():
    delivery = factories.delivery()

    assert str(delivery) == str(delivery.pk)
    assert str(delivery.subscription) == "CRM"
    assert str(delivery.event) == f"order.paid {delivery.event.message_id}"
    assert str(delivery.subscription.patterns.get()) == "order.*"
    assert str(Attempt(number=2, status_code=503)) == "2: 503"
    assert str(Attempt(number=1, reason="timeout")) == "1: timeout"


def test_an_event_knows_its_data():
    assert factories.event().data == {"id": 1}
