"""Install the wheel with each extra alone into an empty environment, and send a webhook with it.

``python -m tests.extras [extra …]``, without any for all. Needs Python's standard library alone,
pip's index, and Redis, RabbitMQ and PostgreSQL: an extra whose service is missing is left out.
In each environment every module is imported, a worker and beat are started with the broker of the
extra, an event is emitted, and its signed request has to arrive.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from .services import REQUIRED, SERVICES

ROOT = Path(__file__).parent.parent
PATIENCE = 120
#: Environments that are made at the same time.
AT_ONCE = 2

_SETTINGS = """
import json, os
from django_webhooks import beat
SECRET_KEY = "only for tests"
USE_TZ = True
INSTALLED_APPS = [
    "django.contrib.admin", "django.contrib.auth", "django.contrib.contenttypes",
    "django.contrib.messages", "django.contrib.sessions", "django_webhooks", "site_of_the_test",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [{
    "BACKEND": "django.template.backends.django.DjangoTemplates",
    "APP_DIRS": True,
    "OPTIONS": {"context_processors": [
        "django.template.context_processors.request",
        "django.contrib.auth.context_processors.auth",
        "django.contrib.messages.context_processors.messages",
    ]},
}]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ROOT_URLCONF = "site_of_the_test.urls"
ALLOWED_HOSTS = ["*"]
DATABASES = {"default": json.loads(os.environ["EXTRAS_DATABASE"])}
CELERY_BROKER_URL = os.environ["EXTRAS_BROKER"]
CELERY_BROKER_TRANSPORT_OPTIONS = json.loads(os.environ["EXTRAS_OPTIONS"])
CELERY_TASK_DEFAULT_QUEUE = os.environ["EXTRAS_QUEUE"]
CELERY_WORKER_ENABLE_REMOTE_CONTROL = False
CELERY_BEAT_SCHEDULE = {
    name: {**entry, "schedule": 1.0 if "sweep" in name else 60.0}
    for name, entry in beat.SCHEDULE.items()
}
WEBHOOKS_ENCRYPTION_KEYS = ["dGVzdHMgdGVzdHMgdGVzdHMgdGVzdHMgdGVzdHMgdGU="]
WEBHOOKS_REQUIRE_HTTPS = False
WEBHOOKS_ALLOWED_NETWORKS = ["127.0.0.0/8"]
WEBHOOKS_ALLOW_UNKNOWN_EVENT_TYPES = True
"""
_CELERY = """
import os
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site_of_the_test.settings")
from celery import Celery
app = Celery("site_of_the_test")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
"""
_URLS = """
from django.urls import include, path
urlpatterns = [path("webhooks/", include("django_webhooks.urls"))]
"""
#: What needs an extra, and is imported by nothing without it.
_IMPORTS = """
import importlib, pkgutil, sys
import django
django.setup()
import django_webhooks
needs = {"prometheus_client": ("django_webhooks.metrics.", "django_webhooks.inbox.metrics"),
         "pytest": "django_webhooks.testing.", "environ": "django_webhooks.environment"}
missing = []
for one in pkgutil.walk_packages(django_webhooks.__path__, "django_webhooks."):
    try:
        importlib.import_module(one.name)
    except ModuleNotFoundError as error:
        if not one.name.startswith(needs.get(error.name, "?")):
            raise
        missing.append(f"{error.name} for {one.name}")
print("; ".join(missing))
"""
_EMIT = """
import django
django.setup()
from django.core.management import call_command
call_command("migrate", verbosity=0)
call_command("check", fail_level="WARNING")
from django_webhooks.events import emit
from django_webhooks.models import Endpoint, Subscription
to = Subscription.objects.create(name="test", event_types=["*"])
Endpoint.objects.create(subscription=to, url={url!r})
emit("thing.created", {{"id": 1}})
{more}
from django_webhooks import wakeups
assert wakeups._waker.flush(timeout=60)  # the message is sent by a thread
"""
_METRICS = """
from django.test import Client
answer = Client().get("/webhooks/metrics", headers={"authorization": "Bearer 0123456789abcdef"})
text = b"".join(answer) if answer.streaming else answer.content
assert answer.status_code == 200 and b"webhooks_" in text, (answer.status_code, text)
"""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """An extra, the services that it is tried with, and what else is set and done."""

    broker: str = "rabbitmq"
    database: str = "sqlite"
    settings: str = ""
    more: str = ""
    environment: dict[str, str] = field(default_factory=dict)


TRIALS = {
    "": Trial(),
    "redis": Trial(broker="redis"),
    "postgres": Trial(database="postgres"),
    "metrics": Trial(
        settings='WEBHOOKS_METRICS = True\nWEBHOOKS_METRICS_TOKEN = "0123456789abcdef"\n',
        more=_METRICS,
    ),
    "tracing": Trial(settings="WEBHOOKS_SEND_TRACEPARENT = True\n"),
    "environ": Trial(
        settings="from django_webhooks import environment\nglobals().update(environment.read())\n",
        more="from django.conf import settings\nassert settings.WEBHOOKS_TIMEOUT_SECONDS == 7.5\n",
        environment={"WEBHOOKS_TIMEOUT_SECONDS": "7.5"},
    ),
}


def main(*extras: str) -> int:
    """Try each extra, and return 1 where one failed."""
    with open(ROOT / "pyproject.toml", "rb") as file:
        offered = set(tomllib.load(file)["project"]["optional-dependencies"])
    if untried := offered ^ set(filter(None, TRIALS)):
        print(f"Not the extras of pyproject.toml: {', '.join(sorted(untried))}")
        return 1
    with tempfile.TemporaryDirectory() as folder:
        wheel = _wheel(Path(folder))
        with ThreadPoolExecutor(AT_ONCE) as pool:
            trials = [one for one in TRIALS if not extras or one in extras]
            ended = list(pool.map(lambda one: _try(one, wheel, Path(folder)), trials))
    return int(not all(ended))


def _wheel(folder: Path) -> Path:
    tools = _environment(folder / "build")
    _run([tools, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), str(ROOT)], cwd=folder)
    [wheel] = folder.glob("*.whl")
    return wheel


def _environment(folder: Path) -> str:
    _run([sys.executable, "-m", "venv", str(folder)], cwd=folder.parent)
    return str(folder / "bin" / "python")


def _try(extra: str, wheel: Path, folder: Path) -> bool:
    """Say whether a webhook arrives; print what happened instead."""
    trial, name, began = TRIALS[extra], extra or "none", time.monotonic()
    for service in (trial.broker, trial.database):
        # Of a server, whose Python package the environment of the trial has to have.
        if service in SERVICES and "nothing listens" in (reason := SERVICES[service].missing()):
            print(f"{name}: not tried on {reason}", flush=True)
            return not REQUIRED
    home = folder / f"extra-{name}"
    home.mkdir()
    try:
        python = _environment(home / "env")
        chosen = f"{wheel}[{extra}]" if extra else str(wheel)
        _run([python, "-m", "pip", "install", "-q", chosen], cwd=home)
        told = _send(trial, python, home)
    except (AssertionError, subprocess.SubprocessError) as error:
        logs = "".join(one.read_text(errors="replace")[-3000:] for one in home.glob("*.log"))
        print(f"{name}: FAILED\n{error}\n{logs}", flush=True)
        return False
    print(f"{name}: sent and arrived, after {time.monotonic() - began:.0f} s. {told}", flush=True)
    return True


def _send(trial: Trial, python: str, home: Path) -> str:
    site = home / "site_of_the_test"
    site.mkdir()
    (site / "__init__.py").write_text("from .celery import app\n")
    (site / "celery.py").write_text(_CELERY)
    (site / "urls.py").write_text(_URLS)
    (site / "settings.py").write_text(_SETTINGS + trial.settings)
    arrived: list[dict[str, str]] = []
    with _database(trial, python, home) as database, _receiver(arrived) as url:
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("PYTHON")},
            "DJANGO_SETTINGS_MODULE": "site_of_the_test.settings",
            "EXTRAS_DATABASE": json.dumps(database),
            "EXTRAS_BROKER": _broker(trial),
            "EXTRAS_OPTIONS": "{}",
            "EXTRAS_QUEUE": f"webhooks-extras-{uuid.uuid4().hex}",
            **trial.environment,
        }
        told = _run([python, "-c", _IMPORTS], cwd=home, environment=environment)
        celery = [python, "-m", "celery", "-A", "site_of_the_test"]
        with _running([*celery, "worker", "--concurrency", "1"], home, environment):
            _run(
                [python, "-c", _EMIT.format(url=url, more=trial.more)],
                cwd=home,
                environment=environment,
            )
            _until(lambda: len(arrived) == 1, "the webhook did not arrive")
            # What nobody told a worker of is found because of beat.
            with _running([*celery, "beat", "--schedule", "beat"], home, environment):
                _run([python, "-c", _SILENT], cwd=home, environment=environment)
                _until(lambda: len(arrived) == 2, "the webhook that beat finds did not arrive")
    assert all(re.match(r"v1,", one["webhook-signature"]) for one in arrived), arrived
    return told.strip() and f"Without {told.strip()}."


_SILENT = """
import django
django.setup()
from django_webhooks.sending import recording
recording.record([recording.Draft(event_type="thing.created", data={"id": 2})], using="default")
"""


@contextlib.contextmanager
def _receiver(arrived: list[dict[str, str]]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            arrived.append({key.lower(): value for key, value in self.headers.items()})
            self.send_response(204)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()


def _broker(trial: Trial) -> str:
    service = SERVICES[trial.broker]
    user = os.environ.get("RABBITMQ_USER", "guest")
    password = os.environ.get("RABBITMQ_PASSWORD", "guest")
    if trial.broker == "redis":
        return f"redis://{service.host}:{service.port}/0"
    return f"amqp://{user}:{password}@{service.host}:{service.port}//"


@contextlib.contextmanager
def _database(trial: Trial, python: str, home: Path) -> Iterator[dict[str, object]]:
    if trial.database == "sqlite":
        yield {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(home / "db.sqlite3"),
            "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 20},
        }
        return
    service, name = SERVICES["postgres"], f"webhooks_extras_{uuid.uuid4().hex}"
    settings = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": name,
        "USER": os.environ.get("POSTGRES_USER", "postgres"),
        "PASSWORD": os.environ.get("POSTGRES_PASSWORD", ""),
        "HOST": service.host,
        "PORT": service.port,
    }
    # By the driver that the extra brings.
    admin = (
        "import psycopg, sys\n"
        f"server = psycopg.connect(host={service.host!r}, port={service.port}, dbname='postgres',"
        f" user={settings['USER']!r}, password={settings['PASSWORD']!r}, autocommit=True)\n"
        "server.execute(sys.argv[1])"
    )
    _run([python, "-c", admin, f"CREATE DATABASE {name}"], cwd=home)
    try:
        yield settings
    finally:
        _run([python, "-c", admin, f"DROP DATABASE {name} WITH (FORCE)"], cwd=home)


@contextlib.contextmanager
def _running(command: list[str], home: Path, environment: dict[str, str]) -> Iterator[None]:
    log = home / f"{command[5]}.log"
    with open(log, "wb") as output:
        child = subprocess.Popen(
            command, cwd=home, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        yield
        assert child.poll() is None, f"{command[5]} ended with {child.returncode}"
    finally:
        child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(20)
        child.kill()


def _run(command: list[str], *, cwd: Path, environment: dict[str, str] | None = None) -> str:
    ended = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )
    assert ended.returncode == 0, f"{command[:4]}: {ended.stdout}\n{ended.stderr}"
    return ended.stdout


def _until(condition: object, what: str) -> None:
    ends = time.monotonic() + PATIENCE
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < ends, what
        time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
