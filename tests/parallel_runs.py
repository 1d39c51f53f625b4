"""Run all tests, four runs at a time, or those named: ``python -m tests.parallel_runs
[arguments]``.

The arguments are pytest's. Tests of real processes mostly wait, and those of one process mostly
reckon, so that two processors do three runs of those and one of these at once. What a run says is
printed in one piece when it has ended, with the tests that took longest. A database that is not
there is left out and said so; with WEBHOOKS_REQUIRE_SERVICES that is a failure.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from .services import DATABASE_NAME, REQUIRED, SERVICES

#: Of all tests these are not measured: coverage slows down each process that they start, for lines
#: that the others reach as well.
ACCEPTANCE = "tests/acceptance"
FAULTS = f"{ACCEPTANCE}/faults"
#: A project of its own, in a process of its own.
HOSTS = "--ds=tests.hosts.settings"
#: Cases of a parametrized test which the second and the third database get; the first gets all.
SOME = "--cases=8"
#: A database and what is run on it; first what waits, beside the longest of what reckons.
RUNS = (
    ("sqlite", FAULTS),
    ("sqlite", ACCEPTANCE, f"--ignore={FAULTS}", "--ignore-glob=*/acceptance/test_[m-z]*"),
    ("sqlite", ACCEPTANCE, f"--ignore={FAULTS}", "--ignore-glob=*/acceptance/test_[!m-z]*"),
    # In two parts, as on MariaDB, so that there is work for each to the end.
    ("sqlite", "tests/integration/sending"),
    ("sqlite", HOSTS, "tests/hosts"),
    ("postgres", HOSTS, "tests/hosts"),
    ("sqlite", "tests/unit", "tests/integration", "--ignore=tests/integration/sending"),
    ("postgres", "tests/integration", SOME),
    ("mariadb", "tests/integration/sending", SOME),
    ("mariadb", "tests/integration", SOME, "--ignore=tests/integration/sending"),
)
AT_ONCE = 4
#: pytest's word for a run in which nothing was chosen.
NOTHING_CHOSEN = 5
_printing = threading.Lock()


def main(*arguments: str) -> int:
    """Run the tests, and return 1 where a run failed, or nothing was run at all."""
    if any(one.startswith("tests/") for one in arguments):
        return _run(os.environ.get("TEST_DATABASE", "sqlite"), arguments)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        ended = set(
            pool.map(
                lambda run, number: _run(
                    run[0],
                    [*run[1:], "--durations=10", *arguments],
                    is_measured=not run[1].startswith(ACCEPTANCE),
                    number=number,
                ),
                RUNS,
                range(len(RUNS)),
            )
        )
    return int(ended not in ({0}, {0, NOTHING_CHOSEN}))


def _run(
    database: str, arguments: Sequence[str], *, is_measured: bool = True, number: int = 0
) -> int:
    if database in SERVICES and (reason := SERVICES[database].missing()):
        # Before Django looks for its driver.
        with _printing:
            print(f"\n--- {' '.join(arguments)} is not run on {reason}", flush=True)
        return int(REQUIRED)
    measure = ("-m", "coverage", "run") if is_measured else ()
    command = [sys.executable, *measure, "-m", "pytest", *arguments]
    began = time.monotonic()
    with tempfile.TemporaryFile() as output:
        ended = subprocess.run(
            command,
            env={
                **os.environ,
                "TEST_DATABASE": database,
                "TEST_DATABASE_NAME": f"{DATABASE_NAME}_{number}",
            },
            stdout=output,
            stderr=subprocess.STDOUT,
        ).returncode
        output.seek(0)
        with _printing:
            print(f"\n--- {' '.join(arguments)} on {database}: {time.monotonic() - began:.0f} s")
            sys.stdout.flush()
            sys.stdout.buffer.write(output.read())
            sys.stdout.flush()
    return ended


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
