"""A project that uses one of the compared apps: its database, its processes, what arrives."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from benchmarks import testbed
from benchmarks.peers.setup import Setup

#: Processes that send.
SENDERS = 2
#: Seconds for what saves or prepares, for all to arrive, and without any arrival before the end.
PATIENCE, LIMIT, SILENCE = 180, 240, 15


class Broken(Exception):
    """A process of the project failed; the message is the end of what it said."""


@dataclass(frozen=True, slots=True)
class Running:
    """A process, and the file that holds what it said."""

    process: subprocess.Popen[bytes]
    said: IO[str]

    def check(self) -> None:
        """Raise Broken where it has ended."""
        if self.process.poll() is not None:
            raise Broken(self._end_of_what_it_said())

    def told(self) -> dict[str, Any]:
        """Wait for its end and return the last line of JSON that it said."""
        try:
            code = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired as error:
            raise Broken(f"not done after {PATIENCE} s") from error
        lines = [line for line in self._lines() if line.startswith("{")]
        if code or not lines:
            raise Broken(self._end_of_what_it_said())
        told: dict[str, Any] = json.loads(lines[-1])
        return told

    def _end_of_what_it_said(self) -> str:
        lines = self._lines()
        return lines[-1] if lines else f"it ended with {self.process.returncode}"

    def _lines(self) -> list[str]:
        self.said.seek(0)
        return self.said.read().strip().splitlines()


class Project:
    """One run in a database and a queue of its own; a context manager."""

    def __init__(self, peer: str, setup: Setup, *, python: Path, is_kept: bool) -> None:
        from django.conf import settings

        self.setup, self.python = setup, python
        self.wanted = settings.DATABASES["default"]
        self.name = f"{self.wanted['NAME']}_peer"
        self.queue = f"peers-{os.getpid()}-{time.monotonic_ns()}"
        login = f"{self.wanted['USER']}:{self.wanted['PASSWORD']}".rstrip(":")
        where = f"{self.wanted['HOST']}:{self.wanted['PORT'] or 5432}"
        self.broker = settings.CELERY_BROKER_URL
        self.environment = os.environ | {
            "DJANGO_SETTINGS_MODULE": "benchmarks.peers.settings",
            "PEER": peer,
            "PEER_DATABASE_URL": f"postgres://{login}@{where}/{self.name}",
            "PEER_BROKER_URL": self.broker,
            "PEER_QUEUE": self.queue,
            "PEER_KEEP": "1" if is_kept else "0",
        }
        self._closing = ExitStack()

    def __enter__(self) -> Project:
        with testbed.server() as server:
            server.execute(f'DROP DATABASE IF EXISTS "{self.name}" WITH (FORCE)')
            server.execute(f'CREATE DATABASE "{self.name}"')
        self.url = self._closing.enter_context(testbed.receiver())
        return self

    def __exit__(self, *error: Any) -> None:
        self._closing.close()
        self._forget_queue()
        with testbed.server() as server:
            server.execute(f'DROP DATABASE IF EXISTS "{self.name}" WITH (FORCE)')

    def run(self, count: int) -> dict[str, Any]:
        """Save so many orders and let them arrive; return how fast they did."""
        versions = self._work("prepare", self.url)
        if self.setup.sender == "threads":
            # What saves them sends them.
            with self._process("-m", "benchmarks.peers.work", "save", str(count)) as saving:
                arrived = self._watch(count, [])
                saved = saving.told()
        else:
            saved = self._work("save", str(count))
            sessions = self._sessions()
            with self._senders() as senders:
                arrived = self._watch(count, senders)
            arrived["connections"] = (self._sessions() - sessions) / count
        return {"versions": versions, "added_ms": saved["added_ms"], **arrived}

    def _watch(self, count: int, senders: Sequence[Running]) -> dict[str, float]:
        """Wait for all to arrive; tell how fast they did, from the first to the last."""
        began = latest = time.monotonic()
        first, seen = None, 0
        while seen < count:
            now, arrived = time.monotonic(), self._arrived()
            if arrived > seen:
                first = first or (now, arrived)
                latest, seen = now, arrived
            # What sends takes a while to start.
            if now - began > LIMIT or now - latest > (SILENCE if seen else testbed.PATIENCE):
                break
            for one in senders:
                one.check()
            time.sleep(0.01)
        if first is None or latest == first[0]:
            raise Broken(f"{seen} of {count} arrived")
        per_second = (seen - first[1]) / (latest - first[0])
        return {"per_second": per_second, "lost": count - seen}

    def _arrived(self) -> int:
        with urllib.request.urlopen(self.url, timeout=5) as answer:
            return int(answer.read())

    def _work(self, *arguments: str) -> dict[str, Any]:
        with self._process("-m", "benchmarks.peers.work", *arguments) as process:
            return process.told()

    @contextmanager
    def _senders(self) -> Iterator[list[Running]]:
        worker = ["-m", "celery", "-A", "benchmarks.peers.project", "worker", "-l", "error"]
        worker += ["-c", str(SENDERS), "-Q", self.queue, "--without-mingle", "--without-gossip"]
        commands = [worker]
        if self.setup.sender == "relay":
            commands = [["-m", "django", *self.setup.relay]] * SENDERS
        with ExitStack() as stack:
            yield [stack.enter_context(self._process(*command)) for command in commands]

    @contextmanager
    def _process(self, *arguments: str) -> Iterator[Running]:
        command = [str(self.python), "-W", "ignore", *arguments]
        with tempfile.TemporaryFile("w+") as said:
            process = subprocess.Popen(
                command, env=self.environment, stdout=said, stderr=subprocess.STDOUT
            )
            try:
                yield Running(process, said)
            finally:
                process.terminate()
                try:
                    process.wait(testbed.PATIENCE)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def _sessions(self) -> int:
        """Return how many connections were ever made to the database of the project."""
        with testbed.server() as server:
            query = "SELECT sessions FROM pg_stat_database WHERE datname = %s"
            return int(server.execute(query, [self.name]).fetchone()[0])

    def _forget_queue(self) -> None:
        import redis

        with contextlib.closing(redis.Redis.from_url(self.broker)) as broker:
            keys = list(broker.scan_iter(f"*{self.queue}*"))
            if keys:
                broker.delete(*keys)
