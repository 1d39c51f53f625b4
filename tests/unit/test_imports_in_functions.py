"""Imports stand at the top of a module: one inside a function hides a circle, or a dependency."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "django_webhooks"

PLUGIN = "pytest loads the package as a plugin before Django has its settings"
PROMETHEUS = "prometheus_client is optional"
USERS = "a project may do without django.contrib.auth"

#: The method of an app that Django calls once models may be imported.
READY = "ready"

#: Each module that imports inside a function: the names that it imports there, and the reason.
ALLOWED = {
    "auditing.permissions": ({"get_user_model", "Group", "Permission"}, USERS),
    "auditing.rules.users": ({"get_user_model"}, USERS),
    "inbox.extension": ({"metrics"}, PROMETHEUS),
    "metrics": ({"counting", "exposition"}, PROMETHEUS),
    "sending.database.loaders": ({"is_psycopg3"}, "psycopg is the driver of PostgreSQL alone"),
    "testing.capturing": ({"signing", "recording", "OwnerKey"}, PLUGIN),
    "testing.comparing": ({"DjangoJSONEncoder"}, PLUGIN),
    "testing.signed": ({"RequestFactory", "times", "wire", "__version__", "signing"}, PLUGIN),
    "views": ({"exposition"}, PROMETHEUS),
}


def imported_in_functions(source: str) -> set[str]:
    functions = (
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name != READY
    )
    return {
        alias.name
        for function in functions
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def test_functions_import_what_is_optional_alone():
    found = {
        name_of(path): names
        for path in PACKAGE.rglob("*.py")
        if (names := imported_in_functions(path.read_text()))
    }

    assert found == {name: names for name, (names, _) in ALLOWED.items()}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import a", set()),
        ("def f():\n    from .b import c", {"c"}),
        ("class A:\n    async def f(self):\n        if 1:\n            import d", {"d"}),
        ("class App:\n    def ready(self):\n        from . import models", set()),
        ("if TYPE_CHECKING:\n    from .e import f", set()),
    ],
)
def test_the_search_finds_them(source, expected):
    assert imported_in_functions(source) == expected
