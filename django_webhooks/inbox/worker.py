"""Background: messages that a worker handles, each attempt in one transaction with its end.

An attempt is counted and its successor appointed before it begins, so that a handler that kills
its worker is not run for ever. The row is locked while the handler runs.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

from django.db import InterfaceError, OperationalError, connections, transaction
from django.http import HttpResponseBase

from .. import times
from ..commits import after_commit
from ..conf import settings
from ..exceptions import InvalidPayload
from ..fields import DatabaseNow
from ..policies.cleaning import clean
from ..policies.retry import RetryPolicy
from ..sending import database, health_checks
from ..sending.database import DatabaseClock
from . import again, deduplication, signals
from .models import InboxMessage
from .models.inbox_message import InboxMessageQuerySet

logger = logging.getLogger("django_webhooks.inbox")

#: Header of an answer that asks for no repeat, as receivers of ours may send it.
NO_RETRY = "webhook-no-retry"
#: Seconds after which a run begins no further message, as that of a worker that sends.
RUN_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """The result of a run: how much it did, whether more is due, and seconds until the next look.

    The look is for the first of the retries that the run itself appointed: others have their own.
    """

    handled: int = 0
    is_more_due: bool = False
    next_in: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Begun:
    """An attempt that was counted, and when the next one is due unless it ends well."""

    number: int
    next_at: datetime


class _Failed(Exception):
    """A handler answered that it failed."""

    def __init__(self, answer: HttpResponseBase) -> None:
        super().__init__(f"The handler answered {answer.status_code}.")
        self.is_final = answer.headers.get(NO_RETRY) == "1"


def store(row: InboxMessage, tell: Callable[[UUID], None], *, using: str) -> bool:
    """Store a message for a worker, and ``tell`` of it once committed; False where it is known."""
    row.status, row.attempts_made, row.answer = InboxMessage.Status.WAITING, 0, None
    row.finished_at, row.due_at = None, times.now()
    with transaction.atomic(using=using):
        if deduplication.is_known(row, using=using) or not deduplication.insert(row, using=using):
            return False
        # The database's clock, which workers share.
        InboxMessage.objects.using(using).filter(pk=row.pk).update(due_at=DatabaseNow())
        after_commit(lambda: tell(row.pk), using=using)
    return True


def drain(
    keys: Iterable[UUID] = (),
    *,
    using: str | None = None,
    max_seconds: float | None = None,
    is_patient: bool = True,
) -> Drained:
    """Handle the messages named, then what is due, until nothing is or the time is over.

    An impatient run, as an eager one, handles the messages named alone, where there are any.
    """
    using = using or deduplication.database()
    ends = time.monotonic() + (max_seconds or RUN_SECONDS)
    clock = DatabaseClock(using=using)
    rows = InboxMessage.objects.using(using)
    handled = 0
    named = list(keys)
    is_alone = bool(named) and not is_patient
    #: What another worker has.
    taken: set[UUID] = set()
    retries: list[datetime] = []
    while time.monotonic() < ends:
        if is_patient:
            health_checks.look(using=database.alias(), clock=clock)
        key = named.pop(0) if named else None if is_alone else _next(rows, clock(), but=taken)
        if key is None:
            break
        begun = _begin(key, now=clock(), using=using)
        if begun is None:
            taken.add(key)
        elif _attempt(key, begun.number, using=using):
            handled += 1
        else:
            retries.append(begun.next_at)
    now = clock()
    return Drained(
        handled=handled,
        is_more_due=bool(named) or _next(rows, now, but=taken) is not None,
        next_in=max(0.0, (min(retries) - now).total_seconds()) if retries else None,
    )


def count_due(*, limit: int, using: str | None = None, now: datetime | None = None) -> int:
    """Return how many messages are due, counting no further than ``limit``."""
    using = using or deduplication.database()
    now = now or DatabaseClock(using=using)()
    return InboxMessage.objects.using(using).due(now)[:limit].count()


def _next(rows: InboxMessageQuerySet, now: datetime, *, but: set[UUID]) -> UUID | None:
    due = rows.due(now).exclude(pk__in=but) if but else rows.due(now)
    return due.values_list("pk", flat=True).first()


def _begin(key: UUID, *, now: datetime, using: str) -> _Begun | None:
    """Count an attempt and appoint the next one; None where it is not to begin."""
    with transaction.atomic(using=using):
        row = _locked(InboxMessage.objects.using(using).due(now).filter(pk=key), using=using)
        if row is None:
            return None
        rows = InboxMessage.objects.using(using).filter(
            pk=key, status=InboxMessage.Status.WAITING, attempts_made=row.attempts_made
        )
        if row.attempts_made >= settings.WEBHOOKS_RETRY_ATTEMPTS:
            # The last attempt killed its worker.
            _give_up(rows, error=row.error or "interrupted")
            return None
        number = row.attempts_made + 1
        spread = random.random()  # nosec B311: it spreads retries
        next_at = now + timedelta(seconds=_policy().wait(number, random=spread))
        # Where rows cannot be locked the condition decides between two workers.
        if not rows.update(attempts_made=number, due_at=next_at):
            return None
        return _Begun(number=number, next_at=next_at)


def _attempt(key: UUID, number: int, *, using: str) -> bool:
    """Handle a message; say whether it ended well."""
    mine = InboxMessage.objects.using(using).filter(
        pk=key, status=InboxMessage.Status.WAITING, attempts_made=number
    )
    try:
        return _run(mine, using=using)
    except Exception as error:
        logger.exception("Message %s was not handled on attempt %d.", key, number)
        if isinstance(error, OperationalError | InterfaceError):
            connections[using].close_if_unusable_or_obsolete()
        # A malformed payload stays so.
        is_final = isinstance(error, InvalidPayload) or (
            isinstance(error, _Failed) and error.is_final
        )
        _fail(mine, error=_words(error), number=number, is_final=is_final)
        return False


def _run(mine: InboxMessageQuerySet, *, using: str) -> bool:
    with transaction.atomic(using=using):
        row = _locked(mine, using=using)
        ended = {"status": InboxMessage.Status.HANDLED, "due_at": None, "error": ""}
        if row is None or not mine.update(**ended, finished_at=times.now(), answer=204):
            return False
        answer = again.handle(row)
        if answer.status_code >= 400:
            raise _Failed(answer)
        InboxMessage.objects.using(using).filter(pk=row.pk).update(
            answer=answer.status_code, finished_at=times.now()
        )
    logger.info("Message %s was handled.", row.pk)
    return True


def _locked(rows: InboxMessageQuerySet, *, using: str) -> InboxMessage | None:
    if connections[using].features.has_select_for_update_skip_locked:
        rows = rows.select_for_update(skip_locked=True)
    return rows.first()


def _fail(mine: InboxMessageQuerySet, *, error: str, number: int, is_final: bool) -> None:
    if is_final or number >= settings.WEBHOOKS_RETRY_ATTEMPTS:
        _give_up(mine, error=error)
    else:
        mine.update(error=error)


def _give_up(rows: InboxMessageQuerySet, *, error: str) -> None:
    for row in rows:
        given_up = {"status": InboxMessage.Status.GIVEN_UP, "due_at": None, "error": error}
        if rows.update(**given_up, finished_at=times.now()):
            row.refresh_from_db(using=rows.db)
            after_commit(partial(_tell, row), using=rows.db)


def _tell(row: InboxMessage) -> None:
    signals.message_given_up.send_robust(InboxMessage, message=row)


def _words(error: Exception) -> str:
    text = str(error) if isinstance(error, _Failed) else f"{type(error).__name__}: {error}"
    return clean(text, limit=500)


def _policy() -> RetryPolicy:
    return RetryPolicy(
        base=settings.WEBHOOKS_RETRY_BASE_SECONDS,
        factor=settings.WEBHOOKS_RETRY_FACTOR,
        cap=settings.WEBHOOKS_RETRY_CAP_SECONDS,
    )
