"""Loggers are named by area, as the documentation lists them, so that a project routes by them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def asked_for(source: str) -> list[str]:
    """The arguments of ``logging.getLogger`` in a source."""
    return [
        ast.unparse(argument)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("getLogger")
        for argument in node.args
    ]


def test_the_loggers_are_those_of_the_documentation():
    page = (ROOT / "docs/howto/watch.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `(django_webhooks\.\w+)` \|", page, re.M))

    names = {
        name
        for path in (ROOT / "django_webhooks").rglob("*.py")
        for name in asked_for(path.read_text(encoding="utf-8"))
    }

    assert {ast.literal_eval(name) for name in names} == documented
