"""Runs scripts, each in a process of its own that begins where Django is set up.

Each line of the standard input is a request in JSON: the script, and the files for what it writes
to its standard output and its standard error. The answer is a line with its exit code.
"""

from __future__ import annotations

import gc
import json
import os
import sys

import django

django.setup()

from django.db import connections  # noqa: E402

import tests.acceptance.site.celery  # noqa: E402  # scripts begin with the app of Celery


def main() -> None:
    """Answer requests until there are no more."""
    # What is there is not looked through again by each of them.
    gc.freeze()
    for line in sys.stdin:
        if not (pid := os.fork()):
            _run(**json.loads(line))
            # The process ends as any other does.
            return
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _run(script: str, output: str, errors: str) -> None:
    for name, number in ((output, 1), (errors, 2)):
        target = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(target, number)
        os.close(target)
    exec(script, {"__name__": "__main__", "json": json, "django": django, "tests": tests})
    # SQLite puts what was written into its file when the last connection is closed.
    connections.close_all()


if __name__ == "__main__":
    print("ready.", flush=True)
    main()
