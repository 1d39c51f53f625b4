"""The settings of this app from environment variables, by django-environ (the extra ``environ``).

At the end of a project's settings::

    from django_webhooks import environment

    globals().update(environment.read())

Each variable is named like its setting and read as the type that the setting has in ``conf``: a
list is written with commas (``10.1.0.0/16,10.2.0.0/16``), a dictionary as JSON, None as "none".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import environ
from django.core.exceptions import ImproperlyConfigured

from . import conf

__all__ = ["read"]

#: A dotted path, such as "shop.mail.recipients"; a mail address is none.
_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")
#: Names that are more alike than this are the same one, mistyped. Others may be anybody's:
#: Kubernetes sets WEBHOOKS_SERVICE_HOST beside a service of that name.
_LIKENESS = 0.9


def read(env: environ.Env | None = None) -> dict[str, Any]:
    """Return the settings whose variables the environment has.

    Raise ImproperlyConfigured, which names the variable, for a value that is not of its type, and
    for a name that is a setting's but for a slip.
    """
    env = env or environ.Env()
    types, names = get_type_hints(conf.Settings), conf.names()
    for name in sorted(env.ENVIRON):
        if (
            name.startswith(conf.PREFIX)
            and name not in names
            and (meant := conf.nearest(name, likeness=_LIKENESS))
        ):
            raise ImproperlyConfigured(f"{name} is no setting; did you mean {meant}?")
    return {name: _value(env, name, types[name]) for name in names if name in env}


def _value(env: environ.Env, name: str, hint: Any) -> Any:
    kinds = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    text = str(env.str(name)).strip()
    if type(None) in kinds and text.lower() in {"", "none"}:
        return None
    if len(kinds) > 1 and str in kinds and _PATH.fullmatch(text):
        return text
    kind = next(one for one in kinds if get_origin(one) is not Callable)
    try:
        return _read(env, name, text, kind)
    except ValueError as error:
        raise ImproperlyConfigured(f"{name} cannot be read from {text!r}: {error}") from error


def _read(env: environ.Env, name: str, text: str, kind: Any) -> Any:
    if kind is bool:
        known = dict.fromkeys(env.BOOLEAN_TRUE_STRINGS, True)
        known |= dict.fromkeys(("false", "off", "no", "n", "0", ""), False)
        if text.lower() not in known:
            raise ValueError("write true or false.")
        return known[text.lower()]
    if kind in (str, int, float):
        return kind(text)
    if get_origin(kind) is Mapping:
        return env.json(name)
    return env.list(name, cast=get_args(kind)[0]) if text else []
