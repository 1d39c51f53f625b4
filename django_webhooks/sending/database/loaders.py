"""Loading what a lease needs: few statements, whose text costs nothing to make.

Before each request stand a delivery with its event, and a subscription with its endpoints, their
health and its keys. Django builds such queries anew each time, which takes several times as long as
the database does; here their columns and conversions are worked out once in a process.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar
from uuid import UUID

from django.db import connections, models

from ... import process_state
from ...models import Delivery, Endpoint, EndpointHealth, SigningKey, Subscription

Row = TypeVar("Row", bound=models.Model)

#: Keys that one statement names at the most: some databases bound their parameters.
NAMED = 500
#: What belongs to a subscription, each with the row that it refers to.
_BELONGINGS: tuple[tuple[type[Endpoint | SigningKey], tuple[str, ...]], ...] = (
    (Endpoint, ("health",)),
    (SigningKey, ()),
)


def deliveries(keys: Collection[UUID], *, token: UUID, using: str) -> list[Delivery]:
    """Return those of these deliveries that the lease holds, by id, with all that sending needs."""
    if len(keys) == 1 and _gives_several_results(connections[using]):
        return _one(*keys, token=token, using=using)
    found = _find(Delivery, "id", keys, follow=("event",), using=using)
    held = sorted((one for one in found if one.lease_token == token), key=lambda one: one.pk)
    theirs = {one.subscription_id for one in held if one.subscription_id is not None}
    known = subscriptions(theirs, using=using)
    for delivery in held:
        if delivery.subscription_id is not None:
            delivery.subscription = known.get(delivery.subscription_id)
    return held


def subscriptions(keys: Collection[UUID], *, using: str) -> dict[UUID, Subscription]:
    """Return these subscriptions with their endpoints, the health of these, and their keys."""
    if not keys:
        return {}
    found = {one.pk: one for one in _find(Subscription, "id", keys, using=using)}
    _complete(found, using=using)
    return found


def _one(key: UUID, *, token: UUID, using: str) -> list[Delivery]:
    """Return one delivery, in one trip: each costs an idle system more than what it asks for."""
    connection = connections[using]
    text = _text(Delivery, "id", ("event", "subscription"), using)
    parts = [_text(model, "subscription", follow, using) for model, follow in _BELONGINGS]
    # No user input is interpolated.
    its = f"(SELECT subscription_id FROM {text.table} WHERE id = %s)"  # nosec B608
    sql = "; ".join(
        [f"{text.select} (%s) AND t0.lease_token = %s", *(f"{one.select} {its}" for one in parts)]
    )
    with connection.cursor() as cursor:
        cursor.execute(sql, [key, token, *[key] * len(parts)])
        rows = cursor.fetchall()
        belongings = [cursor.nextset() and cursor.fetchall() for _ in parts]
    held: list[Delivery] = [_row(text, values, connection, using=using) for values in rows]
    found = {one.subscription.pk: one.subscription for one in held if one.subscription}
    for part, values in zip(parts, belongings, strict=True):
        own = [_row(part, one, connection, using=using) for one in values]
        _hand_out(found, part.parts[0].model, own, using=using)
    return held


def _gives_several_results(connection: Any) -> bool:
    """Say whether one call may have several statements, each with rows of its own."""
    if connection.vendor != "postgresql":
        return False
    from django.db.backends.postgresql.psycopg_any import is_psycopg3

    return bool(is_psycopg3 and not connection.features.uses_server_side_binding)


def _complete(found: dict[UUID, Subscription], *, using: str) -> None:
    """Let subscriptions know their endpoints, the health of these, and their keys."""
    for model, follow in _BELONGINGS if found else ():
        own = _find(model, "subscription", found, follow=follow, using=using)
        _hand_out(found, model, own, using=using)


def endpoint_health(endpoints: Collection[UUID], *, using: str) -> dict[UUID, EndpointHealth]:
    """Return the health of these endpoints."""
    return {one.pk: one for one in _find(EndpointHealth, "endpoint", endpoints, using=using)}


def _hand_out(
    owners: dict[UUID, Subscription],
    model: type[models.Model],
    rows: Iterable[Endpoint | SigningKey],
    *,
    using: str,
) -> None:
    """Let each subscription know its rows, as ``prefetch_related`` does."""
    shares: dict[UUID, list[Any]] = {key: [] for key in owners}
    for row in rows:
        # One that was moved or deleted meanwhile has no owner here.
        if row.subscription_id in owners:
            row.subscription = owners[row.subscription_id]
            shares[row.subscription_id].append(row)
    belongs: Any = model._meta.get_field("subscription")
    name = belongs.remote_field.get_accessor_name()
    for key, owner in owners.items():
        known: Any = models.QuerySet(model, using=using)
        known._result_cache, known._prefetch_done = shares[key], True
        cache = owner.__dict__.setdefault("_prefetched_objects_cache", {})
        cache[name] = known


@dataclass(frozen=True, slots=True)
class _Part:
    """A model as a part of a row: its names, and what turns the values of the database into its."""

    model: type[models.Model]
    names: tuple[str, ...]
    converters: tuple[tuple[int, Any, tuple[Any, ...]], ...]

    def read(self, values: Sequence[Any], connection: Any, *, using: str) -> Any:
        """Return the row, or None where it is not there."""
        found = list(values)
        if all(value is None for value in found):
            return None
        for place, column, functions in self.converters:
            for convert in functions:
                found[place] = convert(found[place], column, connection)
        return self.model.from_db(using, self.names, found)


@dataclass(frozen=True, slots=True)
class _Text:
    """The parts of the text of a query, and how its rows are read."""

    columns: str
    table: str
    joined: str
    #: All of it but the keys.
    select: str
    key: Any
    parts: tuple[_Part, ...]
    follow: tuple[str, ...]


def _find(
    model: type[Row],
    name: str,
    keys: Collection[UUID],
    *,
    follow: tuple[str, ...] = (),
    using: str,
) -> list[Row]:
    """Return the rows whose field is one of the keys, each with the rows that it refers to."""
    text = _text(model, name, follow, using)
    connection, wanted = connections[using], list(keys)
    found: list[Row] = []
    for begin in range(0, len(wanted), NAMED):
        some = wanted[begin : begin + NAMED]
        params = [text.key.get_db_prep_value(key, connection) for key in some]
        with connection.cursor() as cursor:
            cursor.execute(f"{text.select} ({', '.join(['%s'] * len(some))})", params)
            rows = cursor.fetchall()
        found += [_row(text, values, connection, using=using) for values in rows]
    return found


def _row(text: _Text, values: Sequence[Any], connection: Any, *, using: str) -> Any:
    own, *others = text.parts
    end = len(own.names)
    row = own.read(values[:end], connection, using=using)
    for name, part in zip(text.follow, others, strict=True):
        begin, end = end, end + len(part.names)
        other = part.read(values[begin:end], connection, using=using)
        relation: Any = own.model._meta.get_field(name)
        relation.set_cached_value(row, other)
        if other is not None and relation.one_to_one:
            relation.remote_field.set_cached_value(other, row)
    return row


@process_state.memo
@lru_cache(maxsize=64)
def _text(model: type[models.Model], name: str, follow: tuple[str, ...], using: str) -> _Text:
    quote: Callable[[Any], str] = connections[using].ops.quote_name
    table = quote(model._meta.db_table)
    # Short names: the text is read anew each time.
    parts, joined = [_part(model, using)], ""
    for number, one in enumerate(follow, start=1):
        relation: Any = model._meta.get_field(one)
        other = relation.related_model
        ((here, there),) = relation.get_joining_fields()
        parts.append(_part(other, using))
        beside = quote(other._meta.db_table)
        joined += (
            f" LEFT JOIN {beside} t{number}"
            f" ON t0.{quote(here.column)} = t{number}.{quote(there.column)}"
        )
    columns = ", ".join(
        f"t{number}.{quote(field.column)}"
        for number, part in enumerate(parts)
        for field in part.model._meta.concrete_fields
    )
    field: Any = model._meta.get_field(name)
    return _Text(
        columns=columns,
        table=table,
        joined=joined,
        # Names of ours alone; keys are parameters.
        select=f"SELECT {columns} FROM {table} t0{joined} "  # nosec B608
        f"WHERE t0.{quote(field.column)} IN",
        key=getattr(field, "target_field", field),
        parts=tuple(parts),
        follow=follow,
    )


def _part(model: type[models.Model], using: str) -> _Part:
    connection = connections[using]
    converters = []
    for place, field in enumerate(model._meta.concrete_fields):
        column = field.get_col(model._meta.db_table)
        functions = (
            *connection.ops.get_db_converters(column),
            *column.get_db_converters(connection),
        )
        if functions:
            converters.append((place, column, functions))
    names = tuple(field.attname for field in model._meta.concrete_fields)
    return _Part(model=model, names=names, converters=tuple(converters))
