"""Delivery options: how a subscription is sent to, where that is not what the settings say."""

from __future__ import annotations

from typing import Any

from django.core.validators import MinValueValidator
from django.db import models
from django.utils.translation import gettext, pgettext_lazy
from django.utils.translation import gettext_lazy as _

from ..conf import settings
from ..policies import health
from ..policies.health import StatusPolicy, Thresholds
from ..policies.rate import Limits
from ..policies.retry import RetryPolicy
from ..validators import LONGEST_SECONDS, SLOWEST_RATE, validate_rate, validate_seconds


def _count(
    name: Any, default: str | int
) -> models.PositiveSmallIntegerField[int | None, int | None]:
    return models.PositiveSmallIntegerField(
        name,
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text=_("At least 1; empty: %(setting)s.") % {"setting": default},
    )


def _seconds(name: Any, default: str) -> models.FloatField[float | None, float | None]:
    return models.FloatField(
        name,
        null=True,
        blank=True,
        validators=[validate_seconds],
        help_text=_("Seconds; empty: %(setting)s.") % {"setting": default},
    )


def _empty_or(*names: str, **bounds: int) -> models.Q:
    """Return the condition that each of these columns is empty, or within the bounds."""
    condition = models.Q()
    for name in names:
        within = models.Q(**{f"{name}__{lookup}": bound for lookup, bound in bounds.items()})
        condition &= models.Q(**{f"{name}__isnull": True}) | within
    return condition


