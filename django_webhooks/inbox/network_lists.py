"""Network lists: the networks that a sender publishes, kept beside the inbox."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from django.db import transaction

from .. import audit_log, namespaces, process_state, times
from ..exceptions import UnusableList
from ..namespaces import Namespace
from ..policies.addresses import networks
from . import deduplication
from .models import NetworkList

#: Seconds for which a process remembers a list.
REMEMBERED = 60.0
#: Most bits that a network may leave open: wider ones are no list of a sender.
WIDEST = {4: 8, 6: 16}

_remembered: dict[tuple[Namespace, str], tuple[float, list[str] | None]] = process_state.remember(
    {}, forget=dict.clear
)


def of(name: str) -> list[str] | None:
    """Return the networks of a list, or None where it was never loaded."""
    using = deduplication.database()
    key = (namespaces.of(using), name)
    known = _remembered.get(key)
    if known is not None and time.monotonic() - known[0] < REMEMBERED:
        return known[1]
    row = NetworkList.objects.using(using).filter(pk=name).first()
    found = None if row is None else [str(one) for one in row.networks]
    _remembered[key] = (time.monotonic(), found)
    return found


def pick(document: Any, path: str) -> list[str]:
    """Return the networks at a path of a JSON document, such as ``items.cidr``.

    A part names a member of an object, or of each object of a list. Raise UnusableList where there
    is no text.
    """
    found: list[Any] = [document]
    for part in [one for one in path.split(".") if one]:
        members = [inner for one in found for inner in (one if isinstance(one, list) else [one])]
        found = [one[part] for one in members if isinstance(one, dict) and part in one]
    texts = [inner for one in found for inner in (one if isinstance(one, list) else [one])]
    if not texts or not all(isinstance(one, str) for one in texts):
        raise UnusableList(f"There is no list of networks at {path!r} of the document.")
    return texts


def check(texts: Iterable[str]) -> list[str]:
    """Return networks in their normal form, each once. Raise UnusableList for what is none."""
    try:
        found = networks(texts)
    except ValueError as error:
        raise UnusableList(f"The list holds what is no network: {error}") from None
    for one in found:
        if one.prefixlen < WIDEST[one.version]:
            raise UnusableList(f"{one} is wider than any sender's network.")
    return sorted({str(one) for one in found})


def store(name: str, texts: Iterable[str], *, origin: str, by: str, force: bool = False) -> int:
    """Replace a list by another one, and return how many networks it has.

    Raise UnusableList where it is empty, malformed, or without more than half of what is known,
    unless ``force`` is set.
    """
    using = deduplication.database()
    found = check(texts)
    if not found:
        raise UnusableList("The list is empty.")
    with transaction.atomic(using=using):
        before = NetworkList.objects.using(using).select_for_update().filter(pk=name).first()
        gone = set(before.networks) - set(found) if before else set()
        if before and len(gone) * 2 > len(before.networks) and not force:
            raise UnusableList(
                f"{len(gone)} of {len(before.networks)} networks would go; look at the list, and "
                "use --force where that is right."
            )
        row, _ = NetworkList.objects.using(using).update_or_create(
            pk=name,
            defaults={"networks": found, "origin": origin[:500], "loaded_at": times.now()},
        )
        added = len(set(found) - set(before.networks if before else ()))
        audit_log.log(
            "network_list.loaded", row, using=using, by=by, added=added, removed=len(gone)
        )
    _remembered.clear()
    return len(found)
