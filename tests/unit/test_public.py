"""What is public: the page and the modules name the same, and no page teaches anything else."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/reference/public.md").read_text(encoding="utf-8")
PUBLIC = {
    f"django_webhooks.{module}": re.findall(r"`(\w+)`", names)
    for module, names in re.findall(r"^\| `([a-z_.]+)` \| ([^|]+) \|", PAGE, re.M)
}
#: The contributing pages are about the inside, and the migrations' names are no imports.
TAUGHT = [
    ROOT / "README.md",
    *(path for path in (ROOT / "docs").rglob("*.md") if "contributing" not in path.parts),
]


@pytest.mark.parametrize("module", PUBLIC)
def test_the_page_has_the_names_of_a_module_and_no_others(module):
    found = importlib.import_module(module)

    assert sorted(found.__all__) == PUBLIC[module]
    assert [name for name in PUBLIC[module] if not hasattr(found, name)] == []


def imports(source: str) -> list[str]:
    """The names of the package that a source imports, and those that it asks modules of it for."""
    nodes = list(ast.walk(ast.parse(source)))
    found = {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in nodes
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("django_webhooks")
        for alias in node.names
    }
    asked = [
        f"{found[node.value.id]}.{node.attr}"
        for node in nodes
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and found.get(node.value.id) in PUBLIC
    ]
    return [*found.values(), *asked]


def test_the_search_finds_names_and_those_of_modules():
    source = "from django_webhooks import beat\nfrom django_webhooks.models import Event as E\n"

    assert imports(f"{source}print(beat.QUEUE, E.objects)") == [
        "django_webhooks.beat",
        "django_webhooks.models.Event",
        "django_webhooks.beat.QUEUE",
    ]


def is_public(name: str) -> bool:
    module, _, last = name.rpartition(".")
    return name in PUBLIC or last in PUBLIC.get(module, ())


@pytest.mark.parametrize("path", TAUGHT, ids=lambda path: str(path.relative_to(ROOT)))
def test_pages_teach_what_is_public(path):
    blocks = re.findall(r"^```python\n(.*?)^```", path.read_text("utf-8"), re.M | re.S)

    taught = [name for block in blocks for name in imports(block)]

    assert [name for name in taught if not is_public(name)] == []


def test_the_example_imports_what_is_public():
    taught = {
        name
        for path in (ROOT / "example_project").rglob("*.py")
        for name in imports(path.read_text("utf-8"))
    }

    assert {name for name in taught if not is_public(name)} == set()
