"""Run pytest on another database, with coverage: ``python -m tests.on postgres …``."""

from __future__ import annotations

import os
import subprocess
import sys


def main(database: str, *arguments: str) -> int:
    """Run the tests on the database; tests that name another one are left out."""
    command = [sys.executable, "-m", "coverage", "run", "-m", "pytest", *arguments]
    return subprocess.call(command, env={**os.environ, "TEST_DATABASE": database})


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
