"""F24: a deploy, with old and new code side by side on the new schema.

There is no release before this one. So the next one is played: a copy of the package whose schema
has a further migration, which adds a column to every table that is written while it runs, and which
calls itself by another version. The code of this release runs beside it on the new schema, web
process and worker each, and reads and writes what the other wrote. That shows that this release can
be the old one: it names the columns that it writes, asks for no others, and its messages are
understood by both. It does not show that a migration to come is one that may be deployed so.
"""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest

import django_webhooks
from tests.acceptance.conftest import RABBITMQ, REDIS

from .conftest import FAULTS, campaign

pytestmark = [
    *FAULTS,
    pytest.mark.campaign,
    pytest.mark.stacks(campaign(REDIS), campaign(RABBITMQ)),
]
ROOT = Path(django_webhooks.__file__).parents[1]
TABLES = ("event", "delivery", "attempt", "subscription", "endpoint")
FIELD = "added_later"
MIGRATION = f'''
from django.db import migrations, models

class Migration(migrations.Migration):
    dependencies = [("django_webhooks", "{{last}}")]
    operations = [
        migrations.AddField(name, "{FIELD}", models.CharField(max_length=9, db_default="new"))
        for name in {TABLES!r}
    ]
'''


def next_release(folder: Path) -> Path:
    """Make a copy of the package with a further migration, and return the folder to run it from."""
    root = folder / "next"
    root.mkdir()
    package = root / "django_webhooks"
    shutil.copytree(ROOT / "django_webhooks", package)
    for name in ("tests", "example_project"):
        (root / name).symlink_to(ROOT / name)
    (package / "__init__.py").write_text('__version__ = "99.0"\n')
    last = max(one.stem for one in (package / "migrations").glob("0*.py"))
    (package / "migrations" / "9999_next.py").write_text(MIGRATION.replace("{last}", last))
    for name in TABLES:
        path = package / "models" / f"{name}.py"
        text = path.read_text()
        class_line = f"class {name.capitalize()}("
        at = text.index("\n    class Meta:", text.index(class_line))
        column = f'\n    {FIELD} = models.CharField(max_length=9, db_default="new")\n'
        path.write_text(text[:at] + column + text[at:])
    return root


def test_f24_old_and_new_code_side_by_side(harness, receiver, account, tmp_path):
    new = next_release(tmp_path)
    harness.subscribe(receiver.url)
    old_web = harness.web()
    harness.worker()
    harness.beat()
    old_site = harness.site
    assert harness.ask("before")

    harness.python(
        "from django.core.management import call_command\ncall_command('migrate', verbosity=0)",
        code=new,
    )
    harness.worker(code=new)
    harness.beat(code=new)
    new_web = harness.web(code=new)
    new_site = harness.site
    for number in range(60):
        harness.site = (old_site, new_site)[number % 2]
        assert harness.ask(f"thing {number}"), harness.log((old_web, new_web)[number % 2])
    harness.emit(200)
    account.clear()

    account.settle(extra=10)
    agents = Counter(one.headers["user-agent"] for one in receiver.requests)
    assert set(agents) == {"django-webhooks/99.0", f"django-webhooks/{django_webhooks.__version__}"}
    assert min(agents.values()) > 10, agents
    for name in TABLES:
        assert harness.query(f"SELECT DISTINCT {FIELD} FROM django_webhooks_{name}") == [("new",)]
