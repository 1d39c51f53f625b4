"""Stages: the three stacks, each with tables and queues of its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from example_project import broker
from tests.receivers import Receiver
from tests.services import SERVICES

from .stage import Stage, mariadb_database, postgres_database

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


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test on all stacks, or on those that have a broker with a server."""
    if "stage" in metafunc.fixturenames:
        own = metafunc.definition.get_closest_marker("stacks")
        servers = metafunc.definition.get_closest_marker("broker_server")
        stacks = [REDIS, RABBITMQ] if servers else [SQLITE, REDIS, RABBITMQ]
        stacks = list(own.args) if own else stacks
        metafunc.parametrize("stage", stacks, indirect=True)


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
    with closing(Stage(folder, database=f"sqlite:///{path}", broker="memory://")) as stage:
        stage.migrate()
    return path


@pytest.fixture(scope="session")
def postgres_tables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The name of a database with the tables, to be copied."""
    with postgres_database() as url:
        folder = tmp_path_factory.mktemp("tables")
        with closing(Stage(folder, database=url, broker="memory://")) as stage:
            stage.migrate()
        yield url.rpartition("/")[2]


@pytest.fixture
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stage]:
    """A stack with tables."""
    stack: str = request.param
    with ExitStack() as resources:
        if stack == "sqlite+files":
            shutil.copy(request.getfixturevalue("sqlite_tables"), tmp_path / "site.sqlite3")
            (tmp_path / "broker").mkdir()
            folder = str(tmp_path / "broker")
            stage = Stage(
                tmp_path,
                database=f"sqlite:///{tmp_path / 'site.sqlite3'}",
                broker=f"{broker.SCHEME}://",
                options=broker.options(folder),
            )
        elif stack == "mariadb+redis":
            database = resources.enter_context(mariadb_database())
            stage = Stage(tmp_path, database=database, broker=broker_url(stack))
            stage.migrate()
        else:
            template = request.getfixturevalue("postgres_tables")
            database = resources.enter_context(postgres_database(template=template))
            stage = Stage(tmp_path, database=database, broker=broker_url(stack))
        resources.callback(stage.close)
        yield stage
        assert stage.leaks() == []


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver that answers 204; a test may change its answers."""
    receiver = Receiver()
    yield receiver
    receiver.close()
