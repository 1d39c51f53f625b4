"""EndpointHealth: whether an endpoint may be called, and the failover flags of its subscription.

A row beside each endpoint, so that what workers learn and what people edit do not overwrite each
other. A change of one locks all rows of the subscription first, so that a switch is decided once.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from django.db import models
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from .. import times
from ..fields import UTCDateTimeField
from ..policies import health as policy
from ..policies.failover import Candidate
from .subscription import Subscription


class EndpointHealthQuerySet(models.QuerySet["EndpointHealth"]):
    """Named sets of health rows."""

    def flowing(self) -> EndpointHealthQuerySet:
        """The active ones of subscriptions all of whose deliveries may flow, one for each.

        The rule of :attr:`.Subscription.flows`.
        """
        return self.filter(
            is_active=True,
            slow_start_released__isnull=True,
            endpoint__disabled_at__isnull=True,
            subscription__status=Subscription.Status.ACTIVE,
            subscription__unreadable_since__isnull=True,
        )

    def failing(self) -> EndpointHealthQuerySet:
        """Return those of enabled endpoints that may not be called, or only on trial."""
        return self.filter(failing_since__isnull=False, endpoint__disabled_at__isnull=True)


class EndpointHealth(models.Model):
    """Whether one endpoint may be called, since when, why, and whether it is the active one."""

    class State(models.TextChoices):
        """The module ``policies.health`` has the moves."""

        # The endpoint may be called.
        HEALTHY = "healthy", pgettext_lazy("health", "Healthy")
        # The endpoint is not called.
        UNHEALTHY = "unhealthy", pgettext_lazy("health", "Unhealthy")
        # One delivery at a time may try it.
        TRIAL = "trial", pgettext_lazy("health", "On trial")

    endpoint = models.OneToOneField(
        "Endpoint", on_delete=models.CASCADE, primary_key=True, related_name="health"
    )
    subscription = models.ForeignKey(
        Subscription, on_delete=models.CASCADE, related_name="endpoint_health"
    )
    #: True or NULL, so that a unique constraint allows one active endpoint on every database.
    is_active = models.BooleanField(_("active"), null=True, default=None)
    state = models.CharField(
        _("health"), max_length=10, choices=State.choices, default=State.HEALTHY
    )
    since = UTCDateTimeField(_("since"), default=times.now)
    reason = models.CharField(_("reason"), max_length=40, blank=True)
    failing_since = UTCDateTimeField(_("failing since"), null=True, blank=True)
    failures = models.PositiveIntegerField(_("failures in a row"), default=0)
    refusals = models.PositiveIntegerField(_("of them 3xx and 4xx"), default=0)
    failing_event = models.UUIDField(null=True, blank=True, editable=False)
    failed_events_differ = models.BooleanField(default=False, editable=False)
    probe_failures = models.PositiveIntegerField(_("failed probes in a row"), default=0)
    window_began = UTCDateTimeField(null=True, blank=True, editable=False)
    window_attempts = models.PositiveIntegerField(default=0, editable=False)
    window_failures = models.PositiveIntegerField(default=0, editable=False)
    hold_seconds = models.FloatField(_("hold in seconds"), default=0.0)
    hold_until = UTCDateTimeField(_("held until"), null=True, blank=True)
    probe_successes = models.PositiveIntegerField(_("successful probes in a row"), default=0)
    trial_until = UTCDateTimeField(null=True, blank=True, editable=False)
    slow_start_released = models.PositiveIntegerField(
        _("slow start"),
        null=True,
        blank=True,
        help_text=_("Deliveries released since it recovered; empty: all flow."),
    )
    fully_released_at = UTCDateTimeField(
        null=True,
        blank=True,
        editable=False,
        help_text=_("When all that waited was released after a slow start."),
    )
    succeeded_at = UTCDateTimeField(_("last success"), null=True, blank=True)
    failed_at = UTCDateTimeField(_("last failure"), null=True, blank=True)
    probed_at = UTCDateTimeField(_("last probe"), null=True, blank=True)
    probe_due_at = UTCDateTimeField(_("next probe"), default=times.now)
    probe_token = models.UUIDField(null=True, blank=True, editable=False)
    notified_state = models.CharField(max_length=10, default=State.HEALTHY, editable=False)

    objects = EndpointHealthQuerySet.as_manager()

    if TYPE_CHECKING:
        subscription_id: UUID
        endpoint_id: UUID

    class Meta:
        verbose_name = _("health")
        verbose_name_plural = _("health")
        indexes = [
            models.Index(fields=["probe_due_at"], name="webhooks_health_probe_due"),
            # Rows that each sweep looks for. MySQL and MariaDB ignore the condition.
            models.Index(
                fields=["fully_released_at"],
                condition=models.Q(fully_released_at__isnull=False),
                name="webhooks_health_flowed",
            ),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["subscription", "is_active"], name="webhooks_one_active_endpoint"
            ),
            models.CheckConstraint(
                condition=models.Q(is_active__isnull=True) | models.Q(is_active=True),
                name="webhooks_active_or_null",
            ),
            models.CheckConstraint(
                condition=(
                    models.Q(state="healthy", failing_since__isnull=True)
                    | (~models.Q(state="healthy") & models.Q(failing_since__isnull=False))
                ),
                name="webhooks_failing_has_since",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.endpoint}: {self.get_state_display()}"

    @property
    def is_callable(self) -> bool:
        """Whether deliveries may go to it freely."""
        return self.state == self.State.HEALTHY

    @property
    def flows(self) -> bool:
        """Whether all that its subscription waits for may flow to it."""
        return bool(self.is_active) and self.slow_start_released is None and self.endpoint.is_usable

    @property
    def as_candidate(self) -> Candidate:
        """The value that the choice of the active endpoint takes."""
        return Candidate(
            key=self.endpoint_id,
            position=self.endpoint.position,
            state=self.value,
            is_pinned=self.endpoint.is_pinned,
            is_active=bool(self.is_active),
        )

    @property
    def value(self) -> policy.State:
        """The state with its data, as the policy takes it."""
        if self.state == self.State.HEALTHY or self.failing_since is None:
            return policy.Healthy(
                since=self.since,
                failures=self.failures,
                refusals=self.refusals,
                event=self.failing_event,
                events_differ=self.failed_events_differ,
                probe_failures=self.probe_failures,
                window_began=self.window_began,
                window_attempts=self.window_attempts,
                window_failures=self.window_failures,
                hold=self.hold_seconds,
            )
        if self.state == self.State.TRIAL:
            return policy.Trial(
                since=self.since,
                failing_since=self.failing_since,
                reason=self.reason,
                hold=self.hold_seconds,
                event=self.failing_event,
            )
        return policy.Unhealthy(
            since=self.since,
            failing_since=self.failing_since,
            reason=self.reason,
            hold=self.hold_seconds,
            until=self.hold_until or self.since,
            probe_successes=self.probe_successes,
        )

    def become(self, state: policy.State) -> None:
        """Take over what the policy decided; save the row to keep it."""
        if type(state) is not type(self.value):
            self.trial_until = None
            # A changed state is looked at soon, not when the old one would have been.
            self.probe_due_at = state.since
        self.since, self.hold_seconds = state.since, state.hold
        self.failures = self.refusals = self.probe_failures = self.probe_successes = 0
        self.window_attempts = self.window_failures = 0
        self.window_began = self.failing_event = self.hold_until = None
        self.failed_events_differ = False
        match state:
            case policy.Healthy():
                self.state, self.failing_since, self.reason = self.State.HEALTHY, None, ""
                self.failures, self.refusals = state.failures, state.refusals
                self.probe_failures = state.probe_failures
                self.failing_event = state.event if isinstance(state.event, UUID) else None
                self.failed_events_differ = state.events_differ
                self.window_began = state.window_began
                self.window_attempts = state.window_attempts
                self.window_failures = state.window_failures
            case policy.Unhealthy():
                self.state, self.hold_until = self.State.UNHEALTHY, state.until
                self.failing_since, self.reason = state.failing_since, state.reason[:40]
                self.probe_successes = state.probe_successes
            case _:
                self.state = self.State.TRIAL
                self.failing_event = state.event if isinstance(state.event, UUID) else None
                self.failing_since, self.reason = state.failing_since, state.reason[:40]

    def reset(self, *, now: datetime) -> None:
        """Forget what was learnt, as if the endpoint were new."""
        self.become(policy.Healthy(since=now))
        self.slow_start_released = None
