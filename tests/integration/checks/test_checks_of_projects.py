"""What ``check`` says of a whole project: its package, its Celery app, its database."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import textwrap
from functools import partial

import pytest
from celery import Celery
from django.core.checks import run_checks
from django.db import connections

from django_webhooks import tasks
from django_webhooks.checks import celery_app, databases

SETTINGS = """
from django_webhooks import beat
SECRET_KEY = "only for tests"
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "django_webhooks"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "db.sqlite3"}}
CELERY_BROKER_URL = "memory://"
CELERY_BEAT_SCHEDULE = {**beat.SCHEDULE}
CELERY_TASK_ROUTES = {**beat.ROUTES}
WEBHOOKS_ENCRYPTION_KEYS = ["dGVzdHMgdGVzdHMgdGVzdHMgdGVzdHMgdGVzdHMgdGU="]
"""
CELERY = """
from celery import Celery
app = Celery("bookshop")
app.config_from_object("django.conf:settings", namespace="CELERY")
"""
IMPORT = "from .celery import app as celery_app\n"
BEAT = """
INSTALLED_APPS += ["django_celery_beat"]
CELERY_BEAT_SCHEDULE = {}
"""
own = partial(Celery, set_as_current=False)
UNSCHEDULED = {"webhooks.W002", "webhooks.W007", "webhooks.W011"}
needs_beat = pytest.mark.skipif(
    not importlib.util.find_spec("django_celery_beat"), reason="needs django-celery-beat"
)


@pytest.fixture
def project(tmp_path):
    """Return what runs Django's commands in a project of these texts, and returns their output."""

    def run(*commands, settings="", package=IMPORT, celery=CELERY, script="", **environment):
        folder = tmp_path / "bookshop"
        folder.mkdir(exist_ok=True)
        (folder / "__init__.py").write_text(package)
        (folder / "settings.py").write_text(SETTINGS + settings)
        (folder / "celery.py").write_text(celery)
        calls = "\n".join(f"call_command(*{command.split()!r})" for command in commands)
        code = (
            "import django\nfrom django.core.management import call_command\ndjango.setup()\n"
            f"{script}\n{calls}\n"
        )
        own = {"DJANGO_SETTINGS_MODULE": "bookshop.settings", "PYTHONPATH": os.getcwd()}
        ended = subprocess.run(
            [sys.executable, "-u", "-W", "ignore", "-c", code],
            cwd=tmp_path,
            env={**os.environ, **own, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
        )
        return ended.stdout

    return run


def ids(said):
    return set(re.findall(r"webhooks\.[EW]\d{3}", said))


class TestTheCeleryApp:
    def test_one_that_is_imported_is_fine(self, project):
        assert ids(project("check")) == set()

    def test_one_that_is_never_imported_is_told_of_with_the_line_to_add(self, project):
        said = project("check", package="")

        assert ids(said) == {"webhooks.W130"}
        assert "from .celery import app as celery_app" in said
        assert "bookshop/__init__.py" in said

    @pytest.mark.parametrize(
        ("app", "environment", "found"),
        [
            (own("bookshop"), {}, ["webhooks.W130"]),
            (own("bookshop", broker="amqp://"), {}, []),
            (own("bookshop", broker_write_url="memory://"), {}, []),
            (own("bookshop"), {"CELERY_BROKER_URL": "memory://"}, []),
            (own("bookshop", task_always_eager=True), {}, []),
            (own("default"), {}, ["webhooks.W130"]),
        ],
        ids=["nowhere", "argument", "to write", "environment", "eager", "none"],
    )
    def test_a_broker_may_be_named_in_any_way(self, monkeypatch, app, environment, found):
        monkeypatch.setattr(tasks, "project_app", lambda: app)
        monkeypatch.setattr(celery_app, "both", lambda name: [app.conf[name]])
        monkeypatch.delenv("CELERY_BROKER_URL", raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)

        said = celery_app.check_celery_app()

        assert [one.id for one in said] == found
        if app.main == "bookshop":
            assert all("config_from_object" in one.hint for one in said)


@needs_beat
def test_the_schedule_in_the_tables_of_django_celery_beat_is_read(project):
    """Before its migrations, with empty tables, with our rows, and with these disabled."""
    script = textwrap.dedent("""
        from django.core.management.base import SystemCheckError
        from django_webhooks import beat
        from django_celery_beat.models import IntervalSchedule, PeriodicTask

        def check(name, **options):
            print(f"[{name}]")
            call_command("check", **options)

        check("no tables", databases=["default"])
        call_command("migrate", verbosity=0)
        check("empty", databases=["default"])
        check("not asked")
        often = IntervalSchedule.objects.create(every=5, period="seconds")
        for name, entry in beat.SCHEDULE.items():
            PeriodicTask.objects.create(name=name, task=entry["task"], interval=often)
        check("rows", databases=["default"])
        PeriodicTask.objects.filter(name__contains="sweep").update(enabled=False)
        check("sweep disabled", databases=["default"])
        from django.conf import settings
        settings.CELERY_BEAT_SCHEDULE = beat.SCHEDULE
        check("settings are copied", databases=["default"])
    """)

    said = project(settings=BEAT, script=script)

    parts = re.split(r"\[([a-z ]+)\]", said)
    assert {name: ids(text) for name, text in zip(parts[1::2], parts[2::2], strict=True)} == {
        "no tables": set(),
        "empty": UNSCHEDULED,
        "not asked": set(),
        "rows": set(),
        "sweep disabled": {"webhooks.W002"},
        "settings are copied": set(),
    }


class TestTheDatabase:
    @pytest.mark.parametrize("vendor", ["oracle", "microsoft", "cockroachdb"])
    def test_one_of_another_kind_is_named(self, monkeypatch, vendor):
        monkeypatch.setattr(connections["default"], "vendor", vendor)
        monkeypatch.setattr(connections["default"], "display_name", vendor.title(), raising=False)

        [error] = databases.check_vendor()

        assert error.id == "webhooks.E130"
        assert vendor.title() in error.msg

    @pytest.mark.parametrize("vendor", ["postgresql", "mysql", "sqlite", "unknown"])
    def test_those_of_ours_and_none_are_fine(self, monkeypatch, vendor):
        monkeypatch.setattr(connections["default"], "vendor", vendor)

        assert databases.check_vendor() == []

    @pytest.mark.django_db
    def test_that_of_the_tests_is_fine(self):
        found = run_checks(databases=["default"])

        assert [one for one in found if one.id in {"webhooks.E130", "webhooks.W131"}] == []

    @pytest.mark.parametrize(
        ("is_mariadb", "version", "found"),
        [
            (True, (10, 6, 1), []),
            (True, (11, 4, 2), []),
            (True, (10, 5, 9), ["webhooks.W131"]),
            (False, (8, 4, 0), ["webhooks.W131"]),
        ],
    )
    def test_a_server_that_nobody_tests_with_is_named(
        self, monkeypatch, is_mariadb, version, found
    ):
        monkeypatch.setattr(connections["default"], "vendor", "mysql")
        for name, value in (("mysql_is_mariadb", is_mariadb), ("mysql_version", version)):
            monkeypatch.setattr(type(connections["default"]), name, value, raising=False)

        assert [one.id for one in databases.check_server(databases=["default"])] == found
        assert databases.check_server(databases=[]) == []
        assert databases.check_server() == []
