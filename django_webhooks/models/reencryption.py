"""Re-encryption: write all that is kept encrypted under the key that encrypts now."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from django.db import models
from django.db.models import ExpressionWrapper, F, TextField, Value

from .. import encryption
from ..exceptions import NotDecrypted
from ..fields import BlindIndexField, Encrypted, encrypted_fields
from .endpoint import Endpoint
from .signing_key import SigningKey

#: Models that keep something encrypted.
MODELS: tuple[type[models.Model], ...] = (Endpoint, SigningKey)
#: Values read at once.
BATCH = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Reencrypted:
    """What was found: values under the current key, rewritten ones, and those that do not open."""

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

    What is under the current key already is passed over, so that a run that was stopped goes on
    where it was. A value that somebody changes meanwhile is left to them. ``tell`` is called with
    the name of a column, and what was found so far, after each batch.
    """
    found = Reencrypted()
    for model in MODELS:
        for field in encrypted_fields(model):
            for batch in _batches(model, field, using=using):
                for key, ciphertext in batch:
                    found = _one(found, model, field, key, ciphertext, using=using, dry_run=dry_run)
                if tell is not None:
                    tell(field.place, found)
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
        text = encryption.decrypt(ciphertext, place=field.place)
    except NotDecrypted as error:
        missing = {encryption.key_id(ciphertext)} if error.is_key_missing else set()
        return _more(found, unreadable=1, missing=missing)
    if not dry_run:
        columns = {field.name: _as_it_is(encryption.encrypt(text, place=field.place))}
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
