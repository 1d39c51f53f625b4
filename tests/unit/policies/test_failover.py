"""Which endpoint is active: a table for each rule."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from django_webhooks.policies.failover import (
    Candidate,
    Cause,
    Failback,
    Mode,
    cause,
    choose,
    elsewhere,
    is_due_elsewhere,
)
from django_webhooks.policies.health import Healthy, Trial, Unhealthy

NOW = datetime(2026, 1, 1, tzinfo=UTC)
STATES = {
    "h": Healthy(since=NOW),
    "u": Unhealthy(since=NOW, failing_since=NOW, reason="tls", hold=30, until=NOW),
    "t": Trial(since=NOW, failing_since=NOW, reason="tls", hold=30),
}


def candidates(text, *, active=None, pinned=None):
    """``"hut"``: a healthy primary, an unhealthy and a tried backup; in no order."""
    made = [
        Candidate(
            key=position,
            position=position,
            state=STATES[letter],
            is_active=position == active,
            is_pinned=position == pinned,
        )
        for position, letter in enumerate(text)
    ]
    return made[::-1]


def key(candidate):
    return None if candidate is None else candidate.key


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", (None, None)),
        ("h", (0, None)),
        ("hh", (0, None)),
        ("uh", (1, None)),
        ("uuh", (2, None)),
        ("uu", (None, None)),
        ("th", (1, 0)),
        ("ht", (0, None)),
        ("tt", (None, 0)),
        ("ut", (None, 1)),
        ("uth", (2, 1)),
    ],
)
def test_the_first_in_order_that_is_healthy(text, expected):
    choice = choose(candidates(text))

    assert (key(choice.active), key(choice.trial)) == expected


@pytest.mark.parametrize(
    ("text", "active", "expected"),
    [
        ("hh", 1, (1, None)),
        ("hh", 0, (0, None)),
        ("hu", 1, (0, None)),
        ("th", 1, (1, None)),
        ("tu", 1, (None, 0)),
        ("hh", None, (0, None)),
    ],
)
def test_staying(text, active, expected):
    choice = choose(candidates(text, active=active), failback=Failback.STAY)

    assert (key(choice.active), key(choice.trial)) == expected


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("text", ["hh", "hu", "ut"])
def test_a_pin_is_respected_whatever_the_health(text, mode):
    choice = choose(candidates(text, active=0, pinned=1), mode=mode)

    assert (key(choice.active), choice.trial) == (1, None)


@pytest.mark.parametrize(("text", "expected"), [("uh", 0), ("hh", 0), ("tt", 0), ("", None)])
def test_in_mode_each_the_first_whatever_the_health(text, expected):
    choice = choose(candidates(text), mode=Mode.EACH)

    assert (key(choice.active), choice.trial) == (expected, None)


@pytest.mark.parametrize(
    ("before", "after", "by_hand", "expected"),
    [
        (0, 1, False, Cause.FAILOVER),
        (1, 0, False, Cause.FAILBACK),
        (0, None, False, Cause.OUTAGE),
        (None, 1, False, Cause.RECOVERY),
        (1, 0, True, Cause.BY_HAND),
        (0, None, True, Cause.BY_HAND),
    ],
)
def test_what_kind_of_switch_it_was(before, after, by_hand, expected):
    known = {candidate.key: candidate for candidate in candidates("hh")}

    assert cause(known.get(before), known.get(after), by_hand=by_hand) is expected


@pytest.mark.parametrize(
    ("text", "tried", "pinned", "expected"),
    [
        pytest.param("hh", {0}, None, 1, id="the backup"),
        pytest.param("hh", {1}, None, 0, id="the primary, after the backup"),
        pytest.param("hhh", {0}, None, 1, id="the first in order"),
        pytest.param("hhh", {0, 1}, None, 2, id="that was not tried"),
        pytest.param("huh", {0}, None, 2, id="that is healthy"),
        pytest.param("hu", {0}, None, None, id="none is"),
        pytest.param("ht", {0}, None, None, id="one on trial is not"),
        pytest.param("hh", {0, 1}, None, None, id="all were tried"),
        pytest.param("h", {0}, None, None, id="there is one"),
        pytest.param("hh", {0}, 0, None, id="it is pinned"),
        pytest.param("hh", {0}, 1, None, id="the other is pinned"),
    ],
)
def test_where_a_delivery_may_be_sent_out_of_turn(text, tried, pinned, expected):
    assert key(elsewhere(candidates(text, pinned=pinned), tried=tried)) == expected


@pytest.mark.parametrize(
    ("attempts", "fall", "is_ordered", "expected"),
    [
        (1, 3, False, False),
        (2, 3, False, False),
        (3, 3, False, True),
        (9, 3, False, True),
        (1, 1, False, True),
        (1, 3, True, True),
    ],
)
def test_when_a_refused_delivery_is_sent_elsewhere(attempts, fall, is_ordered, expected):
    assert is_due_elsewhere(attempts, fall=fall, is_ordered=is_ordered) is expected
