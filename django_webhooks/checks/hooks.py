"""Hooks whose serializers would fail at the first save that somebody hears."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.core.checks import CheckMessage, Error

from ..hooks import drafts, serializers
from .system_check import system_check


@system_check("webhooks")
def check_serializers(**kwargs: Any) -> Iterator[CheckMessage]:
    """Check that serializers of REST framework can be made, and are given what they need."""
    for hook in drafts.hooks.values():
        if serializers.is_of_rest_framework(hook.serializer):
            yield from _check(hook)


def _check(hook: Any) -> Iterator[CheckMessage]:
    name, serializer = type(hook).__name__, hook.serializer.__name__
    try:
        fields = serializers.names_urls(hook.serializer)
    except Exception as error:
        yield Error(
            f"{serializer}, the serializer of {name}, cannot make its fields: {error}",
            hint="Mend it, or write a payload(): every save that somebody hears would fail.",
            id="webhooks.E084",
            obj=type(hook),
        )
        return
    if fields and "request" not in hook.get_serializer_context():
        yield Error(
            f"{serializer}, the serializer of {name}, tells URLs ({', '.join(fields)}), and "
            "get_serializer_context() gives no request to make them with.",
            hint='Return {"request": None} there for relative URLs, or a request of your site.',
            id="webhooks.E089",
            obj=type(hook),
        )