class DeliveryOptions(models.Model):
    """How long, how often and how fast a subscription is sent to; None is what the settings say."""

    class Statuses(models.TextChoices):
        """Which answers count against an endpoint."""

        # All that do not say that a delivery was taken, but 429.
        NON_2XX = StatusPolicy.NON_2XX.value, pgettext_lazy("statuses", "Any answer but 2xx")
        # The receiver refuses events one by one.
        SERVER_ERRORS = (
            StatusPolicy.SERVER_ERRORS.value,
            pgettext_lazy("statuses", "5xx and silence"),
        )

    timeout_seconds = models.FloatField(
        _("time-out"),
        null=True,
        blank=True,
        validators=[validate_seconds],
        help_text=_("Seconds for one attempt in all; empty: WEBHOOKS_TIMEOUT_SECONDS."),
    )
    retry_attempts = models.PositiveSmallIntegerField(
        _("attempts"),
        null=True,
        blank=True,
        help_text=_("Attempts at the most; empty: WEBHOOKS_RETRY_ATTEMPTS."),
    )
    retry_base_seconds = models.FloatField(
        _("first wait"),
        null=True,
        blank=True,
        validators=[validate_seconds],
        help_text=_("Seconds before the first retry; empty: WEBHOOKS_RETRY_BASE_SECONDS."),
    )
    retry_cap_seconds = models.FloatField(
        _("longest wait"),
        null=True,
        blank=True,
        validators=[validate_seconds],
        help_text=_("Seconds between two attempts at the most; empty: WEBHOOKS_RETRY_CAP_SECONDS."),
    )
    client_errors_final = models.BooleanField(
        _("client errors are final"),
        default=False,
        help_text=_(
            "Give up on 4xx answers other than 408, 425 and 429, once no other healthy endpoint is "
            "left to try."
        ),
    )
    rate_limit_per_second = models.FloatField(
        _("requests a second"),
        null=True,
        blank=True,
        validators=[validate_rate],
        help_text=_("Over all workers, above 0; 0.5 is one in two seconds. Empty: %(setting)s.")
        % {"setting": "WEBHOOKS_RATE_LIMIT_PER_SECOND"},
    )
    max_in_flight = models.PositiveIntegerField(
        _("requests in flight"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text=_("At once, over all workers, at least 1; empty: %(setting)s.")
        % {"setting": "WEBHOOKS_MAX_IN_FLIGHT_PER_SUBSCRIPTION"},
    )
    health_statuses = models.CharField(
        _("what counts as failing"),
        max_length=10,
        blank=True,
        choices=Statuses.choices,
        help_text=_(
            "Which answers count against an endpoint; empty: WEBHOOKS_HEALTH_STATUSES. Choose 5xx "
            "and silence where the receiver refuses events one by one."
        ),
    )
    health_fall = _count(_("failures to fall"), "WEBHOOKS_HEALTH_FALL")
    health_rise = _count(_("probes to rise"), "WEBHOOKS_HEALTH_RISE")
    health_window_seconds = _seconds(_("failure window"), f"{health.WINDOW_SECONDS:g}")
    health_window_attempts = _count(_("attempts in it"), health.WINDOW_ATTEMPTS)
    health_window_share = models.FloatField(
        _("share that fails"),
        null=True,
        blank=True,
        help_text=_("Above 0, at most 1; empty: %(setting)s.") % {"setting": health.WINDOW_SHARE},
    )
    health_hold_seconds = _seconds(_("first hold"), "WEBHOOKS_HEALTH_HOLD_SECONDS")
    health_hold_cap_seconds = models.FloatField(
        _("longest hold"),
        null=True,
        blank=True,
        validators=[validate_seconds],
        help_text=_("Seconds; empty: %(factor)s times the first hold.")
        % {"factor": health.HOLD_CAP_FACTOR},
    )
    disable_after_seconds = _seconds(_("disabled after"), "WEBHOOKS_DISABLE_AFTER_SECONDS")

    class Meta:
        abstract = True
        constraints = [
            models.CheckConstraint(
                condition=_empty_or("rate_limit_per_second", gt=0)
                & _empty_or("max_in_flight", gte=1),
                name="webhooks_sub_limits_positive",
                violation_error_message=_(
                    "Limits are above 0; to send nothing, pause the subscription."
                ),
            ),
            models.CheckConstraint(
                condition=_empty_or("retry_attempts", gte=1),
                name="webhooks_sub_attempts_positive",
                violation_error_message=_("Allow at least one attempt."),
            ),
            models.CheckConstraint(
                condition=_empty_or(
                    "timeout_seconds", "retry_base_seconds", "retry_cap_seconds", gt=0
                )
                & _empty_or(
                    "health_window_seconds", "health_hold_seconds", "health_hold_cap_seconds", gt=0
                )
                & _empty_or("disable_after_seconds", gt=0),
                name="webhooks_sub_times_positive",
                violation_error_message=_("Times are positive numbers of seconds."),
            ),
            models.CheckConstraint(
                condition=_empty_or("health_fall", "health_rise", gte=1)
                & _empty_or("health_window_attempts", gte=1)
                & _empty_or("health_window_share", gt=0, lte=1),
                name="webhooks_sub_thresholds_sane",
                violation_error_message=_(
                    "Numbers of failures, probes and attempts are at least 1, the share is above 0 "
                    "and at most 1."
                ),
            ),
        ]

    @property
    def attempt_timeout(self) -> float:
        """Seconds for one attempt in all; always ends well before its lease."""
        wanted = (
            settings.WEBHOOKS_TIMEOUT_SECONDS
            if self.timeout_seconds is None
            else self.timeout_seconds
        )
        return float(min(wanted, settings.WEBHOOKS_LEASE_SECONDS * 0.75))

    @property
    def retry_policy(self) -> RetryPolicy:
        """How often and how long a delivery to it is tried."""
        return RetryPolicy(
            attempts=_first(self.retry_attempts, settings.WEBHOOKS_RETRY_ATTEMPTS),
            base=_first(self.retry_base_seconds, settings.WEBHOOKS_RETRY_BASE_SECONDS),
            factor=settings.WEBHOOKS_RETRY_FACTOR,
            cap=_first(self.retry_cap_seconds, settings.WEBHOOKS_RETRY_CAP_SECONDS),
            max_age=settings.WEBHOOKS_EVENT_MAX_AGE_SECONDS,
        )

    @property
    def limits(self) -> Limits:
        """How many requests may go to it, over all workers."""
        rate = _first(self.rate_limit_per_second, settings.WEBHOOKS_RATE_LIMIT_PER_SECOND)
        return Limits(
            # A row that nobody validated must not stop its neighbours by moments out of range.
            rate=None if rate is None else max(rate, SLOWEST_RATE),
            in_flight=_first(self.max_in_flight, settings.WEBHOOKS_MAX_IN_FLIGHT_PER_SUBSCRIPTION),
        )

    @property
    def limit_words(self) -> str:
        """The limits in effect as people say them, empty where there is none."""
        limits, parts = self.limits, []
        if limits.rate is not None:
            parts.append(gettext("%(rate)g a second") % {"rate": limits.rate})
        if limits.in_flight is not None:
            parts.append(gettext("%(count)d at once") % {"count": limits.in_flight})
        return ", ".join(parts)

    @property
    def status_policy(self) -> StatusPolicy:
        """Which answers count against its endpoints."""
        chosen = self.health_statuses or settings.WEBHOOKS_HEALTH_STATUSES
        # A row that nobody validated must not stop its neighbours.
        only_servers = chosen == StatusPolicy.SERVER_ERRORS
        return StatusPolicy.SERVER_ERRORS if only_servers else StatusPolicy.NON_2XX

    @property
    def health_thresholds(self) -> Thresholds:
        """When its endpoints fall and rise."""
        hold = _bounded(self.health_hold_seconds, settings.WEBHOOKS_HEALTH_HOLD_SECONDS)
        return Thresholds(
            fall=_first(self.health_fall, settings.WEBHOOKS_HEALTH_FALL),
            rise=_first(self.health_rise, settings.WEBHOOKS_HEALTH_RISE),
            window=_bounded(self.health_window_seconds, health.WINDOW_SECONDS),
            window_attempts=_first(self.health_window_attempts, health.WINDOW_ATTEMPTS),
            window_share=_first(self.health_window_share, health.WINDOW_SHARE),
            hold=hold,
            hold_cap=_bounded(self.health_hold_cap_seconds, hold * health.HOLD_CAP_FACTOR),
        )

    @property
    def disabled_after(self) -> float:
        """Seconds for which all its endpoints may fail before it is disabled."""
        return _bounded(self.disable_after_seconds, settings.WEBHOOKS_DISABLE_AFTER_SECONDS)


def _first(own: Any, default: Any) -> Any:
    return default if own is None else own


def _bounded(own: float | None, default: float) -> float:
    """Return seconds of which a moment can be made, whatever a row that nobody validated says."""
    return float(min(_first(own, default), LONGEST_SECONDS))
