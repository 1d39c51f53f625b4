"""The soak's account finds what is lost, stuck, invented, altered, repeated and out of order."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from benchmarks.soak import reconciliation
from tests.receivers import Answer, Request


def request(key, *, message="", status=204, name="key-0", text="", at=0.0):
    body = json.dumps({"data": {"id": key, "name": name}, "text": text}).encode()
    headers = {"webhook-id": message or f"msg_{key}"}
    return Request(path="/", headers=headers, body=body, answer=Answer(status), at=at)


WELL = {"lost": 0, "stuck": 0, "unknown": 0, "altered": 0, "repeats": 0}


@pytest.mark.parametrize(
    ("requests", "waiting", "found"),
    [
        pytest.param([request(1), request(2)], 0, {}, id="all is well"),
        pytest.param([request(1, status=500), request(1), request(2)], 0, {}, id="a retry"),
        pytest.param([request(1)], 0, {"lost": 1}, id="lost"),
        pytest.param([request(1), request(2, status=500)], 0, {"lost": 1}, id="never taken"),
        pytest.param([request(1), request(2)], 1, {"stuck": 1}, id="stuck"),
        pytest.param([request(1), request(2), request(3)], 0, {"unknown": 1}, id="rolled back"),
        pytest.param(
            [request(1), request(1), request(1), request(2)], 0, {"repeats": 2}, id="repeated"
        ),
        pytest.param(
            [request(1, status=500), request(1, text="x"), request(2)],
            0,
            {"altered": 1},
            id="other bytes",
        ),
        pytest.param(
            [request(1), request(1, message="msg_x"), request(2)], 0, {"altered": 1}, id="other id"
        ),
    ],
)
def test_a_subscription_is_accounted_for(requests, waiting, found):
    states = Counter({"succeeded": 2 - waiting, "waiting": waiting})

    one = reconciliation._subscription(requests, {1, 2}, states)

    assert {name: one[name] for name in WELL} == WELL | found
    assert one["recorded"] == 2


@pytest.mark.parametrize(
    ("keys", "count"),
    [
        pytest.param([("a", 1), ("a", 2), ("a", 3)], 0, id="in order"),
        pytest.param([("a", 1), ("b", 3), ("a", 2)], 0, id="other keys do not count"),
        pytest.param([("a", 1), ("a", 3), ("a", 2)], 1, id="overtaken"),
        pytest.param([("a", 1), ("a", 2), ("a", 1)], 0, id="a repeat is no overtaking"),
    ],
)
def test_order_is_that_of_first_arrivals_of_a_key(keys, count):
    requests = [request(key, name=name) for name, key in keys]

    assert reconciliation.out_of_order(requests) == count
