"""Print the catalog of event types."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Sequence
from typing import Any

from django.core.management.base import BaseCommand
from django.core.serializers.json import DjangoJSONEncoder

from ... import catalog
from ...catalog import EventType


class Command(BaseCommand):
    """Print the catalog of event types for people, programs or documentation."""

    help = "Print the event types of this project as a table, JSON or Markdown."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--format", choices=sorted(_FORMATS), default="table", help="How to print them."
        )

    def handle(self, *, format: str, **options: Any) -> None:
        """Print them."""
        self.stdout.write(_FORMATS[format](catalog.all()))


def _table(event_types: Sequence[EventType]) -> str:
    width = max((len(one.name) for one in event_types), default=0)
    lines = [f"{one.name:{width}}  {_line(one.description)}".rstrip() for one in event_types]
    noun = "event type" if len(event_types) == 1 else "event types"
    return "\n".join([*lines, f"{len(event_types)} {noun}."])


def _json(event_types: Sequence[EventType]) -> str:
    rows = [
        {
            "name": one.name,
            "description": one.description,
            "schema": one.schema,
            "example": one.example,
        }
        for one in event_types
    ]
    return _dump(rows)


def _markdown(event_types: Sequence[EventType]) -> str:
    parts = ["# Event types"]
    for one in event_types:
        parts.append(f"## {one.name}")
        if one.description:
            parts.append(one.description)
        if one.schema is not None:
            parts.append(f"Schema of `data`:\n\n```json\n{_dump(one.schema)}\n```")
        if one.example is not None:
            parts.append(f"Example of `data`:\n\n```json\n{_dump(one.example)}\n```")
    return "\n\n".join(parts)


def _line(text: str) -> str:
    return " ".join(text.split())


def _dump(value: Any) -> str:
    # Examples may hold dates and Decimals, like the data itself.
    return json.dumps(value, cls=DjangoJSONEncoder, ensure_ascii=False, indent=2)


_FORMATS = {"table": _table, "json": _json, "markdown": _markdown}
