"""A system check as a generator of messages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

from django.core.checks import CheckMessage, register

from ..hiding import hiding

Find = Callable[..., Iterator[CheckMessage]]
Check = Callable[..., list[CheckMessage]]


def system_check(*tags: str, deploy: bool = False) -> Callable[[Find], Check]:
    """Register a generator of messages, under these tags, with Django.

    An error that leaves it holds no variables: settings hold secrets.
    """

    def decorate(find: Find) -> Check:
        @register(*tags, deploy=deploy)
        @hiding
        @wraps(find)
        def check(**kwargs: Any) -> list[CheckMessage]:
            return list(find(**kwargs))

        return check

    return decorate
