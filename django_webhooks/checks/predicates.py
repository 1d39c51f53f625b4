"""Predicates of the values of settings, which know one value and nothing else."""

from __future__ import annotations

import math
import ssl
from collections.abc import Mapping
from os import PathLike
from typing import Any, TypeGuard

from django.apps import apps
from django.utils.module_loading import import_string

from .. import encryption
from ..conf import Settings
from ..exceptions import InvalidKey
from ..hiding import hiding
from ..policies import addresses, proxies
from ..receiving import targets

#: Kinds of rows that are kept for a while after they are over.
RETAINED = list(Settings.WEBHOOKS_RETENTION_DAYS)


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


def is_base_url(value: Any) -> bool:
    """Say whether the value is empty, or scheme and host of a URL, and maybe a path."""
    try:
        if isinstance(value, str) and value:
            targets.check_base(value)
    except ValueError:
        return False
    return isinstance(value, str)


def is_flag(value: Any) -> bool:
    """Say whether the value is True or False."""
    return isinstance(value, bool)


def is_retention(value: Any) -> bool:
    """Say whether the value gives days, or None, to kinds of rows."""
    return isinstance(value, Mapping) and all(
        kind in RETAINED and (days is None or is_not_negative(days)) for kind, days in value.items()
    )


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


def are_models(value: Any) -> bool:
    """Say whether the value is a list of labels of models that are installed."""
    if not isinstance(value, list | tuple) or not all(isinstance(one, str) for one in value):
        return False
    try:
        return all(apps.get_model(one) for one in value)
    except (LookupError, ValueError):
        return False


def are_ports(value: Any) -> bool:
    """Say whether the value is None or a collection of ports."""
    if value is None:
        return True
    return isinstance(value, list | tuple | set | frozenset) and all(
        is_count(one) and one < 65_536 for one in value
    )


@hiding
def are_keys(value: Any) -> bool:
    """Say whether the value is a list of different encryption keys."""
    if not isinstance(value, list | tuple):
        return False
    try:
        return len({encryption.key_bytes(one) for one in value}) == len(value)
    except InvalidKey:
        return False


@hiding
def is_proxy(value: Any) -> bool:
    """Say whether the value is empty or the URL of a proxy."""
    try:
        proxies.parse(value)
    except (ValueError, TypeError):
        return False
    return isinstance(value, str)


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
