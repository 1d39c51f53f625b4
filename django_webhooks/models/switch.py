"""Switches: each change of a subscription's active endpoint, decided and recorded once."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, cast
from uuid import UUID

from django.db import models, transaction
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from .. import audit_log, signals, times
from ..commits import send_after_commit
from ..fields import UTCDateTimeField, UUID7Field
from ..policies import failover
from ..policies.failover import Cause, Failback, Mode
from ..policies.health import StatusPolicy
from .delivery import DeliveryQuerySet
from .endpoint import Endpoint
from .endpoint_health import EndpointHealth
from .rate_limit_state import release_all
from .subscription import Subscription


class SwitchQuerySet(models.QuerySet["Switch"]):
    """Named sets of switches, and how one comes to be."""

    def settle(
        self,
        subscription: Subscription,
        candidates: Sequence[EndpointHealth],
        *,
        now: datetime,
        reason: str = "",
        note: str = "",
        by: str = "",
        by_hand: bool = False,
        slowly: bool = True,
    ) -> Switch | None:
        """Make the endpoint active that the policy chooses, and return the switch, if it is one.

        ``candidates`` are the locked rows of the subscription. ``reason`` is a code of
        :mod:`.policies.reasons`, ``note`` a text by the person whom ``by`` names. Held deliveries
        are released: ``slowly``, beginning with one, after an outage. A slow start that is not over
        goes on at the endpoint that the traffic goes to.
        """
        before = next((candidate for candidate in candidates if candidate.is_active), None)
        after = choice(subscription, candidates)
        if after is before:
            return None
        slow_start_released = before.slow_start_released if before is not None and slowly else None
        _flag(before, None, using=self.db)
        _flag(after, True, using=self.db)
        deliveries = cast("DeliveryQuerySet", subscription.deliveries.using(self.db))
        is_first = before is None and not self.filter(subscription=subscription).exists()
        is_tried = any(candidate.state == EndpointHealth.State.TRIAL for candidate in candidates)
        if before is not None and (after is not None or is_tried):
            refused = subscription.status_policy is StatusPolicy.NON_2XX
            deliveries.bring_forward(now=now, refused=refused)
            if after is not None and slow_start_released is not None:
                # Nothing else releases the held deliveries yet.
                after.slow_start_released = slow_start_released
                after.save(using=self.db, update_fields=["slow_start_released"])
        elif after is not None and slowly and (by_hand or not is_first):
            # The delivery that was tried releases the next ones; by hand nothing was tried.
            after.slow_start_released = _begin(subscription, deliveries) if by_hand else 0
            after.save(using=self.db, update_fields=["slow_start_released"])
        elif after is not None and subscription.is_sending:
            release_all(subscription, deliveries)
        if is_first:
            return None
        cause = failover.cause(
            before.as_candidate if before else None,
            after.as_candidate if after else None,
            by_hand=by_hand,
        )
        switch = self.create(
            subscription=subscription,
            created_at=now,
            from_endpoint=before.endpoint if before else None,
            to_endpoint=after.endpoint if after else None,
            from_host=before.endpoint.host if before else "",
            to_host=after.endpoint.host if after else "",
            cause=cause.value,
            reason=reason,
            note=note[:200],
            by=by[:150],
        )
        self._announce(switch)
        return switch

    def reconsider(
        self,
        subscription: Subscription,
        *,
        reason: str,
        note: str,
        by: str,
        afresh: Collection[UUID] | None,
    ) -> Switch | None:
        """Settle anew after a change by hand; see :meth:`.Subscription.reconsider`."""
        now = times.now()
        with transaction.atomic(using=self.db):
            _complete(subscription, using=self.db)
            locked = Endpoint.objects.using(self.db).lock_health([subscription.pk])
            candidates = locked[subscription.pk]
            for candidate in candidates:
                if afresh is None or candidate.endpoint_id in afresh:
                    candidate.reset(now=now)
                    # After a clean slate the traffic begins slowly, as after an outage.
                    candidate.is_active = candidate.is_active if afresh is not None else None
                    candidate.save(using=self.db)
            switch = self.settle(
                subscription,
                candidates,
                now=now,
                reason=reason,
                note=note,
                by=by,
                by_hand=True,
                slowly=afresh is None,
            )
            rows = Subscription.objects.using(self.db).filter(pk=subscription.pk)
            rows.update(sending_changed_at=now)
            if subscription.flows_to(candidates):
                deliveries = cast("DeliveryQuerySet", subscription.deliveries.using(self.db))
                release_all(subscription, deliveries)
        return switch

    def _announce(self, switch: Switch) -> None:
        """Log a switch, and send its signal after the commit."""
        if switch.cause != Cause.BY_HAND.value:
            # By hand it follows from a change that is noted itself.
            audit_log.log(
                "subscription.switched",
                switch.subscription,
                using=self.db,
                by=switch.by,
                cause=switch.cause,
                reason=switch.reason,
                **{"from": _key(switch.from_endpoint_id), "to": _key(switch.to_endpoint_id)},
            )
        send_after_commit(
            signals.subscription_switched,
            sender=Switch,
            using=self.db,
            subscription=switch.subscription,
            switch=switch,
        )


class Switch(models.Model):
    """One change of the active endpoint: when, from, to, why, and by whom."""

    class Cause(models.TextChoices):
        """The kind of a switch."""

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

    id = UUID7Field()
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
    cause = models.CharField(_("cause"), max_length=10, choices=Cause.choices)
    reason = models.CharField(_("reason"), max_length=40, blank=True)
    #: For people, in words of their own; nothing is counted by it.
    note = models.CharField(_("note"), max_length=200, blank=True)
    by = models.CharField(_("by"), max_length=150, blank=True)
    created_at = UTCDateTimeField(_("when"), default=times.now)
    notified_at = UTCDateTimeField(null=True, blank=True, editable=False)

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
                condition=models.Q(notified_at__isnull=True),
                name="webhooks_switch_untold",
            )
        ]

    def __str__(self) -> str:
        # Its hosts are for those who may see them.
        return f"{self.get_cause_display()} {self.created_at:%Y-%m-%d %H:%M:%S}"


def _complete(subscription: Subscription, *, using: str) -> None:
    """Give a health row to each endpoint that has none."""
    missing = Endpoint.objects.using(using).filter(subscription=subscription, health__isnull=True)
    EndpointHealth.objects.using(using).bulk_create(
        [EndpointHealth(endpoint=one, subscription_id=subscription.pk) for one in missing],
        ignore_conflicts=True,
    )


def choice(
    subscription: Subscription, candidates: Iterable[EndpointHealth]
) -> EndpointHealth | None:
    """Return the endpoint that should be active."""
    found = choose(subscription, candidates).active
    return next(
        (candidate for candidate in candidates if found and candidate.endpoint_id == found.key),
        None,
    )


def choose(subscription: Subscription, candidates: Iterable[EndpointHealth]) -> failover.Choice:
    """Return what the policy makes of the enabled endpoints."""
    return failover.choose(
        [candidate.as_candidate for candidate in candidates if candidate.endpoint.is_usable],
        mode=Mode(subscription.failover),
        failback=Failback(subscription.failback),
    )


def _begin(subscription: Subscription, deliveries: DeliveryQuerySet) -> int | None:
    """Release the first delivery, and return where the slow start is; None where nothing waits."""
    if subscription.is_sending:
        return deliveries.release(limit=1) or None
    return 0 if deliveries.held().exists() else None


def _key(endpoint: UUID | None) -> str | None:
    return str(endpoint) if endpoint else None


def _flag(candidate: EndpointHealth | None, value: bool | None, *, using: str) -> None:
    if candidate is not None:
        candidate.is_active = value
        candidate.slow_start_released = None
        candidate.save(using=using, update_fields=["is_active", "slow_start_released"])
