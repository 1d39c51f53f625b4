"""Subscriptions: who listens to which event types."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db import models, router, transaction
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from .. import audit_log, times
from ..audit_log import AuditedQuerySet, current_actor
from ..fields import UTCDateTimeField, UUID7Field
from ..hiding import hiding
from ..policies.failover import Failback, Mode
from ..policies.ordering import Ordering
from ..policies.reasons import SwitchReason
from .delivery_options import DeliveryOptions
from .event_types_mixin import EventTypesMixin
from .owner import Owned
from .signing_keys_mixin import SigningKeysMixin

if TYPE_CHECKING:
    from django.db.models.fields.related_descriptors import RelatedManager

    from .delivery import Delivery
    from .endpoint import Endpoint
    from .endpoint_health import EndpointHealth
    from .switch import Switch


class SubscriptionQuerySet(AuditedQuerySet, models.QuerySet["Subscription"]):
    """Named sets of subscriptions."""

    def active(self) -> SubscriptionQuerySet:
        """Return the subscriptions that are sent to now."""
        return self.filter(status=Subscription.Status.ACTIVE)

    def sending(self) -> SubscriptionQuerySet:
        """Return those that are active, and whose URLs and keys are not known to be unreadable."""
        return self.active().filter(unreadable_since__isnull=True)

    def flowing(self) -> SubscriptionQuerySet:
        """Return those whose deliveries may flow; see :attr:`Subscription.flows`."""
        return self.sending().filter(
            endpoint_health__is_active=True,
            endpoint_health__slow_start_released__isnull=True,
            endpoint_health__endpoint__disabled_at__isnull=True,
        )


class Subscription(Owned, SigningKeysMixin, EventTypesMixin, DeliveryOptions):
    """A listener to event types, with a primary endpoint and any number of backups."""

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

    class FailoverMode(models.TextChoices):
        """When a delivery goes to another endpoint."""

        # All go to the first healthy one.
        SWITCH = Mode.SWITCH.value, pgettext_lazy("failover", "When an endpoint is unhealthy")
        # A delivery whose attempt failed goes to the next one at once.
        EACH = Mode.EACH.value, pgettext_lazy("failover", "Each failed attempt, at once")

    class FailbackMode(models.TextChoices):
        """The behaviour when an earlier endpoint is healthy again."""

        # The traffic goes back to it.
        AUTOMATIC = Failback.AUTOMATIC.value, pgettext_lazy("fail-back", "Automatic")
        # The traffic stays until the endpoint that has it fails, or somebody switches back.
        STAY = Failback.STAY.value, pgettext_lazy("fail-back", "Stay")

    class Order(models.TextChoices):
        """The deliveries that go one after the other, each once the one before is over."""

        # All as fast as possible.
        NONE = Ordering.NONE.value, pgettext_lazy("ordering", "None: as fast as possible")
        # Events of one ordering key; those without a key wait for none.
        KEY = Ordering.KEY.value, pgettext_lazy("ordering", "By ordering key")
        # All of them.
        ALL = Ordering.ALL.value, pgettext_lazy("ordering", "All, one after the other")

    class SignatureStyle(models.TextChoices):
        """A signature beside that of Standard Webhooks."""

        STANDARD = "standard", pgettext_lazy("signature", "None: Standard Webhooks alone")
        # X-Hub-Signature-256: HMAC of the body, with the oldest key that signs.
        GITHUB = "github", pgettext_lazy("signature", "GitHub's (X-Hub-Signature-256)")
        # Stripe-Signature: HMAC of timestamp and body, with each key.
        STRIPE = "stripe", pgettext_lazy("signature", "Stripe's (Stripe-Signature)")

    id = UUID7Field()
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
    #: For people, in words of their own; nothing is counted by it.
    status_reason = models.CharField(_("reason"), max_length=200, blank=True, editable=False)
    status_by = models.CharField(_("by"), max_length=150, blank=True, editable=False)
    sending_changed_at = UTCDateTimeField(
        _("changed"),
        default=times.now,
        editable=False,
        help_text=_("When the status or the endpoints last changed."),
    )
    signature_style = models.CharField(
        _("further signature"),
        max_length=10,
        choices=SignatureStyle.choices,
        default=SignatureStyle.STANDARD,
        help_text=_("For receivers that cannot verify Standard Webhooks; needs a whsec_ key."),
    )
    ordering = models.CharField(
        _("order of sending"),
        max_length=10,
        choices=Order.choices,
        default=Order.NONE,
        help_text=_(
            "What is sent one after the other; a retry holds up what is behind it. A change "
            "holds for events recorded from then on."
        ),
    )
    unreadable_since = UTCDateTimeField(
        _("cannot be read since"),
        null=True,
        blank=True,
        editable=False,
        help_text=_("Its URLs or keys do not open with the WEBHOOKS_ENCRYPTION_KEYS there are."),
    )
    failover = models.CharField(
        _("failover"),
        max_length=10,
        choices=FailoverMode.choices,
        default=FailoverMode.SWITCH,
        help_text=_("When deliveries go to a backup."),
    )
    failback = models.CharField(
        _("fail-back"),
        max_length=10,
        choices=FailbackMode.choices,
        default=FailbackMode.AUTOMATIC,
        help_text=_("What happens when an earlier endpoint is healthy again."),
    )
    notified_down_stage = models.PositiveSmallIntegerField(default=0, editable=False)
    #: How bad it is by the last mail: 0 well, 1 an endpoint fails, 2 none takes deliveries; and
    #: when a mail last said that it is worse.
    notified_level = models.PositiveSmallIntegerField(default=0, editable=False)
    notified_at = UTCDateTimeField(null=True, blank=True, editable=False)
    is_notified_unreadable = models.BooleanField(default=False, editable=False)
    created_at = UTCDateTimeField(_("created"), default=times.now, editable=False)

    objects = SubscriptionQuerySet.as_manager()

    if TYPE_CHECKING:
        deliveries: RelatedManager[Delivery]
        endpoint_health: RelatedManager[EndpointHealth]
        endpoints: RelatedManager[Endpoint]
        switches: RelatedManager[Switch]

    class Meta:
        verbose_name = _("subscription")
        verbose_name_plural = _("subscriptions")
        ordering = ["name", "pk"]
        permissions = [
            ("pause_subscription", "Can pause and resume subscriptions"),
            ("send_test", "Can send test events, which receivers take for real ones"),
            ("rotate_key", "Can rotate signing keys"),
            ("see_secret", "Can see a new signing key, once"),
        ]
        indexes = [
            models.Index(fields=["owner_type", "owner_id"], name="webhooks_sub_owner"),
            # Subscriptions that hear every owner's events. MySQL and MariaDB ignore conditions.
            models.Index(
                fields=["is_global"],
                condition=models.Q(is_global=True),
                name="webhooks_sub_global",
            ),
            # Rows that each sweep looks for.
            models.Index(fields=["sending_changed_at"], name="webhooks_sub_flow"),
            models.Index(
                fields=["unreadable_since"],
                condition=models.Q(unreadable_since__isnull=False),
                name="webhooks_sub_unreadable",
            ),
        ]
        constraints = [
            *DeliveryOptions.Meta.constraints,
            models.CheckConstraint(
                condition=models.Q(is_global=False) | models.Q(owner_type="", owner_id=""),
                name="webhooks_sub_global_has_no_owner",
                violation_error_message=_("A global subscription cannot have an owner."),
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @hiding
    def save(self, **kwargs: Any) -> None:
        """Save the row, and the patterns and the key where these were set.

        A new subscription gets a signing key in any case.
        """
        is_new = self._state.adding
        using = kwargs.get("using") or router.db_for_write(type(self), instance=self)
        is_changed = kwargs.get("update_fields") is None and not is_new
        with transaction.atomic(using=using):
            if is_changed:
                self.lock_endpoint_health(using=using)
            super().save(**kwargs)
            self.store_event_types(using=using)
            self.store_secret(using=using, is_new=is_new)
            if is_changed:
                self.reconsider(using=using, reason=SwitchReason.SUBSCRIPTION_CHANGED)

    @property
    def is_active(self) -> bool:
        """Whether deliveries are attempted as they fall due."""
        return self.status == self.Status.ACTIVE

    @property
    def is_sending(self) -> bool:
        """Whether it is active, and its URLs and keys are not known to be unreadable."""
        return self.is_active and self.unreadable_since is None

    @property
    def flows(self) -> bool:
        """Whether its deliveries may flow: what is recorded for it is due at once, and not held.

        The subscription is sending, and has an active endpoint that is enabled and does not start
        slowly after an outage. The one rule of this; :meth:`SubscriptionQuerySet.flowing` is the
        set of them. How fast they flow is up to its limits.
        """
        return self.flows_to(self.endpoint_health.select_related("endpoint"))

    def flows_to(self, candidates: Iterable[EndpointHealth]) -> bool:
        """Say the same where all its rows of health are at hand."""
        return self.is_sending and any(candidate.flows for candidate in candidates)

    def pause(self, reason: str = "", *, by: str = "") -> None:
        """Stop sending; what happens meanwhile is recorded and waits.

        ``reason`` is for people; ``by`` names who asks, without it that is who acts.
        """
        self._move(self.Status.PAUSED, reason, by=by)

    def disable(self, reason: str = "", *, by: str = "") -> None:
        """Stop sending because something is wrong; what happens meanwhile is recorded and waits."""
        self._move(self.Status.DISABLED, reason, by=by)

    def resume(self) -> None:
        """Send again, what waited first; after it was disabled slowly, and with a clean slate."""
        is_clean = self.status == self.Status.DISABLED
        using = router.db_for_write(type(self), instance=self)
        with transaction.atomic(using=using):
            self.lock_endpoint_health(using=using)
            self.notified_down_stage = self.notified_level = 0
            self._move(self.Status.ACTIVE, "", "notified_down_stage", "notified_level")
            self.reconsider(
                using=using, reason=SwitchReason.RESUMED, afresh=None if is_clean else ()
            )

    def fail_back(self, reason: str = "", *, by: str) -> bool:
        """Send to the first healthy endpoint again, although the subscription stays where it is."""
        using = router.db_for_write(type(self), instance=self)
        with transaction.atomic(using=using):
            switch = self.reconsider(
                using=using,
                reason=SwitchReason.FAILED_BACK,
                note=reason,
                by=by,
                failback=Failback.AUTOMATIC,
            )
            if switch is not None:
                audit_log.log("subscription.failed_back", self, using=using, by=by, reason=reason)
        return switch is not None

    def lock_endpoint_health(self, *, using: str) -> None:
        """Lock the health of its endpoints, which everybody does before changing anything else."""
        # Their rows before, as they may be changed: who only needs them to stay shares their locks.
        endpoints = self.endpoints.model.objects.using(using)
        endpoints.filter(subscription=self.pk).keep(to_change=True)
        endpoints.lock_health([self.pk])

    def reconsider(
        self,
        *,
        using: str,
        reason: str = "",
        note: str = "",
        by: str = "",
        afresh: Collection[UUID] | None = (),
        failback: Failback | None = None,
    ) -> Switch | None:
        """Choose the active endpoint anew after a change, and let flow what may.

        ``afresh`` are the endpoints whose health is forgotten; None means all. ``failback`` is
        heeded instead of the subscription's own, this once. Return the switch, if it is one.
        """
        changed = self if failback is None else copy.copy(self)
        changed.failback = failback.value if failback else self.failback
        switches = self.switches.model.objects.using(using)
        return switches.reconsider(changed, reason=reason, note=note, by=by, afresh=afresh)

    def _move(self, status: str, reason: str, *fields: str, by: str = "") -> None:
        self.status, self.status_reason = status, reason[:200]
        self.status_by = "" if status == self.Status.ACTIVE else (by or current_actor())[:150]
        self.sending_changed_at = times.now()
        moved = ["status", "status_reason", "status_by", "sending_changed_at"]
        self.save(update_fields=[*moved, *fields])
