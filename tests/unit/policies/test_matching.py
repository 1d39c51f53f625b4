"""Which patterns match which event types."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_webhooks.policies.matching import candidates, is_pattern, matches

names = st.lists(st.sampled_from(["order", "item", "a", "webhooks"]), min_size=1, max_size=4).map(
    ".".join
)
patterns = st.one_of(names, names.map(lambda name: f"{name}.*"), st.just("*"))


@pytest.mark.parametrize(
    ("pattern", "event_type", "expected"),
    [
        ("order.paid", "order.paid", True),
        ("order.paid", "order.paid.late", False),
        ("order.*", "order.paid", True),
        ("order.*", "order.item.added", True),
        ("order.*", "order", False),
        ("order.*", "orders.paid", False),
        ("*", "anything", True),
        ("*", "webhooks.endpoint.unhealthy", False),
        ("webhooks.*", "webhooks.endpoint.unhealthy", True),
    ],
)
def test_matching(pattern, event_type, expected):
    assert matches(pattern, event_type) is expected


def test_candidates_are_the_name_its_families_and_everything():
    assert candidates("a.b.c") == ["a.b.c", "a.b.*", "a.*", "*"]
    assert candidates("webhooks.a") == ["webhooks.a", "webhooks.*"]


@given(pattern=patterns, event_type=names)
def test_candidates_are_exactly_the_patterns_that_match(pattern, event_type):
    assert (pattern in candidates(event_type)) == matches(pattern, event_type)


@pytest.mark.parametrize("text", ["*", "order.*", "order.paid", "a_b.c-d", "a"])
def test_patterns(text):
    assert is_pattern(text)


@pytest.mark.parametrize("text", ["", "order.", ".order", "*.paid", "order*", "or der", "a" * 101])
def test_no_patterns(text):
    assert not is_pattern(text)
