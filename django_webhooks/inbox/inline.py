"""Once: a message is handled in its request, in one transaction with the row that says so."""

from __future__ import annotations

from collections.abc import Callable

from django.db import transaction
from django.http import HttpResponse, HttpResponseBase

from . import deduplication
from .models import InboxMessage


class _Undone(Exception):
    """The handler answered that it failed: nothing of it is to stay."""

    def __init__(self, answer: HttpResponseBase) -> None:
        super().__init__(answer.status_code)
        self.answer = answer


def handle(
    row: InboxMessage, run: Callable[[], HttpResponseBase], *, using: str
) -> HttpResponseBase:
    """Return the handler's answer, or 200 without running it where the message was handled.

    An answer of 400 or more, like an exception, undoes the row and what the handler wrote.
    """
    try:
        with transaction.atomic(using=using):
            if not deduplication.insert(row, using=using):
                return HttpResponse(status=200)
            answer = run()
            if answer.status_code >= 400:
                raise _Undone(answer)
            if answer.status_code != row.answer:
                mine = InboxMessage.objects.using(using).filter(pk=row.pk)
                mine.update(answer=answer.status_code)
            return answer
    except _Undone as undone:
        return undone.answer
