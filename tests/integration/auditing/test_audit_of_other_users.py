"""The audit trail in projects whose users are others, or that have none."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SETTINGS = """
from django_webhooks import beat
SECRET_KEY = "only for tests"
USE_TZ = True
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
MIDDLEWARE = []
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["django_webhooks", "django_webhooks.auditing"]
"""
WORK = """
import django
django.setup()
from django.core.management import call_command
call_command("migrate", verbosity=0, run_syncdb=True)
from django_webhooks.auditing import audit
from django_webhooks.auditing.models import AuditEntry
from django_webhooks.models import Subscription
Subscription(name="CRM", event_types=["*"]).save()
assert audit.run().verified.holds
assert not [one for one in audit.run().findings if one.id == "webhooks.A000"], audit.run().findings
"""
OWN_USER = """
from django.contrib.auth.models import AbstractBaseUser, BaseUserManager, PermissionsMixin
from django.db import models
class Person(AbstractBaseUser, {bases}):
    mail = models.EmailField(unique=True)
    USERNAME_FIELD = "mail"
    objects = BaseUserManager()
    def __str__(self):
        return self.mail
"""


def run(folder, settings: str, work: str) -> str:
    (folder / "other_settings.py").write_text(settings)
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", work],
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "other_settings",
            "PYTHONPATH": os.pathsep.join([str(folder), os.getcwd()]),
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_a_project_without_users(tmp_path):
    work = WORK + "print(list(AuditEntry.objects.values_list('action', flat=True)))"

    said = run(tmp_path, SETTINGS, work)

    assert "'subscription.added'" in said


@pytest.mark.parametrize("bases", ["PermissionsMixin", "models.Model"])
def test_a_project_with_users_of_its_own(tmp_path, bases):
    app = tmp_path / "people"
    app.mkdir()
    (app / "__init__.py").write_text("")
    (app / "models.py").write_text(OWN_USER.format(bases=bases))
    settings = (
        SETTINGS
        + 'INSTALLED_APPS += ["django.contrib.auth", "django.contrib.contenttypes", "people"]\n'
        + 'AUTH_USER_MODEL = "people.Person"\n'
    )
    work = (
        WORK
        + "from people.models import Person\n"
        + "one = Person(mail='a@example.com')\n"
        + "one.is_superuser = True\n"
        + "one.save()\n"
        + "if hasattr(one, 'user_permissions'):\n"
        + "    from django.contrib.auth.models import Permission\n"
        + "    one.user_permissions.add(Permission.objects.get(codename='see_secret'))\n"
        + "one.delete()\n"
        + "rows = AuditEntry.objects.filter(subject_type='people.person')\n"
        + "print(list(rows.values_list('action', flat=True).order_by('pk')))\n"
    )

    said = run(tmp_path, settings, work)

    if bases == "PermissionsMixin":
        assert "['user.changed', 'user.permissions_added', 'user.deleted']" in said
    else:
        # is_superuser is no column of theirs; it is deleted as who has all permissions.
        assert "user.permissions_added" not in said
