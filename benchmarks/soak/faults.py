"""Faults, drawn from a seed: one runner breaks what is ours, the other what is the receivers'."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from .receivers import Receivers, breaking
from .services import IN_FLIGHT, LEASE, Services
from .supervisor import POOL, Supervisor

Fault = Callable[[random.Random], int]


@dataclass(frozen=True, kw_only=True)
class Done:
    """A fault that was, and how many requests it may have repeated."""

    name: str
    repeats: int


class FaultRunner:
    """Breaks one thing after the other."""

    def __init__(self, faults: dict[str, Fault], *, seed: str, say: Callable[[str], None]) -> None:
        self._faults, self._random, self._say = faults, random.Random(seed), say
        self.done: list[Done] = []
        self._error: Exception | None = None

    def start(self, *, until: float) -> None:
        """Begin, and begin no further fault after a moment."""
        self._thread = threading.Thread(target=self._run, args=(until,), daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Wait for the end of the last fault; raise what went wrong in breaking."""
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self, until: float) -> None:
        # Each kind comes before any comes twice.
        waiting: list[str] = []
        try:
            while time.monotonic() < until:
                if not waiting:
                    waiting = self._random.sample(list(self._faults), len(self._faults))
                name = waiting.pop()
                self._say(name)
                self.done.append(Done(name=name, repeats=self._faults[name](self._random)))
                time.sleep(self._random.uniform(0.5, 2.5))
        except Exception as error:
            self._error = error


def runners(
    stack: Services,
    supervisor: Supervisor,
    receivers: Receivers,
    *,
    seed: int,
    say: Callable[[str], None],
) -> list[FaultRunner]:
    """Return the two runners."""
    ours = {
        **_of_workers(supervisor),
        **_of_broker(stack),
        **_of_database(stack, supervisor),
        **_of_site(stack, supervisor),
    }
    return [
        FaultRunner(ours, seed=f"ours {seed}", say=say),
        FaultRunner(_of_receivers(supervisor, receivers), seed=f"theirs {seed}", say=say),
    ]


def _of_workers(supervisor: Supervisor) -> dict[str, Fault]:
    def killed(drawn: random.Random) -> int:
        supervisor.signal("worker", signal.SIGKILL)
        return POOL * IN_FLIGHT

    def child_killed(drawn: random.Random) -> int:
        pool = supervisor.pool("worker")
        if not pool:
            return 0
        try:
            os.kill(drawn.choice(pool), signal.SIGKILL)
        except ProcessLookupError:
            return 0
        return IN_FLIGHT

    def asked_to_end(drawn: random.Random) -> int:
        supervisor.signal("worker", signal.SIGTERM)
        return 0

    def asked_twice(drawn: random.Random) -> int:
        supervisor.signal("worker", signal.SIGTERM)
        time.sleep(drawn.uniform(0.1, 1.0))
        supervisor.signal("worker", signal.SIGTERM)
        return POOL * IN_FLIGHT

    def paused(drawn: random.Random) -> int:
        supervisor.signal("worker", signal.SIGSTOP)
        time.sleep(LEASE + drawn.uniform(0.5, 3.0))
        supervisor.signal("worker", signal.SIGCONT)
        return POOL * IN_FLIGHT

    return {
        "a worker is killed": killed,
        "a process of a pool is killed": child_killed,
        "a worker is asked to end": asked_to_end,
        "a worker is asked to end twice": asked_twice,
        "a worker is paused beyond its lease": paused,
    }


def _of_broker(stack: Services) -> dict[str, Fault]:
    def refuses(drawn: random.Random) -> int:
        stack.proxy.refuse()
        time.sleep(drawn.uniform(1, 6))
        stack.proxy.accept()
        return 0

    def swallows(drawn: random.Random) -> int:
        stack.proxy.swallows = True
        time.sleep(drawn.uniform(1, 6))
        stack.proxy.swallows = False
        return 0

    def cut(drawn: random.Random) -> int:
        stack.proxy.cut()
        return 0

    def forgets(drawn: random.Random) -> int:
        stack.lose_messages()
        return 0

    found: dict[str, Fault] = {
        "the broker refuses": refuses,
        "the broker swallows everything": swallows,
        "connections to the broker are cut": cut,
        "all messages are lost": forgets,
    }
    if stack.redis is not None:
        server = stack.redis

        def restarted(drawn: random.Random) -> int:
            server.stop()
            time.sleep(drawn.uniform(0.5, 3))
            server.start()
            return 0

        found["the broker is killed and comes back empty"] = restarted
    return found


def _of_database(stack: Services, supervisor: Supervisor) -> dict[str, Fault]:
    def dropped(drawn: random.Random) -> int:
        stack.drop_connections()
        return supervisor.processes * IN_FLIGHT

    def restarted(drawn: random.Random) -> int:
        stack.restart_postgres()
        return supervisor.processes * IN_FLIGHT

    return {
        "connections to the database are dropped": dropped,
        "the database is restarted": restarted,
    }


def _of_site(stack: Services, supervisor: Supervisor) -> dict[str, Fault]:
    def dies_after_commit(drawn: random.Random) -> int:
        stack.harness.ask("key-killed", "killed after commit")
        return 0

    def beat_is_dead(drawn: random.Random) -> int:
        supervisor.absent("beat", is_absent=True)
        supervisor.signal("beat", signal.SIGKILL)
        time.sleep(drawn.uniform(3, 10))
        supervisor.absent("beat", is_absent=False)
        return 0

    def two_beats(drawn: random.Random) -> int:
        second = supervisor.double("beat")
        time.sleep(drawn.uniform(3, 8))
        stack.harness.stop(second, signal.SIGKILL)
        return 0

    return {
        "the site is killed between commit and message": dies_after_commit,
        "beat is dead": beat_is_dead,
        "there are two beats": two_beats,
    }


def _of_receivers(supervisor: Supervisor, receivers: Receivers) -> dict[str, Fault]:
    def fault(endpoint_name: str, way: str) -> Fault:
        def broken(drawn: random.Random) -> int:
            endpoint = next(one for one in receivers.all_endpoints if one.name == endpoint_name)
            begin, repeats = breaking(endpoint, processes=supervisor.processes)[way]
            before = len(endpoint.receiver.requests)
            begin()
            time.sleep(drawn.uniform(2, 7))
            if way == "dies":
                endpoint.proxy.accept()
            endpoint.mend()
            given = [one.answer for one in endpoint.receiver.requests[before:]]
            # Each of them was taken, and its sender does not know.
            return repeats + sum(one.is_cut or bool(one.drip) for one in given)

        return broken

    return {
        f"{endpoint.name} {way}": fault(endpoint.name, way)
        for endpoint in receivers.all_endpoints
        for way in breaking(endpoint, processes=supervisor.processes)
    }
