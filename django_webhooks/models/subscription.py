"""Subscriptions: who listens to which event types."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from django.db import IntegrityError, models, router, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from ..fields import uuid7
from ..policies.failover import Failback, Mode
from ..policies.ordering import Ordering
from .audit_entry import AuditEntry
from .audited import AuditedQuerySet
from .keyring import Keyed
from .listening import Listening
from .owner import Owned
from .terms import Terms

if TYPE_CHECKING:
    from django.db.models.fields.related_descriptors import RelatedManager

    from .delivery import Delivery, DeliveryQuerySet
    from .endpoint import Endpoint
    from .health import Health
    from .switch import Switch


class SubscriptionQuerySet(AuditedQuerySet, models.QuerySet["Subscription"]):
    """Named sets of subscriptions."""

    def delete(self) -> tuple[int, dict[str, int]]:
        """Delete them; what waits for them is cancelled."""
        # The one that deleting uses.
        for_write: Any = self._chain()  # type: ignore[attr-defined]  # the queryset's
        for_write._for_write = True
        return _patiently(super().delete, using=for_write.db)

    # Django asks for it: it must not be called on a manager.
    delete.alters_data = True  # type: ignore[attr-defined]  # a method takes attributes
    delete.queryset_only = True  # type: ignore[attr-defined]  # a method takes attributes

    def active(self) -> SubscriptionQuerySet:
        """Those that are sent to now."""
        return self.filter(status=Subscription.Status.ACTIVE)


class Subscription(Owned, Keyed, Listening, Terms):
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

    class FailoverMode(models.TextChoices):
        """When a delivery goes to another endpoint."""

        # All go to the first healthy one.
        SWITCH = Mode.SWITCH.value, pgettext_lazy("failover", "When an endpoint is unhealthy")
        # A delivery whose attempt failed goes to the next one at once.
        EACH = Mode.EACH.value, pgettext_lazy("failover", "Each failed attempt, at once")

    class FailbackMode(models.TextChoices):
        """What happens when an earlier endpoint is healthy again."""

        # The traffic goes back to it.
        AUTOMATIC = Failback.AUTOMATIC.value, pgettext_lazy("fail-back", "Automatic")
        # The traffic stays until the endpoint that has it fails, or somebody switches back.
        STAY = Failback.STAY.value, pgettext_lazy("fail-back", "Stay")

    class Order(models.TextChoices):
        """What goes one after the other, each once the one before it is over."""

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
    unreadable_since = models.DateTimeField(
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
    down_warnings = models.PositiveSmallIntegerField(default=0, editable=False)
    told_stage = models.PositiveSmallIntegerField(default=0, editable=False)
    told_down_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)

    objects = SubscriptionQuerySet.as_manager()

    if TYPE_CHECKING:
        deliveries: RelatedManager[Delivery]
        doors: RelatedManager[Health]
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
            # Who hears every owner's events. MySQL and MariaDB ignore conditions.
            models.Index(
                fields=["is_global"],
                condition=models.Q(is_global=True),
                name="webhooks_sub_global",
            ),
            # What each sweep looks for.
            models.Index(fields=["flow_changed_at"], name="webhooks_sub_flow"),
            models.Index(
                fields=["unreadable_since"],
                condition=models.Q(unreadable_since__isnull=False),
                name="webhooks_sub_unreadable",
            ),
        ]
        constraints = [
            *Terms.Meta.constraints,
            models.CheckConstraint(
                condition=models.Q(is_global=False) | models.Q(owner_type="", owner_id=""),
                name="webhooks_sub_global_has_no_owner",
                violation_error_message=_("A global subscription cannot have an owner."),
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def save(self, **kwargs: Any) -> None:
        """Save the row, and the patterns and the key where these were set.

        A new subscription gets a signing key in any case.
        """
        from .switch import reconsider  # it refers to subscriptions

        is_new = self._state.adding
        using = kwargs.get("using") or router.db_for_write(type(self), instance=self)
        is_changed = kwargs.get("update_fields") is None and not is_new
        with transaction.atomic(using=using):
            if is_changed:
                self.lock_doors(using=using)
            super().save(**kwargs)
            self.store_event_types(using=using)
            self.store_secret(using=using, is_new=is_new)
            if is_changed:
                reconsider(self, using=using, reason="subscription changed")

    def delete(
        self, using: str | None = None, keep_parents: bool = False
    ) -> tuple[int, dict[str, int]]:
        """Delete it; what waits for it is cancelled."""
        using = using or router.db_for_write(type(self), instance=self)
        own = partial(super().delete, using=using, keep_parents=keep_parents)
        return _patiently(own, using=using)

    @property
    def is_active(self) -> bool:
        """Whether deliveries are attempted as they fall due."""
        return self.status == self.Status.ACTIVE

    def pause(self, reason: str = "") -> None:
        """Stop sending; what happens meanwhile is recorded and waits."""
        self._move(self.Status.PAUSED, reason)

    def disable(self, reason: str = "") -> None:
        """Stop sending because something is wrong; what happens meanwhile is recorded and waits."""
        self._move(self.Status.DISABLED, reason)

    def resume(self) -> None:
        """Send again, what waited first; after it was disabled slowly, and with a clean slate."""
        from .switch import reconsider  # it refers to subscriptions

        is_clean = self.status == self.Status.DISABLED
        using = router.db_for_write(type(self), instance=self)
        with transaction.atomic(using=using):
            self.lock_doors(using=using)
            self.down_warnings = self.told_stage = 0
            self._move(self.Status.ACTIVE, "", "down_warnings", "told_stage")
            reconsider(self, using=using, reason="resumed", afresh=None if is_clean else ())

    def fail_back(self, reason: str = "", *, by: str) -> bool:
        """Send to the first healthy endpoint again, although the subscription stays where it is."""
        from .switch import reconsider  # it refers to subscriptions

        using = router.db_for_write(type(self), instance=self)
        with transaction.atomic(using=using):
            switch = reconsider(
                self, using=using, reason=reason, by=by, failback=Failback.AUTOMATIC
            )
            if switch is not None:
                entries = AuditEntry.objects.using(using)
                entries.note("subscription.failed_back", self, by=by, reason=reason)
        return switch is not None

    def lock_doors(self, *, using: str) -> None:
        """Lock the health of its endpoints, which everybody does before changing anything else."""
        from .health import Health  # it refers to subscriptions

        Health.objects.using(using).lock([self.pk])

    def release(self) -> int:
        """Make what is held due now, as far as its limits allow; return how many deliveries."""
        from .flow import let_flow  # it refers to subscriptions

        using = router.db_for_write(type(self), instance=self)
        return let_flow(self, cast("DeliveryQuerySet", self.deliveries.using(using)))

    def _move(self, status: str, reason: str, *fields: str) -> None:
        self.status, self.status_reason = status, reason[:200]
        self.flow_changed_at = timezone.now()
        self.save(update_fields=["status", "status_reason", "flow_changed_at", *fields])


def _patiently(
    delete: Callable[[], tuple[int, dict[str, int]]], *, using: str
) -> tuple[int, dict[str, int]]:
    """Delete, and once more where an event was just being recorded for what is deleted."""
    try:
        with transaction.atomic(using=using):
            return delete()
    except IntegrityError:
        with transaction.atomic(using=using):
            return delete()
