"""The stack: a PostgreSQL of its own, a broker behind a proxy, and a harness on both."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.acceptance.conftest import broker_url
from tests.acceptance.harness import Harness, PrivatePostgres, Proxy, free_port, until
from tests.services import SERVICES

#: Requests under way in one process, and what one that dies can repeat: those, and as many whose
#: results are just being recorded.
UNDER_WAY = 8
IN_FLIGHT = 2 * UNDER_WAY
LEASE = 6.0
SETTINGS = {
    "WEBHOOKS_LEASE_SECONDS": LEASE,
    "WEBHOOKS_TIMEOUT_SECONDS": 2.0,
    "django_webhooks.sending.worker.dispatch.DRAIN_SECONDS": 3.0,
    "WEBHOOKS_RETRY_CAP_SECONDS": 4.0,
    "WEBHOOKS_RETRY_ATTEMPTS": 1000,
    "WEBHOOKS_MAX_IN_FLIGHT": UNDER_WAY,
    "WEBHOOKS_MAX_IN_FLIGHT_PER_ENDPOINT": UNDER_WAY,
    "WEBHOOKS_HEALTH_HOLD_SECONDS": 1.0,
    "django_webhooks.policies.health.HOLD_CAP_FACTOR": 4,
    "WEBHOOKS_PROBE_INTERVAL_UNHEALTHY_SECONDS": 1.0,
}


class PrivateRedis:
    """A Redis that keeps nothing when it ends."""

    def __init__(self) -> None:
        self.port = free_port()
        self.start()

    def start(self) -> None:
        """Start it, empty."""
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        self.process = subprocess.Popen(
            [*command, "--appendonly", "no"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until(self._answers, "Redis did not start")

    def stop(self) -> None:
        """Kill it, and all that it knows."""
        self.process.kill()
        self.process.wait()

    def _answers(self) -> bool:
        import redis

        with contextlib.suppress(redis.ConnectionError), redis.Redis(port=self.port) as client:
            return bool(client.ping())
        return False


@dataclass
class Services:
    """What the processes stand on, and how it is broken."""

    harness: Harness
    postgres: PrivatePostgres
    proxy: Proxy
    redis: PrivateRedis | None
    #: The harness's own way to the broker, past the proxy.
    direct: Harness = field(kw_only=True)

    def lose_messages(self) -> None:
        """Lose every message in the broker."""
        if self.redis is not None:
            import redis

            with redis.Redis(port=self.redis.port) as client:
                client.flushall()
        else:
            self.direct.purge()

    def restart_postgres(self) -> None:
        """Restart the database at once, whatever it is doing."""
        self.postgres.stop()
        time.sleep(0.5)
        self.postgres.start()

    def drop_connections(self) -> None:
        """Terminate all connections to the database."""
        self.harness.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

    def keep_logs(self, folder: Path) -> None:
        """Copy the logs of all processes."""
        folder.mkdir(parents=True, exist_ok=True)
        for log in self.harness.folder.glob("*.log"):
            shutil.copy(log, folder)


@contextmanager
def running(folder: Path, *, broker: str) -> Iterator[Services]:
    """Start a stack in a folder, and remove it at the end."""
    stack_name = f"postgres+{broker}"
    own = PrivateRedis() if broker == "redis" and shutil.which("redis-server") else None
    service = SERVICES[broker]
    proxy = Proxy(service.host, own.port if own else service.port)
    postgres = PrivatePostgres()
    url = f"redis://127.0.0.1:{proxy.port}/0" if own else broker_url(stack_name, port=proxy.port)
    harness = Harness(folder, database=postgres.url, broker=url)
    harness.settings = dict(SETTINGS)
    direct = Harness(folder, database=postgres.url, broker=broker_url(stack_name))
    direct.queue = harness.queue
    if broker == "redis" and own is None:
        # Others have keys in that Redis too.
        harness.options = direct.options = {"global_keyprefix": f"{harness.queue}:"}
    try:
        harness.migrate()
        yield Services(harness=harness, postgres=postgres, proxy=proxy, redis=own, direct=direct)
    finally:
        harness.close()
        proxy.swallows = False
        proxy.refuse()
        if own:
            own.stop()
        else:
            with contextlib.suppress(AssertionError):
                direct.forget_queue()
        direct.close()
        postgres.close()
