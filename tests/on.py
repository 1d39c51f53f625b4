"""Run pytest on other databases at once: ``python -m tests.on postgres,mariadb …``."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from typing import IO


def main(databases: str, *arguments: str) -> int:
    """Run the tests on each database, print what they say one after the other, and add up."""
    command = [sys.executable, "-m", "coverage", "run", "-m", "pytest", *arguments]
    running: list[tuple[subprocess.Popen[bytes], IO[bytes]]] = []
    failed = 0
    with ExitStack() as files:
        for database in databases.split(","):
            output = files.enter_context(tempfile.TemporaryFile())
            child = subprocess.Popen(
                command,
                env={**os.environ, "TEST_DATABASE": database},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            running.append((child, output))
        for child, output in running:
            failed |= child.wait()
            output.seek(0)
            sys.stdout.buffer.write(output.read())
            sys.stdout.flush()
    return failed


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
