"""Harnesses: the three stacks, each with tables and queues of its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from example_project import broker
from tests.receivers import Receiver
from tests.services import SERVICES

from .harness import Harness, empty_mariadb, mariadb_database, postgres_database

SQLITE = pytest.param("sqlite+files", id="sqlite+files", marks=pytest.mark.files)
REDIS = pytest.param(
    "postgres+redis", id="postgres+redis", marks=[pytest.mark.postgres, pytest.mark.redis]
)
RABBITMQ = pytest.param(
    "postgres+rabbitmq",
    id="postgres+rabbitmq",
    marks=[pytest.mark.postgres, pytest.mark.rabbitmq],
)
MARIADB = pytest.param(
    "mariadb+redis", id="mariadb+redis", marks=[pytest.mark.mariadb, pytest.mark.redis]
)


def campaign(stack: Any) -> Any:
    """Return a stack that only the campaign runs on."""
    return pytest.param(*stack.values, id=stack.id, marks=[*stack.marks, pytest.mark.campaign])


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test on all stacks, or on those that have a broker with a server."""
    marks = metafunc.definition.iter_markers("parametrize")
    is_chosen = any("harness" in mark.args[0] for mark in marks)
    if "harness" in metafunc.fixturenames and not is_chosen:
        own = metafunc.definition.get_closest_marker("stacks")
        servers = metafunc.definition.get_closest_marker("broker_server")
        stacks = [REDIS, RABBITMQ] if servers else [SQLITE, REDIS, RABBITMQ]
        stacks = list(own.args) if own else stacks
        metafunc.parametrize("harness", stacks, indirect=True)


def broker_url(stack: str, *, port: int | None = None) -> str:
    """Return the URL of a stack's broker, by another port where a proxy stands before it."""
    if stack.endswith("redis"):
        service = SERVICES["redis"]
        return f"redis://{service.host}:{port or service.port}/5"
    service = SERVICES["rabbitmq"]
    account = os.environ.get("RABBITMQ_ACCOUNT", "guest:guest")
    return f"amqp://{account}@{service.host}:{port or service.port}//"


@pytest.fixture(scope="session")
def sqlite_tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the tables, to be copied."""
    folder = tmp_path_factory.mktemp("tables")
    path = folder / "site.sqlite3"
    with closing(Harness(folder, database=f"sqlite:///{path}", broker="memory://")) as harness:
        harness.migrate()
    return path


@pytest.fixture(scope="session")
def postgres_tables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The name of a database with the tables, to be copied."""
    with postgres_database() as url:
        folder = tmp_path_factory.mktemp("tables")
        with closing(Harness(folder, database=url, broker="memory://")) as harness:
            harness.migrate()
        yield url.rpartition("/")[2]


@pytest.fixture(scope="session")
def mariadb_tables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A database with the tables: they take MariaDB too long to be made anew for each test."""
    with mariadb_database() as url:
        folder = tmp_path_factory.mktemp("tables")
        with closing(Harness(folder, database=url, broker="memory://")) as harness:
            harness.migrate()
        yield url


@pytest.fixture
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Harness]:
    """A stack with tables."""
    stack: str = request.param
    with ExitStack() as resources:
        if stack == "sqlite+files":
            shutil.copy(request.getfixturevalue("sqlite_tables"), tmp_path / "site.sqlite3")
            (tmp_path / "broker").mkdir()
            folder = str(tmp_path / "broker")
            harness = Harness(
                tmp_path,
                database=f"sqlite:///{tmp_path / 'site.sqlite3'}",
                broker=f"{broker.SCHEME}://",
                options=broker.options(folder),
            )
        elif stack == "mariadb+redis":
            database = request.getfixturevalue("mariadb_tables")
            empty_mariadb(database)
            harness = Harness(tmp_path, database=database, broker=broker_url(stack))
        else:
            template = request.getfixturevalue("postgres_tables")
            database = resources.enter_context(postgres_database(template=template))
            harness = Harness(tmp_path, database=database, broker=broker_url(stack))
        resources.callback(harness.close)
        yield harness
        assert harness.leaks() == []


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver that answers 204; a test may change its answers."""
    receiver = Receiver()
    yield receiver
    receiver.close()
