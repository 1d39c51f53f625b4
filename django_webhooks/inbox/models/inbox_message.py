"""Received messages: each is processed once, whoever sends it how often.

    (none) --handled in the request, in one transaction--> handled
    (none) --stored for a worker--> waiting
    waiting --the handler returned--> handled
    waiting --the handler failed--> waiting
    waiting --it failed too often, or asked for no repeat--> given_up
    handled, given_up --replayed by hand--> waiting

A request whose handler fails leaves no row: its sender repeats it.
"""

from __future__ import annotations

from datetime import datetime

from django.db import models
from django.utils.translation import gettext, pgettext_lazy
from django.utils.translation import gettext_lazy as _

from ... import times
from ...fields import DatabaseNow, UTCDateTimeField, UUID7Field
from ...models.owner import Owned


class InboxMessageQuerySet(models.QuerySet["InboxMessage"]):
    """Named sets of received messages."""

    def waiting(self) -> InboxMessageQuerySet:
        """Return the messages that a worker is to handle."""
        return self.filter(status=InboxMessage.Status.WAITING)

    def due(self, now: datetime) -> InboxMessageQuerySet:
        """Return the messages that a worker may handle now, the longest due first."""
        return self.filter(due_at__lte=now).order_by("due_at", "pk")

    def given_up(self) -> InboxMessageQuerySet:
        """Return the messages whose handler failed for good."""
        return self.filter(status=InboxMessage.Status.GIVEN_UP)

    def replay(self) -> int:
        """Have those that are over handled again by a worker, and return how many that were.

        Messages that wait are left alone, and so are those kept without their payloads.
        """
        over = self.exclude(status=InboxMessage.Status.WAITING).filter(has_payload=True)
        return over.update(
            status=InboxMessage.Status.WAITING,
            due_at=DatabaseNow(),
            attempts_made=0,
            error="",
            answer=None,
            finished_at=None,
        )

    def try_now(self) -> int:
        """Make those due now that wait for a moment, and return how many that were."""
        return self.waiting().update(due_at=DatabaseNow())


class InboxMessage(Owned):
    """One message of a sender, however often it came."""

    class Status(models.TextChoices):
        """The states of a message; the module's docstring has the moves."""

        WAITING = "waiting", pgettext_lazy("received message", "Waiting")
        HANDLED = "handled", pgettext_lazy("received message", "Handled")
        GIVEN_UP = "given_up", pgettext_lazy("received message", "Given up")

    id = UUID7Field()
    source = models.CharField(_("received by"), max_length=200, help_text=_("The view's name."))
    scheme = models.CharField(_("scheme"), max_length=40)
    message_id = models.CharField(_("message id"), max_length=200, db_index=True)
    #: Of view, owner and message id: what may be there once.
    digest = models.CharField(max_length=64, unique=True, editable=False)
    event_type = models.CharField(_("event type"), max_length=100, blank=True)
    path = models.CharField(_("path"), max_length=500, editable=False)
    headers = models.JSONField(_("headers"), default=dict, blank=True)
    body = models.BinaryField(_("body"))
    #: Seconds, as the sender signed them.
    timestamp = models.BigIntegerField(_("timestamp"), null=True, blank=True)
    has_payload = models.BooleanField(_("payload is kept"), default=True)
    status = models.CharField(
        _("status"), max_length=10, choices=Status.choices, default=Status.WAITING
    )
    due_at = UTCDateTimeField(_("due"), null=True, blank=True)
    attempts_made = models.PositiveIntegerField(_("attempts"), default=0)
    answer = models.PositiveSmallIntegerField(
        _("answer"), null=True, blank=True, help_text=_("The status that the handler returned.")
    )
    error = models.CharField(_("error"), max_length=500, blank=True)
    repeats = models.PositiveIntegerField(
        _("repeats"), default=0, help_text=_("How often it came again, and was not handled again.")
    )
    received_at = UTCDateTimeField(_("received"), default=times.now)
    finished_at = UTCDateTimeField(_("finished"), null=True, blank=True)

    objects = InboxMessageQuerySet.as_manager()

    class Meta:
        db_table = "django_webhooks_inbox_message"
        verbose_name = _("received message")
        verbose_name_plural = _("received messages")
        ordering = ["-id"]
        permissions = [("replay_inboxmessage", "Can have received messages handled again, or now")]
        indexes = [
            # Messages that wait for a worker. MySQL and MariaDB ignore the condition.
            models.Index(
                fields=["due_at"],
                condition=models.Q(due_at__isnull=False),
                name="webhooks_inbox_due",
            ),
            # Messages that may be pruned.
            models.Index(fields=["status", "finished_at"], name="webhooks_inbox_finished"),
            models.Index(fields=["source", "id"], name="webhooks_inbox_source"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=(
                    models.Q(status="waiting", due_at__isnull=False, finished_at__isnull=True)
                    | (
                        ~models.Q(status="waiting")
                        & models.Q(due_at__isnull=True, finished_at__isnull=False)
                    )
                ),
                name="webhooks_inbox_waits_or_is_over",
            ),
        ]

    def __str__(self) -> str:
        return self.message_id

    @property
    def is_over(self) -> bool:
        """Whether no worker will handle it by itself."""
        return self.status != self.Status.WAITING

    def explain(self) -> str:
        """Return in one sentence what became of it, or what it waits for and until when."""
        words = {
            "time": times.written(self.due_at or self.finished_at),
            "number": self.attempts_made,
            "error": self.error or "-",
            "answer": self.answer or 204,
        }
        match self.status:
            case self.Status.HANDLED:
                text = gettext("Handled at %(time)s on attempt %(number)d, answered %(answer)d.")
            case self.Status.GIVEN_UP:
                text = gettext(
                    "Given up at %(time)s on attempt %(number)d (%(error)s); it can be replayed."
                )
            case _ if not self.attempts_made:
                text = gettext("Waits for a worker since %(time)s.")
            case _:
                text = gettext(
                    "Attempt %(number)d has begun; unless it ends well, the next one is due at "
                    "%(time)s (%(error)s)."
                )
        return text % words
