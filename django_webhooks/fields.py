"""Values of columns: time-ordered ids, the database's own clock, and what is kept encrypted."""

from __future__ import annotations

import json
import os
import time
import uuid
from datetime import datetime
from typing import Any

from django import forms
from django.core.exceptions import FieldError, ValidationError
from django.db import models
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from . import encryption
from .exceptions import NotDecrypted


def uuid7() -> uuid.UUID:
    """Return a time-ordered unique id: UUID version 7 (RFC 9562 section 5.7).

    The 12 bits behind the version tell the moment within the millisecond (section 6.2, method 3),
    so that ids of one process are in order.
    """
    milliseconds, rest = divmod(time.time_ns(), 1_000_000)
    value = (milliseconds << 80) | 0x7 << 76 | (rest * 4096 // 1_000_000) << 64
    value |= 0b10 << 62 | int.from_bytes(os.urandom(8), "big") >> 2
    return uuid.UUID(int=value)


def uuid7_at(moment: datetime) -> uuid.UUID:
    """Return the least id that :func:`uuid7` could give at a moment."""
    milliseconds = max(0, int(moment.timestamp() * 1000))
    return uuid.UUID(int=(milliseconds << 80) | 0x7 << 76 | 0b10 << 62)


class DatabaseNow(Now):
    """The moment by the database's clock, which every worker shares."""

    def as_mysql(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        # CURRENT_TIMESTAMP is in the session's time zone; Django stores UTC.
        return self.as_sql(compiler, connection, template="UTC_TIMESTAMP(6)", **extra)


class Sealed:
    """A value that does not open now; saved again, it stays as it is."""

    ciphertext: str
    why: str


class SealedText(Sealed, str):
    """A text that does not open; it reads as empty."""

    def __new__(cls, ciphertext: str, why: str = "") -> SealedText:
        made = super().__new__(cls, "")
        made.ciphertext, made.why = ciphertext, why
        return made

    def __reduce__(self) -> Any:
        return type(self), (self.ciphertext, self.why)

    def __deepcopy__(self, memo: Any) -> SealedText:
        return self


class SealedDict(Sealed, dict[str, Any]):
    """A dictionary that does not open; it reads as empty."""

    def __init__(self, ciphertext: str, why: str = "") -> None:
        super().__init__()
        self.ciphertext, self.why = ciphertext, why

    def __reduce__(self) -> Any:
        return type(self), (self.ciphertext, self.why)

    def __deepcopy__(self, memo: Any) -> SealedDict:
        return SealedDict(self.ciphertext, self.why)


class Encrypted(models.Field):  # type: ignore[type-arg]  # generic for type checkers alone
    """A column whose database keeps ciphertext alone.

    What is empty is kept empty. What does not open is read as a :class:`Sealed` value. Fixtures
    hold ciphertext, which is loaded again as it is. Nothing but ``isnull`` can be looked up.
    """

    sealed: Any

    def get_internal_type(self) -> str:
        """A text of any length."""
        return "TextField"

    @property
    def place(self) -> str:
        """Table and column, which the ciphertext is bound to."""
        return f"{self.model._meta.label_lower}.{self.name}"

    def dump(self, value: Any) -> str:
        """Return the text that is encrypted."""
        return str(value)

    def load(self, text: str) -> Any:
        """Return the value of a decrypted text."""
        return text

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:
        """Open the ciphertext, or say why it does not open."""
        if not value:
            return None if value is None else self.load("")
        try:
            return self.load(encryption.decrypt(value, place=self.place))
        except NotDecrypted as error:
            return self.sealed(value, str(error))

    def get_prep_value(self, value: Any) -> Any:
        """Encrypt the value; what did not open stays as it is."""
        if value is None or isinstance(value, Sealed):
            return value.ciphertext if isinstance(value, Sealed) else None
        text = self.dump(value)
        return encryption.encrypt(text, place=self.place) if text else ""

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        """Encrypt the value."""
        return value if prepared else self.get_prep_value(value)

    def value_to_string(self, obj: Any) -> str:
        """Return the ciphertext, for fixtures."""
        return self.get_prep_value(self.value_from_object(obj)) or ""

    def to_python(self, value: Any) -> Any:
        """Take the ciphertext of a fixture as it is."""
        if isinstance(value, str) and not isinstance(value, Sealed):
            if encryption.is_ciphertext(value):
                return self.sealed(value, "")
            return self.load(value)
        return value

    def clean(self, value: Any, model_instance: Any) -> Any:
        """Refuse ciphertext from people: it would tell them what it says."""
        if isinstance(value, str) and encryption.is_ciphertext(value):
            raise ValidationError(_("Enter the value itself, not its ciphertext."), code="sealed")
        if isinstance(value, Sealed):
            # What does not open is left alone.
            return value
        return super().clean(value, model_instance)

    def save_form_data(self, instance: models.Model, data: Any) -> None:
        """Keep what does not open where nothing was entered in its place."""
        if data or not isinstance(getattr(instance, self.name), Sealed):
            super().save_form_data(instance, data)

    def get_lookup(self, lookup_name: str) -> Any:
        """Refuse look-ups, which would compare ciphertexts."""
        if lookup_name == "isnull":
            return super().get_lookup(lookup_name)
        raise FieldError(
            f"{self.name} is encrypted and cannot be looked up by {lookup_name!r}; "
            "find endpoints with Endpoint.objects.with_url(url)."
        )


class EncryptedTextField(Encrypted, models.CharField):  # type: ignore[type-arg]  # generic for type checkers alone
    """A text of at most ``max_length`` characters, kept encrypted."""

    sealed = SealedText


class EncryptedJSONField(Encrypted):
    """A JSON object, kept encrypted."""

    sealed = SealedDict

    def dump(self, value: Any) -> str:
        """The object as JSON, or nothing where it is empty."""
        return json.dumps(value) if value else ""

    def load(self, text: str) -> Any:
        """The object of the JSON."""
        try:
            return json.loads(text) if text else {}
        except ValueError:
            raise ValidationError(_("Enter a JSON object."), code="invalid") from None

    def formfield(self, **kwargs: Any) -> Any:
        """The field of JSON."""
        return super().formfield(**{"form_class": forms.JSONField, **kwargs})


class BlindIndexField(models.CharField):  # type: ignore[type-arg]  # generic for type checkers alone
    """A keyed digest of an encrypted text of the same row, by which that is found."""

    def __init__(self, *, of: str, **kwargs: Any) -> None:
        self.of = of
        super().__init__(**{"max_length": 32, "editable": False, "db_index": True, **kwargs})

    def deconstruct(self) -> Any:
        """Name the field that it indexes."""
        name, path, args, kwargs = super().deconstruct()
        return name, path, args, {**kwargs, "of": self.of}

    def pre_save(self, model_instance: models.Model, add: bool) -> str:
        """Work the digest out anew; what does not open keeps the one it has."""
        value = getattr(model_instance, self.of)
        if not isinstance(value, Sealed):
            setattr(model_instance, self.attname, self.value_of(value))
        return str(getattr(model_instance, self.attname))

    def value_of(self, text: str) -> str:
        """Return the digest that is stored for a text."""
        return encryption.blind_index(text, place=self._place) if text else ""

    def values_of(self, text: str) -> list[str]:
        """Return the digests under which a text may have been stored."""
        return encryption.blind_indexes(text, place=self._place)

    @property
    def _place(self) -> str:
        return f"{self.model._meta.label_lower}.{self.of}"


def encrypted_fields(model: type[models.Model]) -> list[Encrypted]:
    """Return the fields of a model that are kept encrypted."""
    return [field for field in model._meta.concrete_fields if isinstance(field, Encrypted)]


def sealed_fields(instance: models.Model) -> dict[str, str]:
    """Return the names of the fields that do not open, with the reason."""
    values = (
        (one.name, instance.__dict__.get(one.name)) for one in encrypted_fields(type(instance))
    )
    return {name: value.why for name, value in values if isinstance(value, Sealed) and value.why}
