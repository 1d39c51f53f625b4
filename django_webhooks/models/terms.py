"""Terms: how a subscription is sent to, where that is not what the settings say."""

from __future__ import annotations

from typing import Any

from django.core.validators import MinValueValidator
from django.db import models
from django.utils.translation import gettext_lazy as _

from ..conf import settings
from ..policies.health import Thresholds
from ..policies.rate import Limits
from ..policies.retry import RetryPolicy
from ..validators import LONGEST_SECONDS, SLOWEST_RATE, validate_rate, validate_seconds


def _count(name: Any, setting: str) -> models.PositiveSmallIntegerField[int | None, int | None]:
    return models.PositiveSmallIntegerField(
        name,
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text=_("At least 1; empty: %(setting)s.") % {"setting": setting},
    )


def _seconds(name: Any, setting: str) -> models.FloatField[float | None, float | None]:
    return models.FloatField(
        name,
        null=True,
        blank=True,
        validators=[validate_seconds],
        help_text=_("Seconds; empty: %(setting)s.") % {"setting": setting},
    )


class Terms(models.Model):
    """How long, how often and how fast a subscription is sent to; None is what the settings say."""

    timeout = models.FloatField(
        _("time-out"),
        null=True,
        blank=True,
        validators=[validate_seconds],
        help_text=_("Seconds for one attempt in all; empty: WEBHOOKS_TIMEOUT."),
    )
    retry_attempts = models.PositiveSmallIntegerField(
        _("attempts"),
        null=True,
        blank=True,
        help_text=_("Attempts at the most; empty: WEBHOOKS_RETRY_ATTEMPTS."),
    )
    retry_base = models.FloatField(
        _("first wait"),
        null=True,
        blank=True,
        validators=[validate_seconds],
        help_text=_("Seconds before the first retry; empty: WEBHOOKS_RETRY_BASE."),
    )
    retry_cap = models.FloatField(
        _("longest wait"),
        null=True,
        blank=True,
        validators=[validate_seconds],
        help_text=_("Seconds between two attempts at the most; empty: WEBHOOKS_RETRY_CAP."),
    )
    client_errors_final = models.BooleanField(
        _("client errors are final"),
        default=False,
        help_text=_("Give up on 4xx answers other than 408, 425 and 429."),
    )
    rate_limit = models.FloatField(
        _("requests a second"),
        null=True,
        blank=True,
        validators=[validate_rate],
        help_text=_("Over all workers, above 0; 0.5 is one in two seconds. Empty: %(setting)s.")
        % {"setting": "WEBHOOKS_RATE_LIMIT"},
    )
    max_in_flight = models.PositiveIntegerField(
        _("requests in flight"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text=_("At once, over all workers, at least 1; empty: %(setting)s.")
        % {"setting": "WEBHOOKS_MAX_IN_FLIGHT_PER_SUBSCRIPTION"},
    )
    health_fall = _count(_("failures to fall"), "WEBHOOKS_HEALTH_FALL")
    health_rise = _count(_("probes to rise"), "WEBHOOKS_HEALTH_RISE")
    health_window = _seconds(_("failure window"), "WEBHOOKS_HEALTH_WINDOW")
    health_window_attempts = _count(_("attempts in it"), "WEBHOOKS_HEALTH_WINDOW_ATTEMPTS")
    health_window_share = models.FloatField(
        _("share that fails"),
        null=True,
        blank=True,
        help_text=_("Above 0, at most 1; empty: WEBHOOKS_HEALTH_WINDOW_SHARE."),
    )
    health_hold = _seconds(_("first hold"), "WEBHOOKS_HEALTH_HOLD")
    health_hold_cap = _seconds(_("longest hold"), "WEBHOOKS_HEALTH_HOLD_CAP")
    disable_after = _seconds(_("disabled after"), "WEBHOOKS_DISABLE_AFTER")

    class Meta:
        abstract = True
        constraints = [
            models.CheckConstraint(
                condition=(
                    (models.Q(rate_limit__isnull=True) | models.Q(rate_limit__gt=0))
                    & (models.Q(max_in_flight__isnull=True) | models.Q(max_in_flight__gte=1))
                ),
                name="webhooks_sub_limits_positive",
                violation_error_message=_(
                    "Limits are above 0; to send nothing, pause the subscription."
                ),
            ),
            models.CheckConstraint(
                condition=models.Q(retry_attempts__isnull=True) | models.Q(retry_attempts__gte=1),
                name="webhooks_sub_attempts_positive",
                violation_error_message=_("Allow at least one attempt."),
            ),
            models.CheckConstraint(
                condition=(
                    (models.Q(timeout__isnull=True) | models.Q(timeout__gt=0))
                    & (models.Q(retry_base__isnull=True) | models.Q(retry_base__gt=0))
                    & (models.Q(retry_cap__isnull=True) | models.Q(retry_cap__gt=0))
                    & (models.Q(health_window__isnull=True) | models.Q(health_window__gt=0))
                    & (models.Q(health_hold__isnull=True) | models.Q(health_hold__gt=0))
                    & (models.Q(health_hold_cap__isnull=True) | models.Q(health_hold_cap__gt=0))
                    & (models.Q(disable_after__isnull=True) | models.Q(disable_after__gt=0))
                ),
                name="webhooks_sub_times_positive",
                violation_error_message=_("Times are positive numbers of seconds."),
            ),
            models.CheckConstraint(
                condition=(
                    (models.Q(health_fall__isnull=True) | models.Q(health_fall__gte=1))
                    & (models.Q(health_rise__isnull=True) | models.Q(health_rise__gte=1))
                    & (
                        models.Q(health_window_attempts__isnull=True)
                        | models.Q(health_window_attempts__gte=1)
                    )
                    & (
                        models.Q(health_window_share__isnull=True)
                        | models.Q(health_window_share__gt=0, health_window_share__lte=1)
                    )
                ),
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
        wanted = settings.WEBHOOKS_TIMEOUT if self.timeout is None else self.timeout
        return float(min(wanted, settings.WEBHOOKS_LEASE_SECONDS * 0.75))

    @property
    def retry_policy(self) -> RetryPolicy:
        """How often and how long a delivery to it is tried."""
        return RetryPolicy(
            attempts=_first(self.retry_attempts, settings.WEBHOOKS_RETRY_ATTEMPTS),
            base=_first(self.retry_base, settings.WEBHOOKS_RETRY_BASE),
            factor=settings.WEBHOOKS_RETRY_FACTOR,
            cap=_first(self.retry_cap, settings.WEBHOOKS_RETRY_CAP),
            jitter=settings.WEBHOOKS_RETRY_JITTER,
            retry_after_cap=settings.WEBHOOKS_RETRY_AFTER_CAP,
            max_age=settings.WEBHOOKS_EVENT_MAX_AGE,
        )

    @property
    def limits(self) -> Limits:
        """How many requests may go to it, over all workers."""
        rate = _first(self.rate_limit, settings.WEBHOOKS_RATE_LIMIT)
        return Limits(
            # A row that nobody validated must not stop its neighbours by moments out of range.
            rate=None if rate is None else max(rate, SLOWEST_RATE),
            in_flight=_first(self.max_in_flight, settings.WEBHOOKS_MAX_IN_FLIGHT_PER_SUBSCRIPTION),
        )

    @property
    def limit_words(self) -> str:
        """The limits in effect as people say them, empty where there is none."""
        from .flow import words  # it refers to subscriptions

        return words(self.limits)

    @property
    def health_thresholds(self) -> Thresholds:
        """When its endpoints fall and rise."""
        return Thresholds(
            fall=_first(self.health_fall, settings.WEBHOOKS_HEALTH_FALL),
            rise=_first(self.health_rise, settings.WEBHOOKS_HEALTH_RISE),
            window=_bounded(self.health_window, settings.WEBHOOKS_HEALTH_WINDOW),
            window_attempts=_first(
                self.health_window_attempts, settings.WEBHOOKS_HEALTH_WINDOW_ATTEMPTS
            ),
            window_share=_first(self.health_window_share, settings.WEBHOOKS_HEALTH_WINDOW_SHARE),
            hold=_bounded(self.health_hold, settings.WEBHOOKS_HEALTH_HOLD),
            hold_cap=_bounded(self.health_hold_cap, settings.WEBHOOKS_HEALTH_HOLD_CAP),
        )

    @property
    def disabled_after(self) -> float:
        """Seconds for which all its endpoints may fail before it is disabled."""
        return _bounded(self.disable_after, settings.WEBHOOKS_DISABLE_AFTER)


def _first(own: Any, default: Any) -> Any:
    return default if own is None else own


def _bounded(own: float | None, default: float) -> float:
    """Return seconds of which a moment can be made, whatever a row that nobody validated says."""
    return float(min(_first(own, default), LONGEST_SECONDS))
