"""The catalog: which event types there are."""

from __future__ import annotations

import pytest

from django_webhooks import catalog
from django_webhooks.exceptions import UnknownEventType


@pytest.fixture
def declared():
    yield catalog.declare("test.happened", description="It happened.", example={"id": 1})
    catalog.forget("test.happened")


def test_what_is_declared_is_found(declared):
    assert catalog.get("test.happened") is declared
    assert declared in catalog.all()
    catalog.check("test.happened")


def test_the_nearest_name_is_told(declared):
    with pytest.raises(UnknownEventType, match=r"did you mean 'test\.happened'"):
        catalog.get("test.hapened")


def test_a_name_like_none_is_told_to_be_declared():
    with pytest.raises(UnknownEventType, match=r"declare it with catalog\.declare"):
        catalog.check("zzz")


def test_declaring_the_same_twice_is_no_mistake(declared):
    again = catalog.declare("test.happened", description="It happened.", example={"id": 1})

    assert again == declared


def test_declaring_something_else_by_the_same_name_is_one(declared):
    with pytest.raises(ValueError, match="declared twice"):
        catalog.declare("test.happened", description="Something else.")


@pytest.mark.parametrize("name", ["", "a b", "a.", ".a", "a..b", "*", "a.*", "ä", "a" * 101])
def test_malformed_names_are_refused(name):
    with pytest.raises(ValueError, match="not an event type"):
        catalog.declare(name)


def test_event_types_are_listed_by_name(declared):
    catalog.declare("test.began")

    names = [one.name for one in catalog.all() if one.name.startswith("test.")]
    catalog.forget("test.began")

    assert names == ["test.began", "test.happened"]


@pytest.mark.parametrize("name", ["a", "order.paid", "order_item.re-stocked.2", "A9"])
def test_well_formed_names(name):
    assert catalog.is_name(name)


def test_unknown_names_may_be_recorded_where_the_project_says_so(settings):
    settings.WEBHOOKS_ALLOW_UNKNOWN_EVENT_TYPES = True

    catalog.check("zzz")
    with pytest.raises(UnknownEventType, match="letters, digits"):
        catalog.check("z z")
