"""Intake: whether a message is here for the first time, decided by a unique row.

The row of a message is inserted in the transaction in which the message is handled. An insert of
the same message at that moment waits for the end of that transaction, for a bounded time: after a
commit the message was handled, after a rollback the next one handles it.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import OperationalError, connections, router, transaction
from django.db.models import F

from .. import times
from ..policies.cleaning import clean
from ..receiving.handlers import Handling
from ..receiving.message import Message
from .models import InboxMessage

logger = logging.getLogger("django_webhooks.inbox")

#: Bytes of all headers that are kept, and characters of each.
MAX_HEADERS, MAX_HEADER = 16_384, 2_048
#: Seconds for which a message waits for the same one that is being handled just now: most handlers
#: end within, and senders wait for longer than that.
WAIT_SECONDS = 5.0
#: Seconds that a repeat waits to be counted.
COUNT_WAIT_SECONDS = 0.5


def database() -> str:
    """Return the alias of the database of the inbox: handlers write to the same one."""
    return router.db_for_write(InboxMessage)


def row(message: Message, *, handling: Handling, path: str, captured: Any) -> InboxMessage:
    """Return the row of a message that is handled in its request.

    ``captured`` is what the URL captures: it tells tenants apart where no owner is named.
    """
    return InboxMessage(
        source=handling.source,
        owner_type=message.owner.type,
        owner_id=message.owner.id,
        scheme=message.scheme[:40],
        message_id=message.id,
        digest=digest(message, source=handling.source, captured=captured),
        event_type=clean(message.event_type)[:100],
        path=path[:500],
        headers=_headers(message),
        body=message.body if handling.keep_payload else b"",
        has_payload=handling.keep_payload,
        timestamp=message.timestamp,
        status=InboxMessage.Status.HANDLED,
        attempts_made=1,
        answer=204,
        finished_at=times.now(),
    )


def digest(message: Message, *, source: str, captured: Any) -> str:
    """Return what is unique for a view, an owner and a message id."""
    owner = message.owner
    whose = [owner.type, owner.id] if owner.type else ["", json.dumps(captured, default=str)]
    text = json.dumps([source, *whose, message.id])
    return hashlib.sha256(text.encode()).hexdigest()


def insert(row: InboxMessage, *, using: str) -> bool:
    """Insert a row; False where its message is there already, which is counted.

    Call it in a transaction. Raise OperationalError where the same message is being handled for
    longer than WAIT_SECONDS.
    """
    rows = InboxMessage.objects.using(using)
    with _bounded_wait(using, seconds=WAIT_SECONDS):
        rows.bulk_create([row], ignore_conflicts=True)
    if rows.filter(pk=row.pk).exists():
        return True
    _count_repeat(row, using=using)
    return False


def is_known(row: InboxMessage, *, using: str) -> bool:
    """Say whether a message is stored already, which is counted.

    Unlike an insert, it does not wait for a worker that handles the message at this moment.
    """
    if not InboxMessage.objects.using(using).filter(digest=row.digest).exists():
        return False
    _count_repeat(row, using=using)
    return True


def _count_repeat(row: InboxMessage, *, using: str) -> None:
    """Count a repeat, unless a worker holds the row, which it does while its handler runs."""
    known = InboxMessage.objects.using(using).filter(digest=row.digest)
    try:
        with transaction.atomic(using=using), _bounded_wait(using, seconds=COUNT_WAIT_SECONDS):
            known.update(repeats=F("repeats") + 1)
    except OperationalError as error:
        logger.info("A repeat of message %s was not counted: %s", row.message_id, error)


@contextmanager
def _bounded_wait(using: str, *, seconds: float) -> Iterator[None]:
    """Wait for locks of others for a bounded time, and leave the connection as it was."""
    connection = connections[using]
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('lock_timeout')")
            before = cursor.fetchone()[0]
            set_timeout = "SELECT set_config('lock_timeout', %s, true)"
            cursor.execute(set_timeout, [f"{max(1, round(seconds * 1000))}ms"])
            yield
            # A rollback restores it too.
            cursor.execute(set_timeout, [before])
    elif connection.vendor == "mysql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT @@SESSION.innodb_lock_wait_timeout")
            before = cursor.fetchone()[0]
            set_timeout = "SET SESSION innodb_lock_wait_timeout = %s"
            cursor.execute(set_timeout, [max(1, round(seconds))])
            try:
                yield
            finally:
                # Django itself runs nothing more in a transaction that is broken.
                with connection.wrap_database_errors:
                    cursor.cursor.execute(set_timeout, [before])
    else:
        # SQLite waits for its one writer as long as the connection's own option says.
        yield


def _headers(message: Message) -> dict[str, str]:
    kept: dict[str, str] = {}
    size = 0
    for name, value in message.headers.items():
        size += len(name) + len(value)
        if len(value) <= MAX_HEADER and size <= MAX_HEADERS:
            kept[name] = clean(value)
    return kept
