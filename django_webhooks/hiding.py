"""Secrets in memory: values without a repr, and errors without the local variables that held them.

Tools that report errors (Sentry's SDK by default, Django's page for DEBUG) read the variables of
every frame of a traceback. Django's ``sensitive_variables`` is a request to Django alone. So code
that works with secrets is wrapped in :func:`hiding`: an error that leaves it has lost the variables
of the frames below, and keeps their names and lines.
"""

from __future__ import annotations

import functools
import sys
import traceback
from collections.abc import Callable
from typing import Any, Generic, NoReturn, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

MASK = "<secret>"


class Secret(Generic[T]):
    """A value that shows itself to :meth:`reveal` alone: not in repr, format, copies or pickles."""

    __slots__ = ("__value",)

    def __init__(self, value: T) -> None:
        self.__value = value

    def reveal(self) -> T:
        """Return the value, where no error can be raised while a variable holds it."""
        return self.__value

    def __repr__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return format(MASK, spec)

    def __copy__(self) -> Secret[T]:
        return self

    def __deepcopy__(self, memo: Any) -> Secret[T]:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("A secret is not pickled: it would be in the clear.")


class SecretText(str):
    """A text whose repr does not show it; in all else it is the text.

    The values of encrypted columns are such, so that they are not read out of the variables of a
    project's own frames. Sentry's SDK asks ``__sentry_repr__`` wherever it meets a value.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return MASK

    def __sentry_repr__(self) -> str:
        return MASK


class SecretDict(dict[str, Any]):
    """A dictionary whose repr does not show what is in it."""

    def __repr__(self) -> str:
        return MASK

    def __sentry_repr__(self) -> str:
        return MASK


def hidden_value(value: Any) -> Any:
    """Return a text or a dictionary as one whose repr does not show it; other values as they are.

    Subclasses of the two are left as they are.
    """
    if type(value) is str:
        return SecretText(value) if value else value
    if type(value) is dict:
        return SecretDict((key, hidden_value(one)) for key, one in value.items())
    return value


def hiding(function: Callable[P, R]) -> Callable[P, R]:
    """Let errors that leave a function carry no variables of it, of its arguments, or of calls.

    Not for generators: their frames outlive the call.
    """

    @functools.wraps(function)
    def hidden(*args: P.args, **kwargs: P.kwargs) -> R:
        handled = sys.exception()
        try:
            return function(*args, **kwargs)
        except BaseException as error:
            forget_variables(error, but=handled)
            # This frame is one of those that are read.
            del args, kwargs
            raise

    return hidden


def hide_arguments(owner: type, *names: str) -> None:
    """Wrap methods of a class that others have written, such as a manager's."""
    for name in names:
        setattr(owner, name, hiding(getattr(owner, name)))


def forget_variables(error: BaseException, *, but: BaseException | None = None) -> None:
    """Clear the variables of all frames of an error, and of its causes, that have ended.

    The variables of ``but``, which was being handled before, are left to its handler.
    """
    todo: list[BaseException | None] = [error]
    known: set[int] = {id(but)}
    while todo:
        one = todo.pop()
        if one is None or id(one) in known:
            continue
        known.add(id(one))
        if one.__traceback__ is not None:
            traceback.clear_frames(one.__traceback__)
        todo += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            todo += one.exceptions


def without_secrets(error: BaseException, mask: Callable[[str], str]) -> BaseException:
    """Return the error, or one in its place where it, or a cause of it, quotes a secret."""
    causes = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) and cause not in causes:
        causes.append(cause)
    said = [f"{type(one).__name__}: {one}" for one in causes]
    masked = [mask(one) for one in said]
    if masked == said:
        return error
    return RuntimeError("; caused by ".join(masked)).with_traceback(error.__traceback__)
