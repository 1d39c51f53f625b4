"""Bodies: an event's data serialised once, to the bytes that every attempt sends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder

from ..conf import settings
from ..exceptions import PayloadError, PayloadTooLarge


class _Encoder(DjangoJSONEncoder):
    """Django's types as Django serialises them; nothing that JSON has no word for."""

    def default(self, o: Any) -> Any:
        if isinstance(o, Decimal) and not o.is_finite():
            raise ValueError(f"{o} has no place in JSON")
        return super().default(o)


_encode = _Encoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def serialise(event_type: str, data: Any, *, recorded_at: datetime) -> bytes:
    """Return the body of an event: its type, its timestamp in ISO 8601 UTC and its data, in UTF-8.

    Raise PayloadError, which names the place in the data, for what cannot be serialised, and
    PayloadTooLarge past WEBHOOKS_MAX_PAYLOAD_BYTES.
    """
    timestamp = recorded_at.astimezone(UTC).isoformat(timespec="milliseconds")
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
