"""Steady traffic under random faults, and an account of every committed event.

    python -m benchmarks.soak --minutes 5 --seed 1 [--broker redis|rabbitmq] [--rate 20] [--json]

Starts a PostgreSQL of its own (and a Redis, where there is a ``redis-server``), a site, two
workers, beat and receivers; breaks them one after the other as the seed says; ends all faults;
waits until nothing waits any more, ``--settle`` seconds at the most, since what is limited catches
up at its rate; and compares what was committed with what the receivers took. Ends with 1 where
anything is lost, stuck, or repeated more often than the faults allow. Several may run side by side.
The database, the folder and the queue are its own, and are removed.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.acceptance.harness import until

from . import faults, reconciliation
from .receivers import Receivers
from .services import running
from .supervisor import POOL, Supervisor
from .traffic import Traffic

#: Seconds in which the processes become what they will be, before they are measured.
WARM_UP = 8.0


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Run the soak and return its account."""
    with ExitStack() as resources:
        folder = Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
        stack = resources.enter_context(running(folder, broker=options.broker))
        receivers = resources.enter_context(Receivers(stack.harness))
        supervisor = resources.enter_context(Supervisor(stack))
        traffic = resources.enter_context(Traffic(stack.harness, rate=options.rate))
        until(lambda: len(supervisor.pool("witness")) == POOL, "the witness did not start")
        time.sleep(WARM_UP)
        before = supervisor.measure()
        runners = faults.runners(stack, supervisor, receivers, seed=options.seed, say=say(options))
        ends = time.monotonic() + 60 * options.minutes
        for runner in runners:
            runner.start(until=ends)
        for runner in runners:
            runner.join()
        traffic.end()
        supervisor.mend()
        receivers.mend()
        settled = reconciliation.wait(stack.harness, receivers, seconds=options.settle)
        found = reconciliation.balance(
            stack.harness, receivers, [one for runner in runners for one in runner.done]
        )
        found |= {
            "seed": options.seed,
            "broker": options.broker,
            "minutes": options.minutes,
            "settled_seconds": settled,
            "unanswered": traffic.unanswered,
            "workers": {"before": before, "after": supervisor.measure()},
        }
        if options.logs:
            stack.keep_logs(Path(options.logs))
        return found


def say(options: argparse.Namespace) -> Any:
    """Return what tells of each fault as it happens, on the error output."""
    began = time.monotonic()

    def tell(text: str) -> None:
        if not options.quiet:
            print(f"{time.monotonic() - began:7.1f} s  {text}", file=sys.stderr, flush=True)

    return tell


def main(argv: list[str] | None = None) -> int:
    """Run the soak, print its table or JSON, and return whether it failed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.soak", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--broker", choices=["redis", "rabbitmq"], default="redis")
    parser.add_argument("--rate", type=float, default=20.0, help="events a second")
    parser.add_argument("--settle", type=float, default=600.0, help="seconds to wait at the end")
    parser.add_argument("--logs", help="a folder to keep the processes' logs in")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quiet", action="store_true", help="do not tell of faults as they happen")
    options = parser.parse_args(argv)
    # Whoever ends it ends the servers and processes that it began.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    found = run(options)
    print(json.dumps(found) if options.json else reconciliation.table(found))
    return 0 if found["is_well"] else 1


if __name__ == "__main__":
    sys.exit(main())
