"""The README's quickstart, word for word, in a fresh project: it ends with a verified arrival."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from .conftest import broker_url
from .harness import PATIENCE, until

pytestmark = [pytest.mark.acceptance, pytest.mark.essential, pytest.mark.redis]
README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"<!-- quickstart: ([\w.]+) -->\n```\w+\n(.+?)\n```", re.S)
#: What Celery's "First steps with Django" asks for, and the README takes for granted.
CELERY = """
import os
from celery import Celery
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "yourproject.settings")
app = Celery("yourproject")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
"""
MODELS = """
from django.db import models

class Order(models.Model):
    number = models.CharField(max_length=20)
    status = models.CharField(max_length=20)
    total = models.DecimalField(max_digits=10, decimal_places=2)
"""


class Project:
    """A fresh project in a folder, and the processes that were started in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.children: dict[str, subprocess.Popen[bytes]] = {}
        scripts = str(Path(sys.executable).parent)
        self.environment = {
            **{name: one for name, one in os.environ.items() if "DJANGO" not in name},
            "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
            "PYTHONUNBUFFERED": "1",
        }
        self.run("django-admin startproject yourproject .")
        self.run("python manage.py startapp shop")
        self.write("yourproject/celery.py", CELERY)
        self.write("yourproject/__init__.py", "from .celery import app as celery_app\n")
        self.write("shop/models.py", MODELS)
        self.settings(
            f'INSTALLED_APPS += ["shop"]\nCELERY_BROKER_URL = {broker_url("redis")!r}\n'
            f'CELERY_BROKER_TRANSPORT_OPTIONS = {{"global_keyprefix": "{uuid.uuid4().hex}"}}'
        )
        self.run("python manage.py makemigrations shop")

    def write(self, path: str, text: str) -> None:
        """Write a file."""
        (self.folder / path).write_text(text, encoding="utf-8")

    def settings(self, text: str) -> None:
        """Add lines to the settings."""
        path = self.folder / "yourproject/settings.py"
        self.write("yourproject/settings.py", f"{path.read_text(encoding='utf-8')}\n{text}\n")

    def run(self, command: str, *arguments: str) -> str:
        """Run a command to its end, and return what it printed."""
        done = subprocess.run(
            [*command.split(), *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self, command: str, ready: str) -> None:
        """Start a process, and wait until it has printed a text."""
        log = self.folder / f"{len(self.children)}.log"
        with log.open("wb") as file:
            self.children[log.name] = subprocess.Popen(
                command.split(),
                cwd=self.folder,
                env=self.environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        until(lambda: ready in log.read_text(), f"{command} did not start")

    def logs(self) -> str:
        """Return what all processes have printed."""
        return "\n".join((self.folder / name).read_text() for name in self.children)

    def close(self) -> None:
        """End all processes."""
        for child in self.children.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait(10)


@pytest.fixture
def project(tmp_path):
    """A fresh project."""
    found = Project(tmp_path)
    yield found
    found.close()


#: What each process prints at the log level that the README leaves as it is.
READY = {"worker": "[queues]", "beat": "is starting.", "webhooks_listen": "Listening on"}


@pytest.mark.timeout(300)
def test_it_reaches_a_verified_arrival(project):
    key = ""
    for name, text in BLOCK.findall(README):
        match name:
            case "settings":
                project.settings(text)
            case "key":
                key = project.run(text).strip()
            case "keys":
                assert "PASTE-THE-KEY-HERE" in text
                project.settings(text.replace("PASTE-THE-KEY-HERE", key))
            case "webhooks.py":
                project.write("shop/webhooks.py", text)
            case "migrate":
                project.run(text)
            case "processes":
                for command in text.splitlines():
                    [ready] = [one for word, one in READY.items() if word in command.split()]
                    project.start(command, ready)
            case "subscribe" | "save":
                project.run("python manage.py shell -c", text)
            case _:
                pytest.fail(f"The block {name} of the README is not known here.")

    until(lambda: "verified  order.created" in project.logs(), project.logs())
    assert "refused" not in project.logs()
    assert "no issues" in project.run("python manage.py check --tag webhooks")
