"""Bodies: an event's data serialised once, to the bytes that every attempt sends."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder

from ... import times
from ...conf import settings
from ...exceptions import PayloadError, PayloadTooLarge

#: Zeros that a Decimal is written out with at the most: 1E+2 is 100, and 1E+999999 stays itself.
_MAX_ZEROS = 400


class _Encoder(DjangoJSONEncoder):
    """Django's types as Django serialises them; nothing that JSON has no word for."""

    def default(self, o: Any) -> Any:
        if isinstance(o, Decimal):
            if not o.is_finite():
                raise ValueError(f"{o} has no place in JSON")
            return format(o, "f") if abs(o.adjusted()) < _MAX_ZEROS else str(o)
        if isinstance(o, datetime) and o.tzinfo is None:
            # A project with USE_TZ=False has local times, which tell a receiver no moment.
            o = times.aware(o)
        if is_record(o):
            return fields_of(o)
        return super().default(o)


def is_record(value: Any) -> bool:
    """Say whether it is made of named fields, as of dataclasses, pydantic, attrs and msgspec."""
    if isinstance(value, type):
        return False
    kind = type(value)
    return dataclasses.is_dataclass(kind) or any(hasattr(kind, name) for name in _RECORDS)


def fields_of(record: Any) -> Any:
    """Return the fields of such an object by name; their values are serialised as any."""
    kind = type(record)
    if hasattr(kind, "model_dump"):
        return record.model_dump(mode="json")
    if hasattr(kind, "__struct_fields__"):
        names = list(kind.__struct_fields__)
    elif hasattr(kind, "__attrs_attrs__"):
        names = [field.name for field in kind.__attrs_attrs__]
    else:
        names = [field.name for field in dataclasses.fields(record)]
    return {name: getattr(record, name) for name in names}


_RECORDS = ("model_dump", "__struct_fields__", "__attrs_attrs__")


_encode = _Encoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def serialise(event_type: str, data: Any, *, recorded_at: datetime) -> bytes:
    """Return the body of an event: its type, its timestamp in ISO 8601 UTC and its data, in UTF-8.

    Raise PayloadError, which names the place in the data, for what cannot be serialised, and
    PayloadTooLarge past WEBHOOKS_MAX_PAYLOAD_BYTES.
    """
    timestamp = times.aware(recorded_at).isoformat(timespec="milliseconds")
    envelope = {"type": event_type, "timestamp": timestamp.replace("+00:00", "Z"), "data": data}
    try:
        body = _encode(envelope).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise PayloadError(_explanation(data, error)) from error
    limit = settings.WEBHOOKS_MAX_PAYLOAD_BYTES
    if len(body) > limit:
        raise PayloadTooLarge(
            f"The body of this {event_type} event has {len(body):,} bytes, more than the "
            f"{limit:,} of WEBHOOKS_MAX_PAYLOAD_BYTES; send less, or a link to the rest."
        )
    return body


def _explanation(data: Any, error: Exception) -> str:
    place = None
    if not isinstance(error, RecursionError) and "Circular" not in str(error):
        with suppress(RecursionError):
            place = next(_culprits(data, "data"), ("data", data))
    if place is None:
        return "The data refers to itself or is nested too deeply; send a plain copy of it."
    path, value = place
    return (
        f"{path} cannot be sent as JSON: {type(value).__name__} ({error}). "
        "Send text, finite numbers, booleans, None, dates, UUIDs, Decimals, lists or dictionaries."
    )


def _culprits(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield each innermost part that does not serialise, with the path to it."""
    if _serialises(value):
        return
    if isinstance(value, Mapping):
        keys = (key for key in value if not _serialises({key: None}))
        yield from ((f"{path} (key {key!r})", key) for key in keys)
    for place, part in _parts(value, path):
        yield from _culprits(part, place)
    yield path, value


def _parts(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        yield from ((f"{path}.{key}", item) for key, item in value.items())
    elif isinstance(value, list | tuple):
        yield from ((f"{path}[{index}]", item) for index, item in enumerate(value))


def _serialises(value: Any) -> bool:
    try:
        _encode(value).encode()
    except (TypeError, ValueError):
        return False
    return True
