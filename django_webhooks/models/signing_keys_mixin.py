"""Keyring: the keys of a subscription, of which several may sign while receivers change over."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, cast

from django.db import models, router

from .. import times
from ..fields import Undecryptable
from ..hiding import hidden_value, hiding

if TYPE_CHECKING:
    from django.db.models.fields.related_descriptors import RelatedManager

    from .signing_key import SigningKey, SigningKeyQuerySet
    from .subscription import Subscription


class SigningKeysMixin(models.Model):
    """A signer with several keys; ``save()`` has to store the secret that was set."""

    if TYPE_CHECKING:
        signing_keys: RelatedManager[SigningKey]

    class Meta:
        abstract = True

    @property
    def signing_secret(self) -> str:
        """The secret of its newest key; set before ``save()`` to bring one of your own.

        On a subscription that has a key, that is a rotation. Raise NotDecrypted where the newest
        key does not open with the WEBHOOKS_ENCRYPTION_KEYS there are.
        """
        if "_signing_secret" in self.__dict__:
            return str(self.__dict__["_signing_secret"])
        newest = next(iter(self.keys_at(times.now())), None)
        if newest is not None and isinstance(newest.secret, Undecryptable):
            raise newest.not_decrypted()
        return newest.secret if newest else ""

    @signing_secret.setter
    def signing_secret(self, secret: str) -> None:
        self.__dict__["_signing_secret"] = hidden_value(secret)

    def keys_at(self, now: datetime) -> list[SigningKey]:
        """Return the keys that sign at a moment, the newest first."""
        # Asked before each request: a manager, which Django makes each time, takes longer.
        known = self.__dict__.get("_prefetched_objects_cache", {}).get("signing_keys")
        found = self.signing_keys.all() if known is None else known
        keys = [key for key in found if key.signs_at(now)]
        return sorted(keys, key=lambda key: key.pk, reverse=True)

    @hiding
    def rotate_key(
        self, *, secret: str = "", kind: str = "", overlap: float | None = None, by: str = ""
    ) -> SigningKey:
        """Sign with a new key, and for ``overlap`` seconds with the former ones as well.

        Without a ``secret`` one is generated, of the ``kind`` (``v1``, ``v1a``) of the newest key
        where none is named; without an ``overlap`` it is a day. Raise ValueError
        where too many keys sign already, and InvalidSecret.
        """
        using = router.db_for_write(type(self), instance=self)
        made = self._keys(using).rotate(
            cast("Subscription", self), secret=secret, kind=kind, overlap=overlap, by=by
        )
        getattr(self, "_prefetched_objects_cache", {}).pop("signing_keys", None)
        return made

    def store_secret(self, *, using: str, is_new: bool) -> None:
        """Save the secret where one was set; who is new gets a key in any case."""
        secret = self.__dict__.pop("_signing_secret", "")
        if is_new or secret:
            self._keys(using).rotate(cast("Subscription", self), secret=secret)

    def _keys(self, using: str) -> SigningKeyQuerySet:
        return self.signing_keys.model.objects.using(using)
