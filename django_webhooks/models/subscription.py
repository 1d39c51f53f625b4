"""Subscriptions: who listens to which event types."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, cast

from django.db import models, router, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from ..conf import settings
from ..fields import uuid7
from ..policies.retry import RetryPolicy
from ..signing import generate_secret
from ..validators import validate_pattern, validate_secret
from .owner import Owned

if TYPE_CHECKING:
    from django.db.models.fields.related_descriptors import RelatedManager

    from .delivery import Delivery, DeliveryQuerySet
    from .endpoint import Endpoint


class SubscriptionQuerySet(models.QuerySet["Subscription"]):
    """Named sets of subscriptions."""

    def active(self) -> SubscriptionQuerySet:
        """Those that are sent to now."""
        return self.filter(status=Subscription.Status.ACTIVE)


class Subscription(Owned):
    """Who listens to which event types, with a primary endpoint and any number of backups."""

    class Status(models.TextChoices):
        """
        active --pause--> paused --resume--> active
        active, paused --disable--> disabled --resume--> active
        """

        # Deliveries are attempted as they fall due.
        ACTIVE = "active", pgettext_lazy("subscription", "Active")
        # Somebody stopped the traffic; events are recorded and wait.
        PAUSED = "paused", pgettext_lazy("subscription", "Paused")
        # The system stopped the traffic; events are recorded and wait.
        DISABLED = "disabled", pgettext_lazy("subscription", "Disabled")

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(_("name"), max_length=200)
    description = models.TextField(_("description"), blank=True)
    is_global = models.BooleanField(
        _("global"),
        default=False,
        help_text=_("Hears the events of every owner; only for a subscription without an owner."),
    )
    status = models.CharField(
        _("status"), max_length=10, choices=Status.choices, default=Status.ACTIVE
    )
    status_reason = models.CharField(_("reason"), max_length=200, blank=True, editable=False)
    flow_changed_at = models.DateTimeField(
        _("changed"),
        default=timezone.now,
        editable=False,
        help_text=_("When the status or the endpoints last changed."),
    )
    signing_secret = models.CharField(
        _("signing secret"),
        max_length=100,
        default=generate_secret,
        validators=[validate_secret],
        help_text=_("whsec_ and 24 to 64 random bytes in base64."),
    )
    timeout = models.FloatField(
        _("time-out"),
        null=True,
        blank=True,
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
        help_text=_("Seconds before the first retry; empty: WEBHOOKS_RETRY_BASE."),
    )
    retry_cap = models.FloatField(
        _("longest wait"),
        null=True,
        blank=True,
        help_text=_("Seconds between two attempts at the most; empty: WEBHOOKS_RETRY_CAP."),
    )
    client_errors_final = models.BooleanField(
        _("client errors are final"),
        default=False,
        help_text=_("Give up on 4xx answers other than 408, 425 and 429."),
    )
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)

    objects = SubscriptionQuerySet.as_manager()

    if TYPE_CHECKING:
        deliveries: RelatedManager[Delivery]
        endpoints: RelatedManager[Endpoint]
        patterns: RelatedManager[EventTypePattern]

    class Meta:
        verbose_name = _("subscription")
        verbose_name_plural = _("subscriptions")
        ordering = ["name", "pk"]
        indexes = [models.Index(fields=["owner_type", "owner_id"], name="webhooks_sub_owner")]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(is_global=False) | models.Q(owner_type="", owner_id=""),
                name="webhooks_sub_global_has_no_owner",
                violation_error_message=_("A global subscription cannot have an owner."),
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
                ),
                name="webhooks_sub_times_positive",
                violation_error_message=_("Times are positive numbers of seconds."),
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def save(self, **kwargs: Any) -> None:
        """Save the row, and the patterns where ``event_types`` was set."""
        using = kwargs.get("using") or router.db_for_write(type(self), instance=self)
        with transaction.atomic(using=using):
            super().save(**kwargs)
            patterns = self.__dict__.pop("_event_types", None)
            if patterns is not None:
                self._store_patterns(patterns, using=using)

    @property
    def event_types(self) -> list[str]:
        """The patterns of event types it listens to; set before ``save()`` to change them."""
        if "_event_types" in self.__dict__:
            return list(self.__dict__["_event_types"])
        return sorted(row.pattern for row in self.patterns.all())

    @event_types.setter
    def event_types(self, patterns: Sequence[str]) -> None:
        if isinstance(patterns, str):
            raise TypeError("event_types is a list of patterns, such as ['order.*'].")
        self.__dict__["_event_types"] = _checked(patterns)

    @property
    def is_active(self) -> bool:
        """Whether deliveries are attempted as they fall due."""
        return self.status == self.Status.ACTIVE

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

    def pause(self, reason: str = "") -> None:
        """Stop sending; what happens meanwhile is recorded and waits."""
        self._move(self.Status.PAUSED, reason)

    def disable(self, reason: str = "") -> None:
        """Stop sending because something is wrong; what happens meanwhile is recorded and waits."""
        self._move(self.Status.DISABLED, reason)

    def resume(self) -> None:
        """Send again, what waited first."""
        self._move(self.Status.ACTIVE, "")

    def release(self) -> int:
        """Make what is held due now, and return how many deliveries that were."""
        deliveries = cast("DeliveryQuerySet", self.deliveries.all())
        return deliveries.release()

    def _move(self, status: str, reason: str) -> None:
        self.status, self.status_reason = status, reason[:200]
        self.flow_changed_at = timezone.now()
        with transaction.atomic(using=self._state.db):
            self.save(update_fields=["status", "status_reason", "flow_changed_at"])
            if self.is_active:
                self.release()

    def _store_patterns(self, patterns: Iterable[str], *, using: str) -> None:
        rows = EventTypePattern.objects.using(using)
        rows.filter(subscription=self).exclude(pattern__in=patterns).delete()
        known = set(rows.filter(subscription=self).values_list("pattern", flat=True))
        rows.bulk_create(
            EventTypePattern(subscription=self, pattern=pattern)
            for pattern in patterns
            if pattern not in known
        )
        getattr(self, "_prefetched_objects_cache", {}).pop("patterns", None)


class EventTypePattern(models.Model):
    """One pattern of event types that a subscription listens to: a name, ``order.*`` or ``*``."""

    subscription = models.ForeignKey(
        Subscription, on_delete=models.CASCADE, related_name="patterns"
    )
    pattern = models.CharField(
        _("event type"), max_length=100, validators=[validate_pattern], db_index=True
    )

    class Meta:
        verbose_name = _("event type")
        verbose_name_plural = _("event types")
        ordering = ["pattern"]
        constraints = [
            models.UniqueConstraint(
                fields=["subscription", "pattern"], name="webhooks_pattern_once"
            )
        ]

    def __str__(self) -> str:
        return self.pattern


def _checked(patterns: Iterable[str]) -> list[str]:
    unique = list(dict.fromkeys(patterns))
    for pattern in unique:
        validate_pattern(pattern)
    return unique


def _first(own: Any, default: Any) -> Any:
    return default if own is None else own
