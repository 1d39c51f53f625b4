"""The stand of the benchmarks: database, broker, worker, receiver, and how results are told.

Everything runs on loopback, is bounded in time, and stops by itself. Needs PostgreSQL and Redis on
this machine; ``BENCHMARK_DATABASE_URL`` and ``BENCHMARK_BROKER_URL`` name others.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any, NamedTuple
from urllib.request import urlopen

import psutil

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.settings")

#: An event of 1 KiB with its envelope.
PAYLOAD = {"id": 1, "text": "x" * 940}
#: The queues that all tasks of the benchmarks go to.
QUEUES = ("webhooks", "webhooks-periodic")
#: Seconds that a process may take to start or to end.
PATIENCE = 60


def options(document: str | None, **defaults: int | str) -> argparse.Namespace:
    """Parse the command line: an option for each name, a flag where it is False, ``--json``."""
    parser = argparse.ArgumentParser(description=(document or "").split("\n")[0])
    for name, default in defaults.items():
        option = f"--{name.replace('_', '-')}"
        if default is False:
            parser.add_argument(option, action="store_true")
        else:
            parser.add_argument(option, type=type(default), default=default)
    parser.add_argument("--json", action="store_true", help="print JSON in place of a table")
    return parser.parse_args()


def prepare() -> None:
    """Create the database where it is missing, or of another release, and migrate it."""
    import django
    from django.conf import settings
    from django.core.management import call_command

    from benchmarks.project import app

    app.set_default()
    django.setup()
    wanted = settings.DATABASES["default"]
    if "postgresql" not in wanted["ENGINE"]:
        _create_elsewhere(wanted)
        call_command("migrate", run_syncdb=True, verbosity=0)
        return
    with server() as connection:
        known = connection.execute(
            "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s",
            [wanted["NAME"]],
        ).fetchone()
        if known != (first_migration(),):
            # Only what a benchmark made is dropped: anything else has no such comment.
            if known is not None and known[0] is not None:
                connection.execute(f'DROP DATABASE "{wanted["NAME"]}" WITH (FORCE)')
            if known is None or known[0] is not None:
                connection.execute(f'CREATE DATABASE "{wanted["NAME"]}"')
                sign(connection, wanted["NAME"])
    call_command("migrate", run_syncdb=True, verbosity=0)


def _create_elsewhere(wanted: Mapping[str, Any]) -> None:
    """Create an empty database of MariaDB or SQLite, whose name says that it is a benchmark's."""
    name = wanted["NAME"]
    if "benchmark" not in str(name):
        raise SystemExit("Name a database of its own, with 'benchmark' in its name: it is emptied.")
    if "sqlite" in wanted["ENGINE"]:
        for suffix in ("", "-wal", "-shm"):
            Path(f"{name}{suffix}").unlink(missing_ok=True)
        return
    import MySQLdb

    server = MySQLdb.connect(
        host=wanted["HOST"], port=int(wanted["PORT"] or 3306), user=wanted["USER"],
        password=wanted["PASSWORD"],
    )  # fmt: skip
    with server, server.cursor() as cursor:
        cursor.execute(f"DROP DATABASE IF EXISTS `{name}`")
        cursor.execute(f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4")


def first_migration() -> str:
    """Return a digest of the first migration, which changes until it is released."""
    from django_webhooks import migrations

    paths = sorted(Path(migrations.__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()


def sign(connection: Any, database: str) -> None:
    """Note by which migration a database is made."""
    connection.execute(f"COMMENT ON DATABASE \"{database}\" IS '{first_migration()}'")


@contextmanager
def server() -> Iterator[Any]:
    """Yield a connection to the database server itself."""
    import psycopg
    from django.conf import settings

    wanted = settings.DATABASES["default"]
    with psycopg.connect(
        host=wanted["HOST"],
        port=wanted["PORT"] or 5432,
        user=wanted["USER"],
        password=wanted["PASSWORD"],
        dbname="postgres",
        autocommit=True,
    ) as connection:
        yield connection


def clear() -> None:
    """Empty the tables of the app, and the queue."""
    from django.apps import apps
    from django.core.management.color import no_style
    from django.db import connection

    from benchmarks.project import app

    tables = [
        model._meta.db_table
        for name in ("django_webhooks", "benchmarks")
        if apps.is_installed(name)
        for model in apps.get_app_config(name).get_models()
    ]
    connection.ops.execute_sql_flush(
        connection.ops.sql_flush(no_style(), tables, reset_sequences=True, allow_cascade=True)
    )
    with app.connection_for_write() as broker:
        # By name: what the workers here are told to take from is not the default queue.
        queues = [app.amqp.queues[name] for name in QUEUES]
        app.amqp.TaskConsumer(broker, queues=queues).purge()


def subscribe(url: str, *, name: str = "benchmark", **fields: Any) -> Any:
    """Subscribe a receiver to everything, and return the subscription."""
    from django_webhooks.models import Endpoint, Subscription

    subscription = Subscription.objects.create(name=name, **{"event_types": ["*"], **fields})
    Endpoint.objects.create(subscription=subscription, url=url)
    return subscription


def backlog(deliveries: int, *, types: Sequence[str] = ("order.paid",)) -> int:
    """Record events of 1 KiB without telling a worker; return how many deliveries there are.

    Events of several types take turns.
    """
    from django_webhooks.models import Delivery
    from django_webhooks.sending import recording
    from django_webhooks.sending.fan_out import fan_out

    own = [recording.Draft(event_type=one, data=PAYLOAD) for one in types]
    some = list(islice(cycle(own), 500))
    for _ in range(deliveries // len(some)):
        recording.record(some, using="default")
        fan_out.make_all(using="default")
    return Delivery.objects.count()


@contextmanager
def receiver(*arguments: str) -> Iterator[str]:
    """Run a receiver of its own and yield its URL; see :mod:`benchmarks.receiver`."""
    with receivers(*arguments) as urls:
        yield urls[0]


@contextmanager
def receivers(*arguments: str) -> Iterator[list[str]]:
    """Run a receiver with several ports and yield their URLs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.receiver", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        ports = process.stdout.readline().split()
        yield [f"http://127.0.0.1:{int(port)}/hook" for port in ports]
    finally:
        process.stdin.close()
        process.wait(10)


@dataclass(frozen=True)
class Receiving:
    """A receiver under way that logs what arrives; see :mod:`benchmarks.receiver`."""

    urls: Sequence[str]
    _process: subprocess.Popen[str]
    _log: Path

    def answer(self, manner: str) -> None:
        """Answer so from now on."""
        assert self._process.stdin
        self._process.stdin.write(f"{manner}\n")
        self._process.stdin.flush()

    def arrivals(self) -> list[Arrival]:
        """Return what has arrived so far, in order."""
        lines = self._log.read_text(encoding="utf-8").splitlines(keepends=True)
        whole = [line.split() for line in lines if line.endswith("\n")]
        return [Arrival(float(at), key, int(port), int(open_)) for at, key, port, open_ in whole]

    def first_moments(self) -> dict[str, float]:
        """Return when each message id arrived first."""
        moments: dict[str, float] = {}
        for one in self.arrivals():
            moments.setdefault(one.key, one.at)
        return moments


class Arrival(NamedTuple):
    """A request: its moment, its message id, the number of its port, and how many were open."""

    at: float
    key: str
    port: int
    open: int


@contextmanager
def logging_receiver(*, ports: int = 1, manner: str = "ok") -> Iterator[Receiving]:
    """Run a receiver that logs what arrives."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "arrivals")
        command = [sys.executable, "-m", "benchmarks.receiver", "--log", str(log)]
        command += ["--ports", str(ports), "--manner", manner]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdin
        assert process.stdout
        try:
            found = process.stdout.readline().split()
            urls = [f"http://127.0.0.1:{int(port)}/hook" for port in found]
            yield Receiving(urls, process, log)
        finally:
            process.stdin.close()
            process.wait(10)


@contextmanager
def beat() -> Iterator[None]:
    """Run beat with the schedule of this app."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "celery", "-A", "benchmarks.project", "beat", "-l"]
        command += ["error", "-s", str(Path(folder, "schedule")), "--pidfile="]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE)


def arrived(url: str) -> int:
    """Return how many requests the receiver has answered so far."""
    with urlopen(url, timeout=PATIENCE) as answer:
        return int(answer.read())


@contextmanager
def worker(*, concurrency: int, queues: Sequence[str] = QUEUES) -> Iterator[psutil.Process]:
    """Run a Celery worker, ready, and stop it."""
    command = [sys.executable, "-m", "celery", "-A", "benchmarks.project", "worker"]
    command += ["-c", str(concurrency), "-Q", ",".join(queues), "-l", "error", "--without-mingle"]
    process = subprocess.Popen([*command, "--without-gossip"], stdout=subprocess.DEVNULL)
    try:
        _wait_for_worker()
        yield psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)


def _wait_for_worker() -> None:
    from benchmarks.project import app

    ends = time.monotonic() + PATIENCE
    while not app.control.ping(timeout=0.5):
        if time.monotonic() > ends:
            raise SystemExit("The worker did not start.")


class Clock:
    """The processor time of processes from now on; what begins later counts from its beginning."""

    def __init__(self, find: Callable[[], Iterable[psutil.Process]]) -> None:
        self._find = find
        self._before = self._read()
        self._latest = dict(self._before)

    def seconds(self) -> float:
        """Return the seconds so far. What has ended counts as far as it was last read."""
        self._latest |= self._read()
        return sum(spent - self._before.get(pid, 0.0) for pid, spent in self._latest.items())

    def _read(self) -> dict[int, float]:
        found = {}
        for process in self._find():
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                found[process.pid] = times.user + times.system
        return found


def family(process: psutil.Process) -> list[psutil.Process]:
    """Return a process and all that descend from it."""
    return [process, *process.children(recursive=True)]


def servers_of_postgres() -> list[psutil.Process]:
    """Return the processes of PostgreSQL on this machine."""
    return [one for one in psutil.process_iter(["name"]) if one.info["name"] == "postgres"]


def resident_mib(processes: Sequence[psutil.Process]) -> float:
    """Return the memory that these hold alone, in MiB."""
    held = 0
    for process in processes:
        try:
            held += process.memory_full_info().uss
        except psutil.NoSuchProcess:
            continue
    return float(held) / 2**20


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that this share of them does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def machine() -> str:
    """Describe the machine in a line."""
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{psutil.cpu_count()} cores, {memory:.0f} GiB, {platform.system()}, "
        f"Python {platform.python_version()}"
    )


def note(text: str) -> None:
    """Say how far it is, beside the result."""
    print(text, file=sys.stderr, flush=True)


def tell(
    result: Mapping[str, Any], rows: Sequence[Sequence[Any]], *, heads: Sequence[str], as_json: bool
) -> None:
    """Print a table, or the result as JSON."""
    if as_json:
        print(json.dumps({"machine": machine(), **result}))
        return
    cells = [[str(cell) for cell in row] for row in [heads, *rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(heads))]
    for row in cells:
        first, *others = zip(row, widths, strict=True)
        print(first[0].ljust(first[1]), *(text.rjust(width) for text, width in others), sep="  ")
    print(machine())
