"""What is done in the environment of a compared app: ``python -m benchmarks.peers.work prepare``.

``prepare URL`` makes the tables and a subscription, ``save COUNT`` saves orders and tells what that
took, ``version`` tells what is installed.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import threading
import time
from importlib import import_module, metadata
from typing import Any

from benchmarks.peers.project import app

TEXT = "x" * 940
#: Orders saved before times are taken.
WARM_UP = 5
#: Threads that an app which sends from threads may have at once: each holds a connection.
MAX_THREADS = 20


def prepare(url: str) -> dict[str, Any]:
    """Make the tables and subscribe a receiver."""
    from django.core.management import call_command

    call_command("migrate", run_syncdb=True, verbosity=0)
    _setup().subscribe(url)
    return version()


def save(count: int) -> dict[str, Any]:
    """Save orders, each beside a draft that nobody hears of; tell the time that this adds."""
    from benchmarks.peers.shop.models import Draft, Order

    added, began = [], time.monotonic()
    for _ in range(count):
        plain = _timed(lambda: Draft(text=TEXT).save())
        added.append(_timed(lambda: Order(text=TEXT).save()) - plain)
        while threading.active_count() > MAX_THREADS:
            time.sleep(0.001)
    seconds = time.monotonic() - began
    return {
        "saved": count,
        "seconds": seconds,
        "added_ms": statistics.median(added[WARM_UP:] or added) * 1000,
    }


def version() -> dict[str, Any]:
    """Tell the versions of what is compared and of what it runs on."""
    names = (_setup().distribution, "django", "celery")
    return {name: metadata.version(name) for name in names}


def _timed(call: Any) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _setup() -> Any:
    return import_module(f"benchmarks.peers.{os.environ['PEER']}").SETUP


def main() -> None:
    """Do what the command line says and print the result as JSON."""
    import django

    django.setup()
    app.finalize()
    match sys.argv[1:]:
        case ["prepare", url]:
            told = prepare(url)
        case ["save", count]:
            told = save(int(count))
        case _:
            told = version()
    print(json.dumps(told))


if __name__ == "__main__":
    main()
