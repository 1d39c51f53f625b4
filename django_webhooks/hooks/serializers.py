"""Serializers: what makes the data of an object, and the data that it made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from django.db import models

from ..sending import wire


def data_of(
    serializer: Callable[..., Any],
    instance: models.Model,
    *,
    context: Callable[[], Mapping[str, Any]],
) -> Any:
    """Return the data that a serializer makes of an object.

    A class of REST framework is given the context; anything else takes the object alone.
    """
    made = (
        serializer(instance, context=context())
        if is_of_rest_framework(serializer)
        else serializer(instance)
    )
    if isinstance(made, Mapping | list | tuple | str) or wire.is_record(made):
        # They may have a field that is called data.
        return made
    return made.data if hasattr(made, "data") else made


def plain(data: Any) -> Any:
    """Return data as a dictionary where it is an object that is made of named fields."""
    if type(data) is not dict and wire.is_record(data):
        return wire.fields_of(data)
    return dict(data) if isinstance(data, Mapping) else data


def is_of_rest_framework(serializer: Any) -> bool:
    """Say whether it is a serializer class of REST framework, which takes a context."""
    return isinstance(serializer, type) and hasattr(serializer, "to_representation")


def names_urls(serializer: Any) -> list[str]:
    """Return the fields of a serializer class, inner ones included, that need a request.

    Raise whatever the class raises when its fields are made.
    """
    return list(_urls_in(serializer(), ""))


def _urls_in(serializer: Any, path: str) -> Iterator[str]:
    for name, field in getattr(serializer, "fields", {}).items():
        inner = getattr(field, "child", None) or getattr(field, "child_relation", None) or field
        # By name, so that the package need not be there.
        if any(kind.__name__ == "HyperlinkedRelatedField" for kind in type(inner).__mro__):
            yield f"{path}{name}"
        yield from _urls_in(inner, f"{path}{name}.")
