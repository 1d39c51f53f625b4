"""Whether the database of the webhooks is one that this app is tested with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, Tags, Warning
from django.db import connections

from ..sending import database
from .system_check import system_check

#: The vendors whose SQL this app speaks, as Django names them; MariaDB's is MySQL's.
SUPPORTED = {"postgresql": "PostgreSQL", "mysql": "MariaDB", "sqlite": "SQLite"}
#: The first MariaDB with SKIP LOCKED. Source: https://mariadb.com/kb/en/select/#skip-locked
MARIADB = (10, 6)


@system_check("webhooks")
def check_vendor(**kwargs: Any) -> Iterator[CheckMessage]:
    """Check that the kind of database is supported."""
    using = database.alias()
    connection = connections[using]
    if connection.vendor in SUPPORTED or connection.vendor == "unknown":
        # Without a database Django has a dummy, as where an image is built.
        return
    yield Error(
        f"The tables of django_webhooks live in DATABASES[{using!r}], on "
        f"{connection.display_name}, which is not supported: leases and the clock need SQL "
        "of their own for each database.",
        hint=f"Use {', '.join(SUPPORTED.values())}, or route the app django_webhooks to such "
        "a database by DATABASE_ROUTERS.",
        id="webhooks.E130",
    )


@system_check(Tags.database)
def check_server(databases: Sequence[str] | None = None, **kwargs: Any) -> Iterator[CheckMessage]:
    """Check that the server is one that tests are run with; asks it."""
    using = database.alias()
    connection: Any = connections[using]
    if using not in (databases or ()) or connection.vendor != "mysql":
        return
    if connection.mysql_is_mariadb and connection.mysql_version >= MARIADB:
        return
    name = "MariaDB" if connection.mysql_is_mariadb else "MySQL"
    version = ".".join(map(str, connection.mysql_version))
    yield Warning(
        f"DATABASES[{using!r}] is {name} {version}, which django_webhooks is not tested with.",
        hint="Use MariaDB 10.6 or newer, PostgreSQL or SQLite.",
        id="webhooks.W131",
    )


@system_check("webhooks")
def check_schemas(**kwargs: Any) -> Iterator[CheckMessage]:
    """Check that the tables are in the schema that workers and beat see (django-tenants)."""
    own: set[str] = set(getattr(django_settings, "TENANT_APPS", ()))
    shared: set[str] = set(getattr(django_settings, "SHARED_APPS", ()))
    names = {"django_webhooks", "django_webhooks.apps.WebhooksConfig"}
    if not own & names or shared & names:
        return
    yield Error(
        "django_webhooks is in TENANT_APPS and not in SHARED_APPS: workers and beat run in the "
        "public schema, where they find no tables.",
        hint="Move it to SHARED_APPS, with the tenant as owner; or put it into both, and run "
        "the task of docs/howto/works-with.md for each tenant.",
        id="webhooks.E131",
    )
