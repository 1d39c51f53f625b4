"""Endpoints: the endpoints of a receiver, in order."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from django.core.exceptions import EmptyResultSet, ValidationError
from django.db import connections, models, router, transaction
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from .. import namespaces, times
from ..audit_log import AuditedQuerySet, current_actor, set_actor
from ..fields import (
    BlindIndexField,
    EncryptedJSONField,
    EncryptedTextField,
    Undecryptable,
    UTCDateTimeField,
    UUID7Field,
    undecryptable_fields,
)
from ..hiding import hidden_value, hide_arguments, hiding
from ..policies import urls
from ..policies.addresses import Refusal
from ..policies.reasons import SwitchReason
from ..validators import (
    normalise_url,
    url_rules,
    validate_ca_bundle,
    validate_client_certificate,
    validate_endpoint_url,
    validate_header_value,
    validate_headers,
)
from .endpoint_health import EndpointHealth
from .subscription import Subscription

logger = logging.getLogger("django_webhooks.sending")


#: How a row is locked so that it stays. SQLite has one transaction that writes at a time.
_SHARED = {"postgresql": " FOR KEY SHARE", "mysql": " LOCK IN SHARE MODE"}


class EndpointQuerySet(AuditedQuerySet, models.QuerySet["Endpoint"]):
    """Named sets of endpoints."""

    def usable(self) -> EndpointQuerySet:
        """Return the endpoints that may be sent to."""
        return self.filter(disabled_at__isnull=True)

    def with_url(self, *urls: str) -> EndpointQuerySet:
        """Return those that have exactly one of these URLs, compared by their blind index."""
        field = Endpoint._meta.get_field("url_index")
        wanted = [index for url in urls for index in field.values_of(normalise_url(url))]
        return self.filter(url_index__in=wanted)

    @hiding
    def create(self, **kwargs: Any) -> Endpoint:
        """Make an endpoint; see :meth:`Endpoint.save`."""
        return super().create(**{name: hidden_value(one) for name, one in kwargs.items()})

    def keep(self, *, to_change: bool = False) -> set[UUID]:
        """Lock these so that none is deleted in this transaction; return the keys of those there.

        A lock that is shared becomes no other one later: say ``to_change`` where they may change.

        Everybody does so before anything that refers to them is locked or written: the order of
        locks is endpoints, health, limits, deliveries. A deletion waits, and then sees the rows
        that were written; a change waits only where the database does not know the difference.
        """
        how = _SHARED.get(connections[self.db].vendor, "")
        how = " FOR UPDATE" if how and to_change else how
        query = self.order_by("pk").values_list("pk").query
        try:
            sql, params = query.get_compiler(self.db).as_sql()
        except EmptyResultSet:
            return set()
        with connections[self.db].cursor() as cursor:
            cursor.execute(sql + how, params)
            return {self.model._meta.pk.to_python(key) for (key,) in cursor.fetchall()}

    def lock_for_deletion(self) -> set[UUID]:
        """Lock these, then the health of their subscriptions; return the keys of the latter."""
        rows = self.order_by("pk").select_for_update()
        subscriptions = set(rows.values_list("subscription_id", flat=True))
        self._all().lock_health(subscriptions)
        return subscriptions

    def lock_health(self, subscriptions: Collection[UUID]) -> dict[UUID, list[EndpointHealth]]:
        """Lock the health of all endpoints of these subscriptions; return it by subscription."""
        found: dict[UUID, list[EndpointHealth]] = {key: [] for key in subscriptions}
        self._all().filter(subscription_id__in=list(subscriptions)).keep()
        rows = EndpointHealth.objects.using(self.db).filter(subscription_id__in=list(subscriptions))
        # Endpoints are read apart: they are not to be locked.
        endpoints = models.Prefetch("endpoint", queryset=self._all())
        for row in rows.select_for_update().prefetch_related(endpoints).order_by("pk"):
            found[row.subscription_id].append(row)
        return found

    def _all(self) -> EndpointQuerySet:
        return Endpoint.objects.using(self.db)

    def delete(self) -> tuple[int, dict[str, int]]:
        """Delete them, and choose the active endpoints anew."""
        using = namespaces.written_by(self)
        with transaction.atomic(using=using):
            subscriptions = self.using(using).lock_for_deletion()
            deleted = super().delete()
            for one in Subscription.objects.using(using).filter(pk__in=subscriptions):
                one.reconsider(using=using, reason=SwitchReason.ENDPOINTS_CHANGED)
        return deleted

    # Django asks for it: it must not be called on a manager.
    delete.alters_data = True  # type: ignore[attr-defined]  # a method takes attributes
    delete.queryset_only = True  # type: ignore[attr-defined]  # a method takes attributes

    @hiding
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

    id = UUID7Field()
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
    pinned_at = UTCDateTimeField(_("pinned"), null=True, blank=True, editable=False)
    pin_reason = models.CharField(_("why pinned"), max_length=200, blank=True, editable=False)
    pinned_by = models.CharField(_("pinned by"), max_length=150, blank=True, editable=False)
    disabled_at = UTCDateTimeField(_("disabled"), null=True, blank=True, editable=False)
    #: What the receiver said, or a person in words of their own; nothing is counted by it.
    disabled_reason = models.CharField(_("reason"), max_length=200, blank=True, editable=False)
    disabled_by = models.CharField(_("disabled by"), max_length=150, blank=True, editable=False)
    created_at = UTCDateTimeField(_("created"), default=times.now, editable=False)

    objects = EndpointQuerySet.as_manager()
    hide_arguments(
        type(objects), "create", "update", "get_or_create", "update_or_create", "with_url"
    )

    if TYPE_CHECKING:
        health: EndpointHealth
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

    @hiding
    def save(self, **kwargs: Any) -> None:
        """Save the row, choose the active endpoint anew, and let what waited for one flow.

        An endpoint that is new, or whose URL was changed, counts as healthy.
        """
        using = kwargs.get("using") or router.db_for_write(type(self), instance=self)
        self.url = normalise_url(self.url)
        with transaction.atomic(using=using):
            self.subscription.lock_endpoint_health(using=using)
            rows = Endpoint.objects.using(using).filter(pk=self.pk)
            before = None if self._state.adding else rows.values_list("url_index", flat=True)[0]
            columns = kwargs.get("update_fields")
            if columns is not None and "url" in columns:
                kwargs["update_fields"] = {*columns, "url_index"}
            super().save(**kwargs)
            is_new = before not in self._url_indexes()
            if is_new:
                self._warn()
            self.subscription.reconsider(
                using=using,
                reason=SwitchReason.ENDPOINTS_CHANGED,
                afresh=[self.pk] if is_new else (),
            )

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        """Delete the row, and choose the active endpoint anew."""
        using = kwargs.get("using") or router.db_for_write(type(self), instance=self)
        with transaction.atomic(using=using):
            self.subscription.lock_endpoint_health(using=using)
            deleted = super().delete(*args, **kwargs)
            self.subscription.reconsider(using=using, reason=SwitchReason.ENDPOINTS_CHANGED)
        return deleted

    @hiding
    def clean(self) -> None:
        """Refuse a backup that is the same endpoint, and a health check without its URL."""
        self.url = normalise_url(self.url)
        if (
            self.probe == self.ProbeKind.HTTP
            and not self.health_url
            and not isinstance(self.health_url, Undecryptable)
        ):
            raise ValidationError({"health_url": _("Enter the URL that the health check gets.")})
        others = Endpoint.objects.filter(subscription=self.subscription_id).exclude(pk=self.pk)
        if self.url and others.with_url(self.url).exists():
            raise ValidationError(
                {"url": _("Another endpoint of this subscription has this URL; a backup helps "
                          "only where it is another one.")}
            )  # fmt: skip

    @property
    def host(self) -> str:
        """Host and port of the URL; the path may be a secret."""
        if isinstance(self.url, Undecryptable):
            return str(_("cannot be read"))
        return urls.host_of(self.url) or str(_("no host"))

    @property
    def label(self) -> str:
        """Host and role, for those who may know the host."""
        return f"{self.host} ({self})"

    @property
    def is_readable(self) -> bool:
        """Whether its URL and credentials open with the encryption keys there are."""
        return not undecryptable_fields(self)

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

    def disable(self, reason: str = "", *, by: str = "") -> None:
        """Send nothing to it any more.

        ``reason`` is for people; ``by`` names who asks, without it that is who acts.
        """
        self.disabled_at, self.disabled_reason = times.now(), reason[:200]
        self.disabled_by = (by or current_actor())[:150]
        self._change(
            ["disabled_at", "disabled_reason", "disabled_by"],
            reason=SwitchReason.ENDPOINT_DISABLED,
            note=reason,
            by=self.disabled_by,
        )

    def enable(self) -> None:
        """Send to it again; what was learnt of its health is forgotten."""
        self.disabled_at, self.disabled_reason, self.disabled_by = None, "", ""
        self._change(
            ["disabled_at", "disabled_reason", "disabled_by"],
            reason=SwitchReason.ENDPOINT_ENABLED,
            afresh=[self.pk],
        )

    def pin(self, reason: str, *, by: str) -> None:
        """Send everything here, whatever the health says, until the pin is lifted."""
        if not self.is_usable:
            raise ValueError("The endpoint is disabled; enable it before you pin it.")
        using = router.db_for_write(type(self), instance=self)
        with transaction.atomic(using=using):
            self.subscription.lock_endpoint_health(using=using)
            siblings = Endpoint.objects.using(using).filter(subscription=self.subscription_id)
            siblings = siblings.filter(pinned_at__isnull=False).exclude(pk=self.pk)
            siblings.update(pinned_at=None, pin_reason="", pinned_by="")
            self.pinned_at, self.pin_reason, self.pinned_by = times.now(), reason[:200], by[:150]
            self._change(
                ["pinned_at", "pin_reason", "pinned_by"],
                reason=SwitchReason.PINNED,
                note=reason,
                by=by,
            )

    def unpin(self, *, by: str) -> None:
        """Let the health of the endpoints decide again."""
        self.pinned_at, self.pin_reason, self.pinned_by = None, "", ""
        with set_actor(by or current_actor()):
            self._change(
                ["pinned_at", "pin_reason", "pinned_by"], reason=SwitchReason.UNPINNED, by=by
            )

    def _url_indexes(self) -> list[str]:
        # A URL that does not open has not been changed.
        if isinstance(self.url, Undecryptable):
            return [self.url_index]
        field = cast("BlindIndexField", self._meta.get_field("url_index"))
        return field.values_of(self.url)

    def _warn(self) -> None:
        """Say at once what attempts will say: create() looks at no URL, full_clean() does."""
        found = (
            None if isinstance(self.url, Undecryptable) else urls.parse(str(self.url), url_rules())
        )
        if isinstance(found, Refusal):
            logger.warning(
                "The %s endpoint of subscription %r is saved, and is blocked as it is: %s",
                self,
                self.subscription.name,
                found.message,
                extra={"webhooks_endpoint": str(self.pk), "webhooks_reason": "blocked"},
            )

    def _change(
        self,
        fields: list[str],
        *,
        reason: SwitchReason,
        note: str = "",
        by: str = "",
        afresh: Collection[UUID] = (),
    ) -> None:
        using = router.db_for_write(type(self), instance=self)
        with transaction.atomic(using=using):
            self.subscription.lock_endpoint_health(using=using)
            super().save(update_fields=fields, using=using)
            self.subscription.reconsider(
                using=using, reason=reason, note=note, by=by, afresh=afresh
            )
