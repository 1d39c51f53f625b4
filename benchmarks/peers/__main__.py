"""Deliveries per second beside the alternatives of Django, in one run on one machine.

    python -m benchmarks.peers [--deliveries 600] [--own 5000] [--runs 1] [--only NAMES] [--json]

Each app is installed in an environment of its own, which is kept in ``--folder``, and set up as its
documentation says: orders of 1 KiB are saved, two processes send them to one receiver. Counted is
what arrives in a second, from the first arrival to the last; once as documented, and once with the
connections to the database kept, which Celery closes after each task otherwise. ``--pythons`` holds
paths of further Pythons, for an app that this one is too old for. What cannot be installed or run
is told with its reason. The exit status is 1 where ours is less than ten times the best of them.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks import testbed
from benchmarks.peers.environments import NotInstalled, python_of
from benchmarks.peers.running import Broken, Project

PEERS = (
    "django_webhook2",
    "django_webhook",
    "django_model_webhooks",
    "django_webhook_subscriber",
    "django_outbound_webhooks",
    "django_signal_webhooks",
)
OURS = "ours"
TARGET = 10
FOLDER = Path.home() / ".cache" / "django-webhooks-benchmarks"
HEADS = ["", "as documented", "kept", "ours / it", "ms added to save()", "lost", ""]


def measure(peer: str, options: Any) -> dict[str, Any]:
    """Run one of them both ways and return what that brought, or why it did not run."""
    setup = import_module(f"benchmarks.peers.{peer}").SETUP
    found: dict[str, Any] = {"name": setup.distribution}
    count = options.own if peer == OURS else options.deliveries
    try:
        python = Path(sys.executable)
        if peer != OURS:
            folder = Path(options.folder)
            python = python_of(setup.distribution, folder=folder, pythons=options.pythons)
        ways = {"documented": False} | ({"kept": True} if setup.sender == "worker" else {})
        for way, is_kept in ways.items():
            runs = []
            for _ in range(options.runs):
                testbed.note(f"{setup.distribution}, {way}")
                with Project(peer, setup, python=python, is_kept=is_kept) as project:
                    runs.append(project.run(count))
            found["versions"] = runs[0]["versions"]
            found[way] = _medians(runs)
    except (NotInstalled, Broken, subprocess.SubprocessError) as error:
        found["why"] = str(error)[-300:]
    return found


def _medians(runs: list[dict[str, Any]]) -> dict[str, float]:
    names = [name for name in runs[0] if name != "versions"]
    return {name: round(statistics.median(run[name] for run in runs), 3) for name in names}


def best_way(found: dict[str, Any]) -> float:
    """Return the deliveries a second of the faster way; 0 where it did not run."""
    ways = [found[way]["per_second"] for way in ("documented", "kept") if way in found]
    return max(ways, default=0.0)


def row(found: dict[str, Any], own: float) -> list[str]:
    """Return the cells of one of them."""

    def shown(way: str, name: str, form: str) -> str:
        return format(found[way][name], form) if way in found else "-"

    best = best_way(found)
    lost = sum(found[way]["lost"] for way in ("documented", "kept") if way in found)
    return [
        f"{found['name']} {found.get('versions', {}).get(found['name'], '')}",
        shown("documented", "per_second", ".0f"),
        shown("kept", "per_second", ".0f"),
        f"{own / best:.1f}" if best else "-",
        shown("documented", "added_ms", ".2f"),
        f"{lost:.0f}",
        found.get("why", ""),
    ]


def main() -> dict[str, Any]:
    """Run the benchmark and print its table or JSON."""
    # What was begun is ended with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options = testbed.options(
        __doc__, deliveries=600, own=5000, runs=1, folder=str(FOLDER), pythons="", only=""
    )
    chosen = [one for one in options.only.split(",") if one] or list(PEERS)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.settings")
    found = [measure(peer, options) for peer in [*chosen, OURS]]
    *others, own = found
    best = max((best_way(one) for one in others), default=0.0)
    # Compared as it is: 9.96 is not ten times.
    ratio = best_way(own) / best if best else 0.0
    result = {"peers": found, "best_other": best, "ours": best_way(own), "ratio": round(ratio, 2)}
    rows = [row(one, best_way(own)) for one in found]
    testbed.tell(result, rows, heads=HEADS, as_json=options.json)
    if not options.json:
        print(f"ours is {ratio:.2f} times the best of them with its connections kept, of {TARGET}")
    if ratio < TARGET:
        sys.exit(1)
    return result


if __name__ == "__main__":
    main()
