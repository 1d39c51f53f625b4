"""One queue, full of the messages of a backlog: what beat asks for waits behind them."""

from __future__ import annotations

import pytest

from tests.receivers import Answer, Receiver

from .conftest import REDIS
from .harness import Harness, Proxy, until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(600)]
#: Each names a delivery of a receiver that takes ten minutes for all, in runs of one request.
MESSAGES = 1200


def enqueue(harness: Harness) -> None:
    """Name each delivery that waits in a message of its own."""
    harness.python(
        "from django_webhooks.models import Delivery\nfrom django_webhooks.tasks import deliver\n"
        "for key in Delivery.objects.waiting().values_list('pk', flat=True):\n"
        "    deliver.apply_async(([str(key)],))"
    )


def length(harness: Harness) -> int:
    """Return how many messages wait in the broker."""
    found: int = harness.python(
        "app = tests.acceptance.site.celery.app\n"
        "with app.connection_for_read() as connection:\n"
        "    queue = connection.default_channel.queue_declare(\n"
        "        app.conf.task_default_queue, passive=True)\n"
        "print(queue.message_count)"
    )
    return found


def has_done_rounds(harness: Harness) -> bool:
    """Say whether beat's tasks ran; who never did is not stood in for."""
    rows = harness.query("SELECT name FROM django_webhooks_heartbeat")
    return {("sweep",), ("check_health",)} <= set(rows)


def state_of_primary(harness: Harness) -> str:
    """Return the health of the primary of the pair."""
    found: str = harness.python(
        "from django_webhooks.models import EndpointHealth\n"
        "health = EndpointHealth.objects.get(subscription__name='pair', endpoint__position=0)\n"
        "print(json.dumps(health.state))"
    )
    return found


@pytest.mark.stacks(REDIS)
def test_endpoints_are_checked_while_the_queue_is_full_of_long_runs(harness, receiver):
    """A primary that is back is found out, though no message of beat is reached."""
    receiver.answers = [Answer(204, delay=0.5)]
    primary, backup = Receiver(), Receiver()
    proxy = Proxy("127.0.0.1", primary.port)
    harness.settings = {
        "WEBHOOKS_HEALTH_FALL": 1,
        "WEBHOOKS_HEALTH_RISE": 1,
        "WEBHOOKS_HEALTH_HOLD_SECONDS": 1.0,
        "WEBHOOKS_PROBE_INTERVAL_UNHEALTHY_SECONDS": 0.5,
        # All tasks go to the default queue.
        "CELERY_TASK_ROUTES": {},
    }
    try:
        harness.subscribe_pair(f"http://127.0.0.1:{proxy.port}/hook", backup.url)
        proxy.refuse()
        harness.emit(1)
        worker = harness.worker(concurrency=1)
        beat = harness.beat()
        until(lambda: backup.requests, "nothing came to the backup")
        until(lambda: has_done_rounds(harness), "beat was not heard")
        # The rest is what this process finds in the queue when it starts.
        for child in (worker, beat):
            harness.stop(child)
        harness.python(
            "from django_webhooks.models import *\ns = Subscription.objects.get()\n"
            "s.name, s.event_types = 'pair', ['other.*']\ns.save()"
        )
        harness.subscribe(receiver.url)
        harness.emit(MESSAGES)
        harness.fan_out()
        harness.purge()
        enqueue(harness)
        proxy.accept()
        harness.worker(concurrency=1)
        harness.beat()

        until(lambda: state_of_primary(harness) == "trial", "the primary was not checked")

        assert length(harness) > MESSAGES * 0.9
        assert "waiting" in harness.statuses()
    finally:
        proxy.refuse()
        primary.close()
        backup.close()
