"""Endpoints: the doors of a receiver, in order."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from django.db import models, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from ..fields import uuid7
from ..validators import validate_endpoint_url, validate_header_value, validate_headers
from .subscription import Subscription


class EndpointQuerySet(models.QuerySet["Endpoint"]):
    """Named sets of endpoints."""

    def usable(self) -> EndpointQuerySet:
        """Those that may be sent to."""
        return self.filter(disabled_at__isnull=True)


class Endpoint(models.Model):
    """One URL with its credentials and its place in the order of its subscription."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    subscription = models.ForeignKey(
        Subscription, on_delete=models.CASCADE, related_name="endpoints"
    )
    position = models.PositiveSmallIntegerField(
        _("position"), default=0, help_text=_("0 is the primary, higher numbers are backups.")
    )
    url = models.CharField(_("URL"), max_length=2048, validators=[validate_endpoint_url])
    authorization = models.CharField(
        _("authorization"),
        max_length=2048,
        blank=True,
        validators=[validate_header_value],
        help_text=_("Value of the Authorization header, such as 'Bearer …'."),
    )
    headers = models.JSONField(
        _("headers"), default=dict, blank=True, validators=[validate_headers]
    )
    disabled_at = models.DateTimeField(_("disabled"), null=True, blank=True, editable=False)
    disabled_reason = models.CharField(_("reason"), max_length=200, blank=True, editable=False)
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)

    objects = EndpointQuerySet.as_manager()

    class Meta:
        verbose_name = _("endpoint")
        verbose_name_plural = _("endpoints")
        ordering = ["subscription", "position"]
        constraints = [
            models.UniqueConstraint(
                fields=["subscription", "position"], name="webhooks_endpoint_position_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.host} ({self.role})"

    def save(self, **kwargs: Any) -> None:
        """Save the row, and let what waited for an endpoint flow."""
        super().save(**kwargs)
        if self.disabled_at is None:
            self._tell_subscription()

    @property
    def host(self) -> str:
        """Host and port of the URL; the path may be a secret."""
        return urlsplit(self.url).netloc.rpartition("@")[2]

    @property
    def role(self) -> str:
        """``primary`` or ``backup``."""
        return "primary" if self.position == 0 else "backup"

    @property
    def is_usable(self) -> bool:
        """Whether it may be sent to."""
        return self.disabled_at is None

    def disable(self, reason: str) -> None:
        """Send nothing to it any more."""
        self.disabled_at, self.disabled_reason = timezone.now(), reason
        self.save(update_fields=["disabled_at", "disabled_reason"])

    def enable(self) -> None:
        """Send to it again."""
        self.disabled_at, self.disabled_reason = None, ""
        self.save(update_fields=["disabled_at", "disabled_reason"])

    def _tell_subscription(self) -> None:
        using = self._state.db
        rows = Subscription.objects.using(using).filter(pk=self.subscription_id)
        with transaction.atomic(using=using):
            rows.update(flow_changed_at=timezone.now())
            for subscription in rows.active():
                subscription.release()
