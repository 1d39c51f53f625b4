"""Arguments that several commands share: subscriptions by key, name or all."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence
from uuid import UUID

from django.core.management.base import CommandError

from ..models import Subscription


def add_arguments(parser: ArgumentParser) -> None:
    """Take keys or names, or --all."""
    parser.add_argument("subscriptions", nargs="*", help="Keys or names of subscriptions.")
    parser.add_argument("--all", action="store_true", help="All subscriptions.")


def subscriptions(named: Sequence[str], *, all: bool, using: str) -> list[Subscription]:
    """Return the subscriptions. Raise CommandError where one is not found, or none is named."""
    rows = Subscription.objects.using(using)
    if all:
        return list(rows)
    if not named:
        raise CommandError("Name at least one subscription, or use --all.")
    return [one for name in named for one in _found(name, using=using)]


def _found(name: str, *, using: str) -> list[Subscription]:
    rows = Subscription.objects.using(using)
    try:
        found = list(rows.filter(pk=UUID(name)))
    except ValueError:
        found = list(rows.filter(name=name))
    if not found:
        raise CommandError(f"There is no subscription {name!r}; name it by its key or its name.")
    if len(found) > 1:
        keys = ", ".join(str(one.pk) for one in found)
        raise CommandError(f"Several subscriptions are named {name!r}: use a key of {keys}.")
    return found
