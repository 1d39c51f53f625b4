"""Signing keys: what the requests of a subscription are signed with, and until when."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, cast
from uuid import UUID

from django.db import connections, models, transaction
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from .. import audit_log, encryption, signing, times
from ..audit_log import AuditedQuerySet, without_audit
from ..exceptions import NotDecrypted
from ..fields import EncryptedTextField, Undecryptable, UTCDateTimeField, UUID7Field
from ..hiding import hiding
from ..validators import validate_secret
from .subscription import Subscription

#: Keys of one subscription that sign at once: each makes every request longer.
MAX_KEYS = 8
#: Seconds for which a key goes on signing beside the one that follows it, unless somebody chooses:
#: a day, so that the receiver can change over in working hours.
OVERLAP_SECONDS = 86_400.0


class SigningKeyQuerySet(AuditedQuerySet, models.QuerySet["SigningKey"]):
    """Named sets of keys, and how one follows another."""

    def active(self, now: datetime) -> SigningKeyQuerySet:
        """Return the keys that sign at a moment, the newest first."""
        unexpired = models.Q(expires_at__isnull=True) | models.Q(expires_at__gt=now)
        return self.filter(unexpired).order_by("-pk")

    @hiding
    def rotate(
        self,
        subscription: Subscription,
        *,
        secret: str = "",
        kind: str = "",
        overlap: float | None = None,
        by: str = "",
        now: datetime | None = None,
    ) -> SigningKey:
        """Give a subscription a new key, and let its others expire after ``overlap`` seconds.

        Without a ``secret`` one is generated, of the ``kind`` of the newest key where none is
        named. Raise ValueError where too many keys sign already, and InvalidSecret.
        """
        now = now or times.now()
        ends = now + timedelta(seconds=_overlap(overlap))
        with transaction.atomic(using=self.db):
            # One rotation at a time.
            rows = Subscription.objects.using(self.db)
            # A transaction that records an event for it may be long, and is not waited for.
            no_key = connections[self.db].features.has_select_for_no_key_update
            rows.select_for_update(no_key=no_key).filter(pk=subscription.pk).first()
            own = self.filter(subscription=subscription)
            active = list(own.active(now))
            if len(active) >= MAX_KEYS:
                raise ValueError(
                    f"{len(active)} keys of this subscription sign already; wait until one expires."
                )
            if not secret:
                secret = signing.generate(kind or (active[0].kind if active else ""))
            signing.check_secret(secret)
            with without_audit():
                later = models.Q(expires_at__isnull=True) | models.Q(expires_at__gt=ends)
                own.filter(later).update(expires_at=ends)
                made = self.create(
                    subscription=subscription, secret=secret, created_at=now, created_by=by[:150]
                )
            until = {"former_keys_sign_until": ends.isoformat()} if active else {}
            audit_log.log(
                "subscription.key_rotated" if active else "subscription.key_made",
                subscription, using=self.db, by=by, kind=made.kind, key=str(made.pk), **until,
            )  # fmt: skip
            return made


class SigningKey(models.Model):
    """One key of a subscription: an HMAC secret (``whsec_``) or an Ed25519 pair (``whsk_``)."""

    class Kind(models.TextChoices):
        """How it signs."""

        # HMAC-SHA256: the receiver knows the same secret.
        HMAC = signing.HMAC, pgettext_lazy("signing key", "v1, a shared secret (HMAC-SHA256)")
        # Ed25519: the receiver knows the public key alone.
        ED25519 = signing.ED25519, pgettext_lazy("signing key", "v1a, a public key (Ed25519)")

    id = UUID7Field()
    subscription = models.ForeignKey(
        Subscription,
        on_delete=models.CASCADE,
        related_name="signing_keys",
        verbose_name=_("subscription"),
    )
    secret = EncryptedTextField(_("secret"), max_length=120, validators=[validate_secret])
    created_at = UTCDateTimeField(_("created"), default=times.now, editable=False)
    created_by = models.CharField(_("created by"), max_length=150, blank=True, editable=False)
    expires_at = UTCDateTimeField(
        _("expires"), null=True, blank=True, help_text=_("Empty: it signs until it is rotated.")
    )

    objects = SigningKeyQuerySet.as_manager()

    if TYPE_CHECKING:
        subscription_id: UUID

    class Meta:
        verbose_name = _("signing key")
        verbose_name_plural = _("signing keys")
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.masked

    def not_decrypted(self) -> NotDecrypted:
        """Return the error that says why its secret does not open."""
        field = cast(EncryptedTextField, self._meta.get_field("secret"))
        try:
            encryption.decrypt(self.secret.ciphertext, context=field.context)
        except NotDecrypted as error:
            words = f"The signing key of this subscription cannot be read: {error}"
            return NotDecrypted(words, is_key_missing=error.is_key_missing)
        # The key was added since the row was read.
        return NotDecrypted("Read the subscription again: its key opens now.", is_key_missing=False)

    @property
    def is_readable(self) -> bool:
        """Whether its secret opens with the encryption keys there are."""
        return not isinstance(self.secret, Undecryptable)

    @property
    def kind(self) -> str:
        """``v1`` or ``v1a``; see :class:`Kind`."""
        return signing.kind_of(self.secret)

    @property
    def public_key(self) -> str:
        """The key by which receivers verify Ed25519 signatures: ``whpk_…``; empty for HMAC."""
        return signing.public_key(self.secret) if self.kind == signing.ED25519 else ""

    @property
    def masked(self) -> str:
        """Enough of it to tell it from others: the public key, or the end of the secret."""
        if not self.is_readable:
            return str(_("cannot be read"))
        return self.public_key or f"{signing.PREFIX}…{self.secret[-4:]}"

    def signs_at(self, now: datetime) -> bool:
        """Say whether requests carry a signature of it at a moment."""
        return self.expires_at is None or self.expires_at > now


def _overlap(seconds: float | None) -> float:
    found = OVERLAP_SECONDS if seconds is None else seconds
    if found < 0:
        raise ValueError("An overlap is a number of seconds, or 0.")
    return float(found)
