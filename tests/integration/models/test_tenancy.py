"""Tenancy: nobody hears another owner's events."""

from __future__ import annotations

import pytest

from django_webhooks.events import Draft, emit, emit_many
from django_webhooks.models import Delivery
from tests import factories
from tests.testapp.models import Shop, ShopProxy, Tag

pytestmark = pytest.mark.django_db


class TestTenancy:
    """Events reach their owner's subscriptions and global ones, and nobody else's."""

    @pytest.fixture
    def shops(self):
        return Shop.objects.create(name="one"), Shop.objects.create(name="two")

    @pytest.fixture
    def heard(self, shops):
        one, two = shops
        made = {
            "one": factories.subscription(owner=one),
            "two": factories.subscription(owner=two),
            "global": factories.subscription(is_global=True),
            "none": factories.subscription(),
        }

        def of(owner):
            Delivery.objects.all().delete()
            emit("order.paid", {}, owner=owner)
            factories.fan_out()
            keys = set(Delivery.objects.values_list("subscription", flat=True))
            return {name for name, one in made.items() if one.pk in keys}

        return of

    def test_an_owner_hears_its_own_events(self, heard, shops):
        assert heard(shops[0]) == {"one", "global"}
        assert heard(shops[1]) == {"two", "global"}

    def test_an_event_without_owner_reaches_subscriptions_without_one(self, heard):
        assert heard(None) == {"none", "global"}

    def test_a_proxy_is_the_same_owner(self, heard, shops):
        assert heard(ShopProxy.objects.get(pk=shops[0].pk)) == {"one", "global"}

    def test_one_owner_listening_does_not_hide_that_another_does(self, shops):
        mine = factories.subscription(owner=shops[0])
        assert emit("order.paid", {}, owner=shops[1]) is None

        assert emit("order.paid", {}, owner=shops[0]) is not None
        factories.fan_out()
        assert Delivery.objects.get().subscription == mine

    def test_many_owners_in_one_call_get_their_own(self, shops):
        one = factories.subscription(owner=shops[0])
        two = factories.subscription(owner=shops[1])

        emit_many(Draft(event_type="order.paid", data={}, owner=owner) for owner in (*shops, None))
        factories.fan_out()

        assert {(d.event.owner, d.subscription) for d in Delivery.objects.all()} == {
            (shops[0], one),
            (shops[1], two),
        }

    def test_many_event_types_in_one_call_go_to_their_own(self, shops):
        orders = factories.subscription(event_types=["order.*"], owner=shops[0])
        users = factories.subscription(event_types=["user.*"], owner=shops[1])

        made = emit_many(
            Draft(event_type=name, data={}, owner=owner)
            for name in ("order.paid", "user.joined")
            for owner in shops
        )

        assert [event is not None for event in made] == [True, False, False, True]
        factories.fan_out()
        assert {(d.event.type, d.subscription) for d in Delivery.objects.all()} == {
            ("order.paid", orders),
            ("user.joined", users),
        }

    def test_an_owner_of_another_model_with_the_same_key_hears_nothing(self, shops):
        tag = Tag.objects.create(pk=shops[0].pk, name="same key")
        factories.subscription(owner=tag)

        assert emit("order.paid", {}, owner=shops[0]) is None

    def test_an_unsaved_owner_is_refused(self):
        with pytest.raises(ValueError, match="Save the owner"):
            emit("order.paid", {}, owner=Shop(name="new"))
