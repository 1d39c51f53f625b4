"""Model hooks: what changes of many-to-many fields tell, from whichever side."""

from __future__ import annotations

import pytest

from django_webhooks.hooks import muted
from tests.testapp.hooks import listen, registered, told, told_changes
from tests.testapp.models import Order, Person, SpecialOrder, Tag

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _somebody_listens():
    listen()


@pytest.fixture
def order():
    with muted():
        return Order.objects.create()


@pytest.fixture
def tag():
    return Tag.objects.create(name="new")


def test_adding_and_removing_tell_the_relations_afterwards(order, tag):
    with registered(Order, fields=["id", "tags"], m2m=["tags"]):
        order.tags.add(tag)
        order.tags.remove(tag)

    data = {"id": order.pk, "changed": ["tags"]}
    assert told() == [
        ("order.updated", {**data, "tags": [tag.pk]}),
        ("order.updated", {**data, "tags": []}),
    ]


@registered(Order, m2m=["tags"])
def test_clearing_tells_once(order, tag):
    with muted():
        order.tags.add(tag)

    order.tags.clear()

    assert told_changes() == [["tags"]]


@registered(Order, m2m=["tags"])
def test_setting_tells_of_what_goes_and_of_what_comes(order, tag):
    with muted():
        order.tags.add(tag)

    order.tags.set([Tag.objects.create(name="other")])

    assert told_changes() == [["tags"], ["tags"]]


@registered(Order, m2m=["tags"])
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda order, tag, other: order.tags.add(tag), id="add what is there"),
        pytest.param(lambda order, tag, other: order.tags.remove(other), id="remove what is not"),
        pytest.param(lambda order, tag, other: order.tags.set([tag]), id="set what is there"),
        pytest.param(lambda order, tag, other: other.orders.clear(), id="clear nothing"),
        pytest.param(lambda order, tag, other: other.orders.remove(order), id="remove, reverse"),
    ],
)
def test_what_changes_nothing_tells_nothing(order, tag, change):
    with muted():
        order.tags.add(tag)

    change(order, tag, Tag.objects.create(name="other"))

    assert told() == []


@registered(Order, m2m=["tags"])
def test_clearing_an_object_without_relations_tells_nothing(order):
    order.tags.clear()

    assert told() == []


@registered(Order, m2m=["tags"])
@pytest.mark.parametrize("action", ["add", "remove", "clear"])
def test_a_change_from_the_other_side_tells_of_each_object(order, tag, action):
    with muted():
        other = Order.objects.create()
        Order.objects.create()
        if action != "add":
            tag.orders.add(order, other)

    getattr(tag.orders, action)(*(() if action == "clear" else (order, other)))

    data = [{"id": one.pk, "changed": ["tags"]} for one in (order, other)]
    assert told() == [("order.updated", one) for one in data]


@registered(Order)
def test_a_field_that_is_not_named_tells_nothing(order, tag):
    order.tags.add(tag)

    assert told() == []


@registered(Order, m2m=["tags"], actions=["created"])
def test_nothing_is_told_where_updates_are_not(order, tag):
    order.tags.add(tag)

    assert told() == []


@registered(Person, m2m=["friends"])
@pytest.mark.parametrize("action", ["add", "remove", "clear"])
def test_both_sides_of_a_symmetrical_relation_are_told(action):
    with muted():
        ann, bob = Person.objects.create(name="Ann"), Person.objects.create(name="Bob")
        if action != "add":
            ann.friends.add(bob)

    getattr(ann.friends, action)(*(() if action == "clear" else (bob,)))

    assert sorted(data["id"] for _, data in told()) == [ann.pk, bob.pk]


@registered(Person, m2m=["heroes"])
def test_one_side_of_an_asymmetrical_relation_is_told():
    with muted():
        ann, bob = Person.objects.create(name="Ann"), Person.objects.create(name="Bob")

    ann.heroes.add(bob)
    ann.fans.add(bob)

    assert [data["id"] for _, data in told()] == [ann.pk, bob.pk]


def test_a_relation_that_a_child_inherits_is_told_of_child_and_parent(tag):
    with muted():
        special = SpecialOrder.objects.create()
    with (
        registered(Order, m2m=["tags"]),
        registered(SpecialOrder, m2m=["tags"]),
    ):
        special.tags.add(tag)
        Order.objects.get().tags.remove(tag)

    assert sorted(event_type for event_type, _ in told()) == [
        "order.updated",
        "order.updated",
        "specialorder.updated",
        "specialorder.updated",
    ]


def test_a_hook_that_is_left_still_tells_when_another_goes(order, tag):
    with registered(Order, m2m=["tags"]):
        with registered(SpecialOrder, m2m=["tags"]):
            pass
        order.tags.add(tag)

    assert told_changes() == [["tags"]]
