"""What a value of a setting may be: questions that know one value and nothing else."""

from __future__ import annotations

import math
import ssl
from collections.abc import Mapping
from os import PathLike
from typing import Any, TypeGuard
from urllib.parse import urlsplit

from django.utils.module_loading import import_string

from .. import encryption
from ..exceptions import InvalidKey
from ..models import Delivery, InboxMessage
from ..policies import addresses

#: Statuses of deliveries that are over.
FINISHED = [status.value for status in Delivery.Status if status != Delivery.Status.WAITING]

#: Statuses of received messages that are over.
HANDLED = [status.value for status in InboxMessage.Status if status != InboxMessage.Status.WAITING]


def is_number(value: Any) -> TypeGuard[float]:
    """Say whether the value is a finite number; True and False are none."""
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool)


def is_positive(value: Any) -> TypeGuard[float]:
    """Say whether the value is a finite number above 0."""
    return is_number(value) and value > 0


def is_not_negative(value: Any) -> bool:
    """Say whether the value is a finite number of at least 0."""
    return is_number(value) and value >= 0


def is_count(value: Any) -> bool:
    """Say whether the value is a whole number of at least 1."""
    return isinstance(value, int) and is_positive(value)


def is_module(value: Any) -> bool:
    """Say whether the value is the dotted name of a module."""
    return isinstance(value, str) and all(part.isidentifier() for part in value.split("."))


def is_flag(value: Any) -> bool:
    """Say whether the value is True or False."""
    return isinstance(value, bool)


def are_days(value: Any, *, of: list[str]) -> bool:
    """Say whether the value gives a number of days, or None, to some of these statuses."""
    return isinstance(value, Mapping) and all(
        status in of and (days is None or is_not_negative(days)) for status, days in value.items()
    )


def is_retention(value: Any) -> bool:
    """Say whether the value gives days to statuses of deliveries that are over."""
    return are_days(value, of=FINISHED)


def is_inbox_retention(value: Any) -> bool:
    """Say whether the value gives days to statuses of received messages that are over."""
    return are_days(value, of=HANDLED)


def is_callable(value: Any) -> bool:
    """Say whether the value is a callable or the path of one that can be imported."""
    if isinstance(value, str):
        try:
            return callable(import_string(value))
        except ImportError:
            return False
    return callable(value)


def is_flag_or_callable(value: Any) -> bool:
    """Say whether the value is True or False, or a callable or its path."""
    return is_flag(value) or is_callable(value)


def is_token(value: Any) -> bool:
    """Say whether the value is empty or a token that is long enough for a header."""
    return value == "" or (isinstance(value, str) and len(value) >= 16 and value.isascii())


def is_scope(value: Any) -> bool:
    """Say whether the value is None, or a callable or its path."""
    return value is None or is_callable(value)


def is_notify(value: Any) -> bool:
    """Say whether the value is a list of mail addresses, or a callable or its path."""
    if isinstance(value, str) or callable(value):
        return is_callable(value)
    return isinstance(value, list | tuple) and all(
        isinstance(one, str) and "@" in one for one in value
    )


def are_networks(value: Any) -> bool:
    """Say whether the value is a list of networks."""
    if not isinstance(value, list | tuple) or not all(isinstance(one, str) for one in value):
        return False
    try:
        addresses.networks(value)
    except ValueError:
        return False
    return True


def are_ports(value: Any) -> bool:
    """Say whether the value is None or a collection of ports."""
    if value is None:
        return True
    return isinstance(value, list | tuple | set | frozenset) and all(
        is_count(one) and one < 65_536 for one in value
    )


def are_keys(value: Any) -> bool:
    """Say whether the value is a list of different encryption keys."""
    if not isinstance(value, list | tuple):
        return False
    try:
        return len({encryption.key_bytes(one) for one in value}) == len(value)
    except InvalidKey:
        return False


def is_proxy(value: Any) -> bool:
    """Say whether the value is empty or the URL of a proxy."""
    if not isinstance(value, str):
        return False
    try:
        found = urlsplit(value)
        return not value or (
            found.scheme == "http"
            and bool(found.hostname)
            and found.port != 0
            and found.path in ("", "/")
        )
    except ValueError:
        return False


def is_ca_bundle(value: Any) -> bool:
    """Say whether the value is empty or the path of a file with certificates."""
    if not isinstance(value, str | PathLike):
        return False
    if not str(value):
        return True
    try:
        return bool(ssl.create_default_context(cafile=str(value)))
    except OSError:
        return False
