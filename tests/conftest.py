"""What every test has: services that are there or said to be missing, no leftovers in memory."""

from __future__ import annotations

import os
from collections.abc import Iterator

import hypothesis
import pytest

from . import fast_flush
from .services import REQUIRED, SERVICES

# Seconds tell of a busy machine: an example that hangs is ended by pytest's own time-out.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

DATABASE = os.environ.get("TEST_DATABASE", "sqlite")
_missing: dict[str, str] = {}


def _why_missing(name: str) -> str:
    if name not in _missing:
        _missing[name] = SERVICES[name].missing()
    return _missing[name]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--cases",
        type=int,
        default=0,
        metavar="N",
        help="run at most N cases of each parametrized test, from its first to its last",
    )


def pytest_configure(config: pytest.Config) -> None:
    from . import celery  # noqa: F401  # the tasks of this process belong to it

    fast_flush.be_quick()

    if DATABASE in SERVICES and (reason := _why_missing(DATABASE)):
        pytest.exit(f"Not run on {reason}.", returncode=1 if REQUIRED else 0)


# Before the order is shuffled: cases are chosen alike in each run.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On another database run what uses one; the rest is the same as on SQLite."""
    chosen = items
    if DATABASE in SERVICES:
        chosen = [one for one in chosen if _uses_a_database(one)]
    if most := config.getoption("--cases"):
        chosen = _some_cases(chosen, most)
    kept = set(chosen)
    config.hook.pytest_deselected(items=[one for one in items if one not in kept])
    items[:] = chosen


def _some_cases(items: list[pytest.Item], most: int) -> list[pytest.Item]:
    """Return at most so many cases of each test, as far from each other as they can be."""
    tests: dict[str, list[pytest.Item]] = {}
    kept = set()
    for one in items:
        if DATABASE not in SERVICES and one.get_closest_marker("every_case"):
            kept.add(one)
        else:
            tests.setdefault(one.nodeid.partition("[")[0], []).append(one)
    for cases in tests.values():
        count = min(most, len(cases))
        last = len(cases) - 1
        kept |= {cases[round(place * last / max(count - 1, 1))] for place in range(count)}
    return [one for one in items if one in kept]


def _uses_a_database(item: pytest.Item) -> bool:
    if item.get_closest_marker("alike"):
        return False
    fixtures = set(getattr(item, "fixturenames", ()))
    return item.get_closest_marker("django_db") is not None or bool(
        fixtures & {"db", "transactional_db", "django_db_setup"}
    )


def pytest_runtest_setup(item: pytest.Item) -> None:
    for name in SERVICES:
        if item.get_closest_marker(name) and (reason := _why_missing(name)):
            message = f"needs {reason}"
            if REQUIRED:
                pytest.fail(message)
            pytest.skip(message)


@pytest.fixture(autouse=True)
def _nothing_remembered() -> Iterator[None]:
    from django_webhooks import catalog, process_state

    process_state.forget()
    types, declared = catalog._types, dict(catalog._types)
    yield
    # A module that is imported by a test declares its types for good.
    types.clear()
    types.update(declared)


@pytest.fixture
def new_files(db: None) -> None:
    """For a test of thousands of rows that is rolled back: their room goes with them."""
    from django.db import connection

    fast_flush.take_new_files(connection)
