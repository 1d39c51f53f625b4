"""What installing the app costs saves that have nothing to do with webhooks."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from django.contrib.auth.models import Group, User, update_last_login
from django.db import connection
from django.test.utils import CaptureQueriesContext

from django_webhooks.auditing.models import AuditEntry

pytestmark = pytest.mark.django_db


def queries(function):
    with CaptureQueriesContext(connection) as context:
        function()
    verbs = {"SELECT", "INSERT", "UPDATE", "DELETE"}
    return sum(one["sql"].split()[0].strip("(") in verbs for one in context.captured_queries)


def loaded(**fields):
    user = User.objects.create(username="ann", **fields)
    return User.objects.get(pk=user.pk)


def groups(count):
    return [Group.objects.create(name=f"group {number}") for number in range(count)]


def in_groups(count):
    user = loaded()
    user.groups.set(groups(count))
    return user


def removed():
    user = loaded()
    return lambda: user.delete()


def changed(**fields):
    user = loaded()
    for name, value in fields.items():
        setattr(user, name, value)
    return user.save


#: What is done, and how many queries it takes with our trail and without it.
COSTS = {
    "user.save()": (lambda: loaded().save, 1, 1),
    "user.save() of a deferred one": (
        lambda: User.objects.only("username").get(pk=loaded().pk).save,
        1,
        1,
    ),
    "user.save() of a name": (lambda: changed(first_name="Ann"), 1, 1),
    "a new user": (lambda: lambda: User.objects.create(username="new"), 1, 1),
    "last login": (lambda: (lambda user: lambda: update_last_login(None, user))(loaded()), 1, 1),
    "is_active": (lambda: (lambda user: user.save)(_off(loaded())), 2 + 1, 1),
    "add one group": (lambda: _adding(1), 1 + 2, 1),
    "add three groups": (lambda: _adding(3), 1 + 2, 1),
    "remove a group": (lambda: (lambda user: lambda: user.groups.remove(*user.groups.all()))(
        in_groups(3)), 2 + 1, 2),
    "set no groups": (lambda: (lambda user: lambda: user.groups.set([]))(in_groups(3)), 2 + 1, 2),
    "clear": (lambda: (lambda user: user.groups.clear)(in_groups(3)), 1 + 2, 1),
}  # fmt: skip


def _off(user):
    user.is_active = False
    return user


def _adding(count):
    user, some = loaded(), groups(count)
    return lambda: user.groups.add(*some)


@pytest.mark.parametrize("name", COSTS)
def test_a_change_costs_no_query_that_the_trail_does_not_need(name):
    prepare, expected, _ = COSTS[name]
    work = prepare()

    counted = queries(work)

    # An entry of the trail is a row, and finds its place in the chain after the commit.
    entries = AuditEntry.objects.count()
    assert counted - entries <= expected
    assert name == "is_active" or not entries


@pytest.mark.parametrize("count", [0, 3])
def test_deleting_a_user_costs_as_much_whatever_the_number_of_groups(count):
    without = queries(in_groups(0).delete)
    User.objects.all().delete()
    Group.objects.all().delete()

    assert queries(in_groups(count).delete) <= without + (1 if count else 0)


def test_a_save_of_an_object_that_changed_meanwhile_asks_what_was(django_assert_num_queries):
    user = loaded()
    user.refresh_from_db()
    with django_assert_num_queries(1):
        user.save()
    user.is_staff = True
    user.save()
    user.is_staff = False
    user.save()

    assert [(one.action, one.detail) for one in AuditEntry.objects.order_by("pk")] == [
        ("user.changed", {"is_staff": True}),
        ("user.changed", {"is_staff": False}),
    ]


WORK = """
import django
django.setup()
from django.core.management import call_command
call_command("migrate", verbosity=0)
from django.contrib.auth.models import Group
from django.db import connection
from django.test.utils import CaptureQueriesContext
from tests.integration.auditing.test_costs_of_installing import COSTS
from django.contrib.auth.models import User
for name, (prepare, _, expected) in COSTS.items():
    work = prepare()
    with CaptureQueriesContext(connection) as context:
        work()
    verbs = [one["sql"].split()[0] for one in context.captured_queries]
    count = sum(one in ("SELECT", "INSERT", "UPDATE", "DELETE") for one in verbs)
    assert count == expected, (name, context.captured_queries)
    User.objects.all().delete()
    Group.objects.all().delete()
"""


def test_without_the_app_there_is_no_further_query(tmp_path):
    """Django itself asks more where somebody listens to its signals: nobody does."""
    (tmp_path / "quiet_settings.py").write_text(
        "from tests.settings import *\n"
        "DATABASES = {'default': {'ENGINE': 'django.db.backends.sqlite3', 'NAME': ':memory:'}}\n"
        "INSTALLED_APPS.remove('django_webhooks.auditing')\n"
    )
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WORK],
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "quiet_settings",
            "PYTHONPATH": os.pathsep.join([str(tmp_path), os.getcwd()]),
        },
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert ran.returncode == 0, ran.stderr
