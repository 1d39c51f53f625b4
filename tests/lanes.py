"""Run all tests in lanes side by side, or those named: ``python -m tests.lanes [arguments]``.

The arguments are pytest's. Tests of real processes mostly wait, and those of one process mostly
reckon, so that two processors do both in the time of the longer lane. In a lane one run follows the
other: the same tests on each database. What a run says is printed in one piece when it has ended.
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

LANES = (
    [("sqlite", "tests/acceptance")],
    [
        ("sqlite", "tests/unit", "tests/integration"),
        ("postgres", "tests/integration"),
        ("mariadb", "tests/integration"),
    ],
)
#: pytest's word for a run in which nothing was chosen.
NOTHING_CHOSEN = 5
_printing = threading.Lock()


def main(*options: str) -> int:
    """Run the lanes, and return 1 where a run failed, or nothing was run at all."""
    if any(os.path.exists(one.partition("::")[0]) for one in options):
        return _run(os.environ.get("TEST_DATABASE", "sqlite"), options)
    with ThreadPoolExecutor(len(LANES)) as pool:
        ended = [one for lane in pool.map(lambda lane: _lane(lane, options), LANES) for one in lane]
    return int(set(ended) not in ({0}, {0, NOTHING_CHOSEN}))


def _lane(runs: Sequence[Sequence[str]], options: Sequence[str]) -> list[int]:
    return [_run(database, [*places, *options]) for database, *places in runs]


def _run(database: str, arguments: Sequence[str]) -> int:
    command = [sys.executable, "-m", "coverage", "run", "-m", "pytest", *arguments]
    began = time.monotonic()
    with tempfile.TemporaryFile() as output:
        ended = subprocess.run(
            command,
            env={**os.environ, "TEST_DATABASE": database},
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
