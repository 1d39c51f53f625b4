"""Re-encryption: write all that is kept encrypted under the key that encrypts now."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import models
from django.db.models import ExpressionWrapper, F, TextField, Value
from django.db.models.functions import Substr

from .. import encryption
from ..exceptions import NotDecrypted
from ..fields import BlindIndexField, Encrypted, encrypted_fields
from ..hiding import hiding
from .endpoint import Endpoint
from .signing_key import SigningKey
from .subscription import Subscription

#: Models that keep something encrypted.
MODELS: tuple[type[models.Model], ...] = (Endpoint, SigningKey)
#: Subscriptions that are named.
SHOWN = 10
#: Values read at once.
BATCH = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Reencrypted:
    """Numbers of values: under the current key, rewritten, and not to be opened."""

    current: int = 0
    rewritten: int = 0
    unreadable: int = 0
    missing_keys: frozenset[str] = frozenset()


def reencrypt(
    *,
    using: str,
    dry_run: bool = False,
    tell: Callable[[str, Reencrypted], None] | None = None,
) -> Reencrypted:
    """Re-encrypt every value, one by one, and return what was found.

    A value that is under the current key already is passed over, so that a run that was stopped
    goes on where it was. A value that somebody changes meanwhile is left to them. ``tell`` is
    called with the name of a column, and what was found so far, after each batch.
    """
    found = Reencrypted()
    for model in MODELS:
        for field in encrypted_fields(model):
            for batch in _batches(model, field, using=using):
                for key, ciphertext in batch:
                    found = _one(found, model, field, key, ciphertext, using=using, dry_run=dry_run)
                if tell is not None:
                    tell(field.context, found)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """Values that do not open: how many, the keys they need, and whose they are, by name."""

    values: int = 0
    missing_keys: frozenset[str] = frozenset()
    subscriptions: Sequence[str] = ()


def keys_in_use(*, using: str) -> dict[str, int]:
    """Return how many values need each encryption key, by its id; "" for what is no ciphertext."""
    first, *others = (
        _with_key_id(model, field, using=using)
        .order_by()
        .values("used")
        .annotate(count=models.Count("pk"))
        .values_list("used", "count")
        for model in MODELS
        for field in encrypted_fields(model)
    )
    found: dict[str, int] = {}
    # Django 6.1 orders the union by the Meta of its first model otherwise.
    for key, count in first.union(*others, all=True).order_by():
        found[key] = found.get(key, 0) + count
    return found


def unreadable(*, using: str) -> Unreadable:
    """Return what does not open with the keys there are, by the ids of keys alone.

    No worker has to have met it. A value that was changed under a key that is there is told once
    a worker has (``Subscription.unreadable_since``).
    """
    ring = encryption.keys()
    known = {key.id for key in ring}
    missing = {key: count for key, count in keys_in_use(using=using).items() if key not in known}
    rows = Subscription.objects.using(using)
    concerned = models.Q(unreadable_since__isnull=False)
    if missing:
        for model in MODELS:
            for field in encrypted_fields(model):
                affected = _with_key_id(model, field, using=using).exclude(used__in=known)
                concerned |= models.Q(pk__in=affected.order_by().values("subscription_id"))
    names = list(rows.filter(concerned).order_by("name").values_list("name", flat=True)[:SHOWN])
    return Unreadable(
        values=sum(missing.values()) or len(names),
        missing_keys=frozenset(key for key in missing if key),
        subscriptions=names,
    )


def _with_key_id(
    model: type[models.Model], field: Encrypted, *, using: str
) -> models.QuerySet[Any, Any]:
    """Return the rows that have a value, each with the id of the key that it needs."""
    start, length = len(encryption.PREFIX) + 1, len(encryption.keys()[0].id)
    rows = model._default_manager.using(using).annotate(raw=_raw(field)).exclude(raw="")
    is_ours = models.When(raw__startswith=encryption.PREFIX, then=Substr("raw", start, length))
    # A value written past the models may be a secret in clear, no part of which is shown.
    key = models.Case(is_ours, default=Value(""), output_field=TextField())
    found: models.QuerySet[Any, Any] = rows.annotate(used=key)
    return found


def _batches(
    model: type[models.Model], field: Encrypted, *, using: str
) -> Iterator[list[tuple[object, str]]]:
    rows = model._default_manager.using(using).annotate(raw=_raw(field)).exclude(raw="")
    rows = rows.order_by("pk")
    last = None
    while True:
        left = rows if last is None else rows.filter(pk__gt=last)
        batch = list(left.values_list("pk", "raw")[:BATCH])
        if not batch:
            return
        yield batch
        last = batch[-1][0]


@hiding
def _one(
    found: Reencrypted,
    model: type[models.Model],
    field: Encrypted,
    key: object,
    ciphertext: str,
    *,
    using: str,
    dry_run: bool,
) -> Reencrypted:
    if encryption.is_current(ciphertext):
        return _more(found, current=1)
    try:
        text = encryption.decrypt(ciphertext, context=field.context)
    except NotDecrypted as error:
        missing = {encryption.key_id(ciphertext)} if error.is_key_missing else set()
        return _more(found, unreadable=1, missing=missing)
    if not dry_run:
        columns = {field.name: _as_it_is(encryption.encrypt(text, context=field.context))}
        for index in model._meta.concrete_fields:
            if isinstance(index, BlindIndexField) and index.of == field.name:
                columns[index.name] = Value(index.value_of(text))
        unchanged = model._default_manager.using(using).annotate(raw=_raw(field))
        models.QuerySet.update(unchanged.filter(pk=key, raw=ciphertext), **columns)
    return _more(found, rewritten=1)


def _raw(field: Encrypted) -> ExpressionWrapper[F]:
    return ExpressionWrapper(F(field.name), output_field=TextField())


def _as_it_is(ciphertext: str) -> Value:
    return Value(ciphertext, output_field=TextField())


def _more(
    found: Reencrypted,
    *,
    current: int = 0,
    rewritten: int = 0,
    unreadable: int = 0,
    missing: frozenset[str] | set[str] = frozenset(),
) -> Reencrypted:
    return Reencrypted(
        current=found.current + current,
        rewritten=found.rewritten + rewritten,
        unreadable=found.unreadable + unreadable,
        missing_keys=found.missing_keys | missing,
    )
