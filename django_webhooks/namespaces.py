"""Namespaces: one alias of a database may lead to the tables of many tenants.

django-tenants and its like switch the schema of a connection between requests, and other projects
the name of its database. A process remembers by namespace what it remembers of rows.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from django.db import connections
from django.db.models import QuerySet

#: An alias, the name of its database, and the schema that is chosen in it.
Namespace = tuple[str, Hashable, str | None]


def of(using: str) -> Namespace:
    """Return what tells the tables of this alias, as it is now, from others of the same names.

    A ``search_path`` that is set past the connection, and policies that hide rows, cannot be seen
    here: there an event may be written that nobody hears, which the worker removes.
    """
    connection = connections[using]
    # The attribute of django-tenants, django-tenant-schemas and django-pgschemas.
    return using, connection.settings_dict["NAME"], getattr(connection, "schema_name", None)


def written_by(rows: QuerySet[Any]) -> str:
    """Return the alias that a query set writes to: its own, or that of the project's routers."""
    # The documented way to ask for a query set that reads where it writes; nothing is sent.
    return rows.select_for_update().db
