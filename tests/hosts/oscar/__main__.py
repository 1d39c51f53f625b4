"""Run django-oscar's own tests without webhooks, and with hooks on every model; compare.

``tox run -e hosts`` runs this. The tests are in no package of django-oscar's, so that they come
from its repository: a checkout named by OSCAR_CHECKOUT, or a clone of the version below. Whatever
fails with hooks and not without is run again by itself, both ways, because some of its tests fail
now and then; what fails again is told, and the exit status is 1.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

REPOSITORY, VERSION = "https://github.com/django-oscar/django-oscar", "4.2.1"
HERE = Path(__file__).resolve().parent
SETTINGS = {False: "tests.settings", True: "webhooks_campaign.settings"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one run of the tests came to."""

    passed: int
    failed: frozenset[str]
    seconds: float
    events: Counter[str]


def main(*arguments: str) -> int:
    """Run both ways and print the figures; arguments are pytest's, such as a folder of tests."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        checkout = _checkout(work)
        without = run(checkout, arguments, hooks=False, work=work)
        _say("without webhooks", without)
        hooked = run(checkout, arguments, hooks=True, work=work)
        _say("hooks on every model, one subscription to *", hooked)
        suspects = sorted(hooked.failed - without.failed)
        ours = _again(checkout, suspects, work=work) if suspects else frozenset()
    print(f"{len(suspects)} failed with hooks alone, {len(ours)} of them again by themselves.")
    for name in sorted(ours):
        print(f"  {name}")
    if not hooked.events:
        print("No event was recorded: the hooks were not there.")
    return int(bool(ours) or not hooked.events)


def run(checkout: Path, arguments: Iterable[str], *, hooks: bool, work: Path) -> Run:
    """Run tests of django-oscar in its own folder, in as many processes as there are processors."""
    report, counts = work / f"{time.monotonic_ns()}.xml", work / f"{time.monotonic_ns()}"
    counts.mkdir()
    plugin = ["-p", "webhooks_campaign.plugin"] if hooks else []
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "auto"]
    began = time.monotonic()
    ended = subprocess.run(
        [*command, *plugin, f"--junit-xml={report}", *arguments],
        cwd=checkout,
        env={
            "DATABASE_ENGINE": "django.db.backends.sqlite3",
            "DATABASE_NAME": ":memory:",
            **os.environ,
            "DJANGO_SETTINGS_MODULE": SETTINGS[hooks],
            "PYTHONPATH": os.pathsep.join(map(str, [checkout, checkout / "src", HERE])),
            "WEBHOOKS_CAMPAIGN_COUNTS": str(counts),
        },
        capture_output=True,
        text=True,
    )
    if ended.returncode not in (0, 1):
        sys.exit(f"pytest did not run:\n{ended.stdout[-4000:]}\n{ended.stderr[-4000:]}")
    passed, failed = _outcomes(report)
    return Run(
        passed=passed,
        failed=failed,
        seconds=time.monotonic() - began,
        events=_events(counts.iterdir()),
    )


def _again(checkout: Path, suspects: Collection[str], *, work: Path) -> frozenset[str]:
    """Return those that fail with hooks again, and pass again without."""
    files = sorted({name.partition("::")[0] for name in suspects})
    hooked = run(checkout, files, hooks=True, work=work)
    without = run(checkout, files, hooks=False, work=work)
    return (hooked.failed - without.failed) & frozenset(suspects)


def _outcomes(report: Path) -> tuple[int, frozenset[str]]:
    passed, failed = 0, set()
    for case in ElementTree.parse(report).iter("testcase"):
        if any(case.find(kind) is not None for kind in ("failure", "error")):
            failed.add(_name(case.get("classname", ""), case.get("name", "")))
        elif case.find("skipped") is None:
            passed += 1
    return passed, frozenset(failed)


def _name(place: str, name: str) -> str:
    """Return a test as pytest is asked for it: modules are in lower case, classes are not."""
    parts = place.split(".")
    modules = [part for part in parts if not part[:1].isupper()]
    return "::".join(["/".join(modules) + ".py", *parts[len(modules) :], name])


def _events(files: Iterable[Path]) -> Counter[str]:
    found: Counter[str] = Counter()
    for file in files:
        for line in file.read_text().splitlines():
            count, _, name = line.partition(" ")
            found[name] += int(count)
    return found


def _checkout(work: Path) -> Path:
    named = os.environ.get("OSCAR_CHECKOUT")
    if named:
        checkout = Path(named).resolve()
    else:
        checkout = work / "django-oscar"
        command = ["git", "clone", "-q", "--depth", "1", "--branch", VERSION, REPOSITORY]
        if subprocess.run([*command, str(checkout)]).returncode:
            sys.exit(f"Set OSCAR_CHECKOUT to a checkout of {REPOSITORY}: it cannot be cloned here.")
    if not (checkout / "tests" / "settings.py").exists():
        sys.exit(f"{checkout} is no checkout of django-oscar with its tests.")
    return checkout


def _say(what: str, run: Run) -> None:
    figures = f"{run.passed} passed, {len(run.failed)} failed in {run.seconds:.0f} s"
    if run.events:
        figures += f"; {run.events.total():,} events of {len(run.events)} types"
    print(f"{what}: {figures}", flush=True)
    for name in sorted(run.failed):
        print(f"  {name}", flush=True)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
