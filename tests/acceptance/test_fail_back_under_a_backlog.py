"""An endpoint that is back is used again though every process of the worker sends."""

from __future__ import annotations

import pytest

from tests.receivers import Answer, Receiver
from tests.timing import stalls

from .harness import Proxy, until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(600), pytest.mark.broker_server]
HOLD, INTERVAL = 2.0, 1.0
#: Seconds that a busy machine may add; without the checks beside a run it took 36 s and more.
SPARE = 10.0


@pytest.mark.parametrize("waiting", [1500, pytest.param(5000, marks=pytest.mark.campaign)])
def test_the_primary_is_used_again_while_much_waits_at_a_slow_backup(harness, waiting):
    """One worker of two processes, which consumes all queues.

    The backup has 64 places, and answers as many in a second: all that waits would take it 23 s.
    """
    primary, backup = Receiver(), Receiver()
    backup.answers = [Answer(204, delay=1.0)]
    proxy = Proxy("127.0.0.1", primary.port)
    harness.settings = {
        "WEBHOOKS_HEALTH_HOLD_SECONDS": HOLD,
        "WEBHOOKS_PROBE_INTERVAL_UNHEALTHY_SECONDS": INTERVAL,
        "WEBHOOKS_RETRY_CAP_SECONDS": 2.0,
    }
    try:
        harness.subscribe_pair(f"http://127.0.0.1:{proxy.port}/hook", backup.url)
        proxy.refuse()
        harness.emit(waiting)
        with stalls() as late:
            harness.worker(concurrency=2)
            harness.beat()
            until(lambda: backup.requests, "nothing came to the backup")
            proxy.accept()

            until(lambda: primary.requests, "the primary was not used again")

        [[_, fell_at], [cause, back_at], *_] = until(
            lambda: len(found := harness.switches()) > 1 and found, "nothing was switched back"
        )
        assert cause == "failback"
        assert back_at - fell_at <= HOLD + 2 * INTERVAL + SPARE + late.total
        # As they arrived, and not as they are recorded: the primary takes the rest in no time.
        before = [one for one in backup.requests if one.at < primary.requests[0].at]
        assert len(before) < waiting * 3 / 4
    finally:
        proxy.refuse()
        primary.close()
        backup.close()
