"""What every test has: services that are there or said to be missing, no leftovers in memory."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from . import flushing
from .services import REQUIRED, SERVICES

DATABASE = os.environ.get("TEST_DATABASE", "sqlite")
_missing: dict[str, str] = {}


def _why_missing(name: str) -> str:
    if name not in _missing:
        _missing[name] = SERVICES[name].missing()
    return _missing[name]


def pytest_configure(config: pytest.Config) -> None:
    from . import celery  # noqa: F401  # the tasks of this process belong to it

    flushing.be_quick()

    if DATABASE in SERVICES and (reason := _why_missing(DATABASE)):
        pytest.exit(f"Not run on {reason}.", returncode=1 if REQUIRED else 0)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On another database run what uses one; the rest is the same as on SQLite."""
    if DATABASE not in SERVICES:
        return
    used = [one for one in items if _uses_a_database(one)]
    config.hook.pytest_deselected(items=[one for one in items if not _uses_a_database(one)])
    items[:] = used


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
    from django_webhooks import catalog
    from django_webhooks.inbox import network_lists, rejections
    from django_webhooks.sending import listeners, pulses, rounds, slowness

    listeners.forget_silence()
    pulses._said.clear()
    rounds._looked.clear()
    slowness.memory.forget()
    network_lists.forget()
    rejections._counts.start_afresh()
    types, declared = catalog._types, dict(catalog._types)
    yield
    listeners.forget_silence()
    # A module that is imported by a test declares its types for good.
    types.clear()
    types.update(declared)


@pytest.fixture
def new_files(db: None) -> None:
    """For a test of thousands of rows that is rolled back: their room goes with them."""
    from django.db import connection

    flushing.take_new_files(connection)
