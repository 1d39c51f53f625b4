"""Endpoints: the doors of a receiver, in order."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db import models, router, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from ..fields import (
    BlindIndexField,
    EncryptedJSONField,
    EncryptedTextField,
    Sealed,
    sealed_fields,
    uuid7,
)
from ..validators import (
    normalise_url,
    validate_ca_bundle,
    validate_client_certificate,
    validate_endpoint_url,
    validate_header_value,
    validate_headers,
)
from .acting import acting_as, who
from .audited import AuditedQuerySet
from .subscription import Subscription

if TYPE_CHECKING:
    from .health import Health


class EndpointQuerySet(AuditedQuerySet, models.QuerySet["Endpoint"]):
    """Named sets of endpoints."""

    def usable(self) -> EndpointQuerySet:
        """Those that may be sent to."""
        return self.filter(disabled_at__isnull=True)

    def with_url(self, *urls: str) -> EndpointQuerySet:
        """Those that have exactly one of these URLs, which are compared by their blind index."""
        field = Endpoint._meta.get_field("url_index")
        wanted = [index for url in urls for index in field.values_of(normalise_url(url))]
        return self.filter(url_index__in=wanted)

    def update(self, **kwargs: Any) -> int:
        """Change columns, and the index of a URL with it."""
        if "url" in kwargs:
            field = Endpoint._meta.get_field("url_index")
            kwargs["url"] = normalise_url(kwargs["url"])
            kwargs["url_index"] = field.value_of(kwargs["url"])
        return super().update(**kwargs)


class Endpoint(models.Model):
    """One URL with its credentials and its place in the order of its subscription."""

    class ProbeKind(models.TextChoices):
        """How its health is checked."""

        # TCP and TLS handshake.
        CONNECT = "connect", pgettext_lazy("probe", "Connect")
        # GET of the health URL, answered 2xx.
        HTTP = "http", pgettext_lazy("probe", "GET of a health URL")
        # A signed webhook.ping event, answered 2xx.
        PING = "ping", pgettext_lazy("probe", "Signed ping")
        # Not at all: after its hold it is tried with a delivery.
        NONE = "none", pgettext_lazy("probe", "None")

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    subscription = models.ForeignKey(
        Subscription, on_delete=models.CASCADE, related_name="endpoints"
    )
    position = models.PositiveSmallIntegerField(
        _("position"), default=0, help_text=_("0 is the primary, higher numbers are backups.")
    )
    url = EncryptedTextField(_("URL"), max_length=2048, validators=[validate_endpoint_url])
    url_index = BlindIndexField(of="url")
    authorization = EncryptedTextField(
        _("authorization"),
        max_length=2048,
        blank=True,
        validators=[validate_header_value],
        help_text=_("Value of the Authorization header, such as 'Bearer …'."),
    )
    headers = EncryptedJSONField(
        _("headers"), default=dict, blank=True, validators=[validate_headers]
    )
    client_certificate = EncryptedTextField(
        _("client certificate"),
        max_length=65_536,
        blank=True,
        validators=[validate_client_certificate],
        help_text=_("PEM of a certificate and its private key, for receivers that ask for one."),
    )
    ca_bundle = models.TextField(
        _("certificate authorities"),
        max_length=262_144,
        blank=True,
        validators=[validate_ca_bundle],
        help_text=_("PEM of those that this endpoint is trusted by, instead of the public ones."),
    )
    probe = models.CharField(
        _("health check"),
        max_length=10,
        choices=ProbeKind.choices,
        default=ProbeKind.CONNECT,
        help_text=_("How it is found out whether the endpoint is alive while nothing is sent."),
    )
    health_url = EncryptedTextField(
        _("health URL"),
        max_length=2048,
        blank=True,
        validators=[validate_endpoint_url],
        help_text=_("For the check by GET: answers 2xx while the receiver is well."),
    )
    pinned_at = models.DateTimeField(_("pinned"), null=True, blank=True, editable=False)
    pin_reason = models.CharField(_("why pinned"), max_length=200, blank=True, editable=False)
    pinned_by = models.CharField(_("pinned by"), max_length=150, blank=True, editable=False)
    disabled_at = models.DateTimeField(_("disabled"), null=True, blank=True, editable=False)
    disabled_reason = models.CharField(_("reason"), max_length=200, blank=True, editable=False)
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)

    objects = EndpointQuerySet.as_manager()

    if TYPE_CHECKING:
        health: Health
        subscription_id: UUID

    class Meta:
        verbose_name = _("endpoint")
        verbose_name_plural = _("endpoints")
        ordering = ["subscription", "position"]
        permissions = [
            ("see_hosts", "Can see the hosts of endpoints"),
            ("pin_endpoint", "Can pin endpoints, and lift pins"),
            ("probe_endpoint", "Can probe endpoints"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["subscription", "position"], name="webhooks_endpoint_position_once"
            )
        ]

    def __str__(self) -> str:
        # Its host is for those who may see it.
        return self.role if self.position < 2 else f"{self.role} {self.position}"

    def clean(self) -> None:
        """Refuse a backup that is the same door, and a health check without its URL."""
        self.url = normalise_url(self.url)
        if (
            self.probe == self.ProbeKind.HTTP
            and not self.health_url
            and not isinstance(self.health_url, Sealed)
        ):
            raise ValidationError({"health_url": _("Enter the URL that the health check gets.")})
        others = Endpoint.objects.filter(subscription=self.subscription_id).exclude(pk=self.pk)
        if self.url and others.with_url(self.url).exists():
            raise ValidationError(
                {"url": _("Another endpoint of this subscription has this URL; a backup helps "
                          "only where it is another one.")}
            )  # fmt: skip

    def save(self, **kwargs: Any) -> None:
        """Save the row, choose the active endpoint anew, and let what waited for one flow.

        An endpoint that is new, or whose URL was changed, counts as healthy.
        """
        from .switch import reconsider  # it refers to endpoints

        using = kwargs.get("using") or router.db_for_write(type(self), instance=self)
        self.url = normalise_url(self.url)
        with transaction.atomic(using=using):
            self.subscription.lock_doors(using=using)
            rows = Endpoint.objects.using(using).filter(pk=self.pk)
            before = None if self._state.adding else rows.values_list("url_index", flat=True)[0]
            columns = kwargs.get("update_fields")
            if columns is not None and "url" in columns:
                kwargs["update_fields"] = {*columns, "url_index"}
            super().save(**kwargs)
            reconsider(
                self.subscription,
                using=using,
                reason="endpoints changed",
                afresh=() if before in self._url_indexes() else [self.pk],
            )

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        """Delete the row, and choose the active endpoint anew."""
        from .switch import reconsider  # it refers to endpoints

        using = kwargs.get("using") or router.db_for_write(type(self), instance=self)
        with transaction.atomic(using=using):
            self.subscription.lock_doors(using=using)
            deleted = super().delete(*args, **kwargs)
            reconsider(self.subscription, using=using, reason="endpoints changed")
        return deleted

    @property
    def host(self) -> str:
        """Host and port of the URL; the path may be a secret."""
        if isinstance(self.url, Sealed):
            return str(_("cannot be read"))
        return str(urlsplit(self.url).netloc.rpartition("@")[2])

    @property
    def label(self) -> str:
        """Host and role, for those who may know the host."""
        return f"{self.host} ({self})"

    @property
    def is_readable(self) -> bool:
        """Whether its URL and credentials open with the encryption keys there are."""
        return not sealed_fields(self)

    @property
    def role(self) -> str:
        """``primary`` or ``backup``."""
        return "primary" if self.position == 0 else "backup"

    @property
    def is_usable(self) -> bool:
        """Whether it may be sent to."""
        return self.disabled_at is None

    @property
    def is_pinned(self) -> bool:
        """Whether staff asked for it, whatever its health."""
        return self.pinned_at is not None

    def disable(self, reason: str) -> None:
        """Send nothing to it any more."""
        self.disabled_at, self.disabled_reason = timezone.now(), reason[:200]
        self._change(["disabled_at", "disabled_reason"], reason=f"endpoint disabled: {reason}")

    def enable(self) -> None:
        """Send to it again; what was learnt of its health is forgotten."""
        self.disabled_at, self.disabled_reason = None, ""
        self._change(
            ["disabled_at", "disabled_reason"], reason="endpoint enabled", afresh=[self.pk]
        )

    def pin(self, reason: str, *, by: str) -> None:
        """Send everything here, whatever the health says, until the pin is lifted."""
        if not self.is_usable:
            raise ValueError("The endpoint is disabled; enable it before you pin it.")
        using = router.db_for_write(type(self), instance=self)
        with transaction.atomic(using=using):
            self.subscription.lock_doors(using=using)
            siblings = Endpoint.objects.using(using).filter(subscription=self.subscription_id)
            siblings = siblings.filter(pinned_at__isnull=False).exclude(pk=self.pk)
            siblings.update(pinned_at=None, pin_reason="", pinned_by="")
            self.pinned_at, self.pin_reason, self.pinned_by = timezone.now(), reason[:200], by[:150]
            self._change(
                ["pinned_at", "pin_reason", "pinned_by"], reason=f"pinned: {reason}", by=by
            )

    def unpin(self, *, by: str) -> None:
        """Let the health of the endpoints decide again."""
        self.pinned_at, self.pin_reason, self.pinned_by = None, "", ""
        with acting_as(by or who()):
            self._change(["pinned_at", "pin_reason", "pinned_by"], reason="pin lifted", by=by)

    def _url_indexes(self) -> list[str]:
        # What does not open has not been changed.
        if isinstance(self.url, Sealed):
            return [self.url_index]
        field = cast("BlindIndexField", self._meta.get_field("url_index"))
        return field.values_of(self.url)

    def _change(
        self, fields: list[str], *, reason: str, by: str = "", afresh: Collection[UUID] = ()
    ) -> None:
        from .switch import reconsider  # it refers to endpoints

        using = router.db_for_write(type(self), instance=self)
        with transaction.atomic(using=using):
            self.subscription.lock_doors(using=using)
            super().save(update_fields=fields, using=using)
            reconsider(self.subscription, using=using, reason=reason, by=by, afresh=afresh)
