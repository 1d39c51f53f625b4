"""Which endpoint is active: a table for each rule."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from django_webhooks.policies.failover import Cause, Door, Failback, Mode, cause, choose
from django_webhooks.policies.health import Healthy, Trial, Unhealthy

NOW = datetime(2026, 1, 1, tzinfo=UTC)
STATES = {
    "h": Healthy(since=NOW),
    "u": Unhealthy(since=NOW, failing_since=NOW, reason="tls", hold=30, until=NOW),
    "t": Trial(since=NOW, failing_since=NOW, reason="tls", hold=30),
}


def doors(text, *, active=None, pinned=None):
    """``"hut"``: a healthy primary, an unhealthy and a tried backup; in no order."""
    made = [
        Door(
            key=position,
            position=position,
            state=STATES[letter],
            is_active=position == active,
            is_pinned=position == pinned,
        )
        for position, letter in enumerate(text)
    ]
    return made[::-1]


def key(door):
    return None if door is None else door.key


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
    choice = choose(doors(text))

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
    choice = choose(doors(text, active=active), failback=Failback.STAY)

    assert (key(choice.active), key(choice.trial)) == expected


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("text", ["hh", "hu", "ut"])
def test_a_pin_is_respected_whatever_the_health(text, mode):
    choice = choose(doors(text, active=0, pinned=1), mode=mode)

    assert (key(choice.active), choice.trial) == (1, None)


@pytest.mark.parametrize(("text", "expected"), [("uh", 0), ("hh", 0), ("tt", 0), ("", None)])
def test_in_mode_each_the_first_whatever_the_health(text, expected):
    choice = choose(doors(text), mode=Mode.EACH)

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
    known = {door.key: door for door in doors("hh")}

    assert cause(known.get(before), known.get(after), by_hand=by_hand) is expected
