"""F26: a backlog that is due at one moment."""

from __future__ import annotations

import time

import pytest

from tests.acceptance.conftest import RABBITMQ, REDIS

from .accounting import key_of
from .conftest import FAULTS, campaign

pytestmark = [*FAULTS, pytest.mark.campaign]
COUNT = 20_000
#: Two processes hold a batch or two each, and may stand still for seconds while the other goes on.
BATCHES = 1_000


@pytest.mark.timeout(500)
@pytest.mark.stacks(campaign(REDIS), campaign(RABBITMQ))
def test_f26_twenty_thousand_due_at_the_same_second(harness, receiver, account):
    harness.subscribe(receiver.url)
    for _ in range(4):
        harness.emit(COUNT // 4)
    harness.fan_out()
    harness.query("UPDATE django_webhooks_delivery SET due_at = date_trunc('second', now())")
    began = time.monotonic()
    harness.worker()
    harness.beat()
    account.clear()

    account.settle(extra=300)

    seconds = receiver.requests[-1].at - receiver.requests[0].at
    order = [key_of(one.body) for one in receiver.requests]
    ranks = {key: rank for rank, key in enumerate(sorted(order))}
    late = max(place - ranks[key] for place, key in enumerate(order))
    account.lines[-1] += f"; {COUNT / seconds:.0f} a second, out of order by {late} at the most"
    assert time.monotonic() - began < 400
    assert late <= BATCHES
