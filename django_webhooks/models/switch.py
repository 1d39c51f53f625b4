"""Switches: each change of a subscription's active endpoint, decided and recorded once."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, cast
from uuid import UUID

from django.db import models, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from .. import signals
from ..fields import uuid7
from ..policies import failover
from ..policies.failover import Cause, Failback, Mode
from .audit_entry import AuditEntry
from .delivery import DeliveryQuerySet
from .endpoint import Endpoint
from .flow import let_flow
from .health import Health
from .subscription import Subscription


class SwitchQuerySet(models.QuerySet["Switch"]):
    """Named sets of switches, and how one comes to be."""

    def settle(
        self,
        subscription: Subscription,
        doors: Sequence[Health],
        *,
        now: datetime,
        reason: str = "",
        by: str = "",
        by_hand: bool = False,
        slowly: bool = True,
    ) -> Switch | None:
        """Make the door active that the policy chooses, and return the switch, if it is one.

        ``doors`` are the locked rows of the subscription. ``by`` names the person who caused it.
        What is held is released: ``slowly``, beginning with one delivery, after an outage. A slow
        start that is not over goes on at the door that the traffic goes to.
        """
        before = next((door for door in doors if door.is_active), None)
        after = choice(subscription, doors)
        if after is before:
            return None
        ramp = before.ramp if before is not None and slowly else None
        _flag(before, None, using=self.db)
        _flag(after, True, using=self.db)
        deliveries = cast("DeliveryQuerySet", subscription.deliveries.using(self.db))
        is_first = before is None and not self.filter(subscription=subscription).exists()
        is_tried = any(door.state == Health.State.TRIAL for door in doors)
        if before is not None and (after is not None or is_tried):
            deliveries.bring_forward(now=now)
            if after is not None and ramp is not None:
                # What is held is still released by nothing else.
                after.ramp = ramp
                after.save(using=self.db, update_fields=["ramp"])
        elif after is not None and slowly and (by_hand or not is_first):
            # The delivery that was tried releases the next ones; by hand nothing was tried.
            after.ramp = (deliveries.release(limit=1) or None) if by_hand else 0
            after.save(using=self.db, update_fields=["ramp"])
        elif after is not None and subscription.is_active:
            let_flow(subscription, deliveries)
        if is_first:
            return None
        kind = failover.cause(
            before.door if before else None, after.door if after else None, by_hand=by_hand
        )
        return self._record(
            subscription, before, after, now=now, cause=kind.value, reason=reason, by=by
        )

    def _record(
        self,
        subscription: Subscription,
        before: Health | None,
        after: Health | None,
        *,
        now: datetime,
        cause: str,
        reason: str,
        by: str,
    ) -> Switch:
        switch = self.create(
            subscription=subscription,
            created_at=now,
            from_endpoint=before.endpoint if before else None,
            to_endpoint=after.endpoint if after else None,
            from_host=before.endpoint.host if before else "",
            to_host=after.endpoint.host if after else "",
            cause=cause,
            reason=reason[:200],
            by=by[:150],
        )
        if cause != Cause.BY_HAND.value:
            # By hand it follows from a change that is noted itself.
            AuditEntry.objects.using(self.db).note(
                "subscription.switched",
                subscription,
                by=by,
                cause=cause,
                reason=switch.reason,
                **{"from": _key(switch.from_endpoint_id), "to": _key(switch.to_endpoint_id)},
            )
        send = partial(
            signals.subscription_switched.send_robust,
            sender=Switch,
            subscription=subscription,
            switch=switch,
        )
        transaction.on_commit(lambda: send() and None, using=self.db)
        return switch


class Switch(models.Model):
    """One change of the active endpoint: when, from, to, why, and by whom."""

    class Kind(models.TextChoices):
        """What kind of switch it was."""

        # To a later endpoint, because the one before failed.
        FAILOVER = Cause.FAILOVER.value, pgettext_lazy("switch", "Failover")
        # To an earlier endpoint, because it is healthy again.
        FAILBACK = Cause.FAILBACK.value, pgettext_lazy("switch", "Fail-back")
        # To none, because all fail.
        OUTAGE = Cause.OUTAGE.value, pgettext_lazy("switch", "Outage")
        # From none, because one is healthy again.
        RECOVERY = Cause.RECOVERY.value, pgettext_lazy("switch", "Recovery")
        # Somebody asked for it, or changed the endpoints.
        BY_HAND = Cause.BY_HAND.value, pgettext_lazy("switch", "By hand")

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    subscription = models.ForeignKey(
        Subscription,
        on_delete=models.CASCADE,
        related_name="switches",
        verbose_name=_("subscription"),
    )
    from_endpoint = models.ForeignKey(
        Endpoint, on_delete=models.SET_NULL, null=True, related_name="+", verbose_name=_("from")
    )
    to_endpoint = models.ForeignKey(
        Endpoint, on_delete=models.SET_NULL, null=True, related_name="+", verbose_name=_("to")
    )
    from_host = models.CharField(_("from"), max_length=300, blank=True)
    to_host = models.CharField(_("to"), max_length=300, blank=True)
    cause = models.CharField(_("kind"), max_length=10, choices=Kind.choices)
    reason = models.CharField(_("reason"), max_length=200, blank=True)
    by = models.CharField(_("by"), max_length=150, blank=True)
    created_at = models.DateTimeField(_("when"), default=timezone.now)
    told_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = SwitchQuerySet.as_manager()

    if TYPE_CHECKING:
        subscription_id: UUID
        from_endpoint_id: UUID | None
        to_endpoint_id: UUID | None

    class Meta:
        verbose_name = _("switch")
        verbose_name_plural = _("switches")
        ordering = ["-id"]
        indexes = [
            models.Index(
                fields=["created_at"],
                condition=models.Q(told_at__isnull=True),
                name="webhooks_switch_untold",
            )
        ]

    def __str__(self) -> str:
        # Its hosts are for those who may see them.
        return f"{self.get_cause_display()} {self.created_at:%Y-%m-%d %H:%M:%S}"


def reconsider(
    subscription: Subscription,
    *,
    using: str,
    by: str = "",
    reason: str = "",
    afresh: Collection[UUID] | None = (),
    failback: Failback | None = None,
) -> Switch | None:
    """Choose the active endpoint anew after a change, and let flow what may; return the switch.

    ``afresh`` are the endpoints whose health is forgotten; None means all. ``failback`` is heeded
    instead of the subscription's own, this once.
    """
    if failback is not None:
        subscription = copy.copy(subscription)
        subscription.failback = failback.value
    now = timezone.now()
    with transaction.atomic(using=using):
        _complete(subscription, using=using)
        doors = Health.objects.using(using).lock([subscription.pk])[subscription.pk]
        for door in doors:
            if afresh is None or door.endpoint_id in afresh:
                door.reset(now=now)
                # After a clean slate the traffic begins slowly, as after an outage.
                door.is_active = door.is_active if afresh is not None else None
                door.save(using=using)
        switches = Switch.objects.using(using)
        switch = switches.settle(
            subscription,
            doors,
            now=now,
            reason=reason,
            by=by,
            by_hand=True,
            slowly=afresh is None,
        )
        Subscription.objects.using(using).filter(pk=subscription.pk).update(flow_changed_at=now)
        if subscription.is_active and any(door.flows for door in doors):
            subscription.release()
    return switch


def _complete(subscription: Subscription, *, using: str) -> None:
    """Give a health row to each endpoint that has none."""
    missing = Endpoint.objects.using(using).filter(subscription=subscription, health__isnull=True)
    Health.objects.using(using).bulk_create(
        [Health(endpoint=one, subscription_id=subscription.pk) for one in missing],
        ignore_conflicts=True,
    )


def choice(subscription: Subscription, doors: Iterable[Health]) -> Health | None:
    """Return the door that should be active."""
    found = choose(subscription, doors).active
    return next((door for door in doors if found and door.endpoint_id == found.key), None)


def choose(subscription: Subscription, doors: Iterable[Health]) -> failover.Choice:
    """Return what the policy makes of the enabled doors."""
    return failover.choose(
        [door.door for door in doors if door.endpoint.is_usable],
        mode=Mode(subscription.failover),
        failback=Failback(subscription.failback),
    )


def _key(endpoint: UUID | None) -> str | None:
    return str(endpoint) if endpoint else None


def _flag(door: Health | None, value: bool | None, *, using: str) -> None:
    if door is not None:
        door.is_active = value
        door.ramp = None
        door.save(using=using, update_fields=["is_active", "ramp"])
