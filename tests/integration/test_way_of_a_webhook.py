"""The way of one webhook through the files of the package, held together with its map."""

from __future__ import annotations

import re
import sys
import threading
import tomllib
from pathlib import Path

import pytest
from django.db import transaction

import django_webhooks
from django_webhooks import tasks
from django_webhooks.events import emit
from django_webhooks.models import Delivery
from django_webhooks.sending.health_checks import recovery
from tests import factories
from tests.receivers import receiving

pytestmark = pytest.mark.django_db(transaction=True)

PACKAGE = Path(django_webhooks.__file__).parent
ROOT = PACKAGE.parent
PAGE = ROOT / "docs/contributing/architecture.md"
#: The threads that a run of a worker has for its requests.
SENDER = "webhooks-sender"
#: Files that a reader opens on the way, at the most; they may only become fewer.
MAX_OF_EMIT, MAX_OF_WORKER = 8, 32
#: A decorator around functions of all layers is no caller of theirs.
WRAPPER = "hiding.py"


def layers() -> dict[str, int]:
    """The number of the layer of each room, from the top."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = config["tool"]["importlinter"]["contracts"]
    found = next(one["layers"] for one in contracts if one["name"] == "Imports point down")
    return {room: number for number, line in enumerate(found) for room in line.split(" | ")}


LAYERS = layers()


def layer_of(file: str) -> int:
    return LAYERS[file.partition("/")[0].removesuffix(".py")]


class Trace:
    """The files of the package that the calls of a block enter, in order, and calls that climb."""

    def __init__(self):
        self.files: list[str] = []
        self.climbs: set[tuple[str, str]] = set()
        self._is_on = False
        self._known: dict[str, str | None] = {}

    def __enter__(self):
        self._is_on, self._thread = True, threading.current_thread()
        threading.setprofile(self._note)
        sys.setprofile(self._note)
        return self

    def __exit__(self, *_):
        self._is_on = False
        sys.setprofile(None)
        threading.setprofile(None)

    @property
    def steps(self) -> list[str]:
        """The files of the rooms that do something: those above the models."""
        return [one for one in self.files if layer_of(one) < LAYERS["models"]]

    @property
    def asked(self) -> set[str]:
        """The files that are asked on the way: rows, decisions and values."""
        return set(self.files) - set(self.steps)

    def _note(self, frame, event, arg):
        if event != "call" or not self._is_on or frame.f_code.co_name == "<module>":
            return
        file = self._file_of(frame)
        if file is None or not self._is_ours(threading.current_thread()):
            return
        if file not in self.files:
            self.files.append(file)
        caller = frame.f_back
        while caller is not None and self._file_of(caller) in (None, WRAPPER):
            caller = caller.f_back
        if caller is not None and layer_of(file) < layer_of(self._file_of(caller)):
            self.climbs.add((self._file_of(caller), file))

    def _is_ours(self, thread) -> bool:
        return thread is self._thread or thread.name.startswith(SENDER)

    def _file_of(self, frame) -> str | None:
        path = frame.f_code.co_filename
        if path not in self._known:
            inside = path.startswith(f"{PACKAGE}/")
            self._known[path] = str(Path(path).relative_to(PACKAGE)) if inside else None
        return self._known[path]


@pytest.fixture
def way(monkeypatch):
    """The files from ``emit`` to its commit, and those of the run of a worker that sends it."""
    # Health checks are looked for twice a second, which a slow machine meets or does not.
    monkeypatch.setattr(recovery, "EVERY", 60)
    with receiving(204) as receiver:
        factories.subscription(url=receiver.url)
        # What a process does once is no part of the way of the next webhook.
        for _ in range(2):
            with Trace() as emitted, transaction.atomic():
                emit("order.paid", {"id": 1})
            with Trace() as worked:
                tasks.deliver()
    assert Delivery.objects.succeeded().count() == 2
    return emitted, worked


def section(heading: str) -> str:
    text = PAGE.read_text(encoding="utf-8")
    return text.partition(f"### {heading}\n")[2].partition("\n#")[0]


def steps_of(heading: str) -> list[str]:
    return re.findall(r"^\d+\. `([a-z_/]+\.py)`: ", section(heading), re.M)


def asked_on_the_map() -> set[str]:
    folders = re.findall(r"^- `([a-z.]+)/`: (.+(?:\n  .+)*)", section("Asked on the way"), re.M)
    return {
        f"{folder}/{name}.py".removeprefix("./")
        for folder, names in folders
        for name in re.findall(r"`([a-z_/]+)`", names)
    }


def test_the_map_has_the_files_of_the_way_and_no_others(way):
    emitted, worked = way

    assert steps_of("emit") == emitted.steps
    # Threads of requests run beside the run.
    assert sorted(steps_of("A worker")) == sorted(worked.steps)
    assert asked_on_the_map() == emitted.asked | worked.asked


def test_the_way_is_short_and_calls_nothing_back_up(way):
    emitted, worked = way

    assert len(emitted.steps) <= MAX_OF_EMIT
    assert len(worked.steps) <= MAX_OF_WORKER
    assert emitted.climbs | worked.climbs == set()
