"""Values of columns: time-ordered ids, the database's own clock, and what is kept encrypted."""

from __future__ import annotations

import json
import os
import time
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar
from zoneinfo import ZoneInfo

from django import forms
from django.core.exceptions import FieldError, ValidationError
from django.db import models
from django.db.models.functions import Now
from django.db.models.query_utils import DeferredAttribute
from django.utils.translation import gettext_lazy as _

from . import encryption, times
from .exceptions import NotDecrypted
from .hiding import hidden_value, hiding

_Set = TypeVar("_Set", contravariant=True)
_Get = TypeVar("_Get", covariant=True)
if TYPE_CHECKING:
    _DateTimeField = models.DateTimeField[_Set, _Get]
else:

    class _DateTimeField(models.DateTimeField):
        """Generic for type checkers alone."""

        def __class_getitem__(cls, types):
            return cls


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
    milliseconds = max(0, int(times.aware(moment).timestamp() * 1000))
    return uuid.UUID(int=(milliseconds << 80) | 0x7 << 76 | 0b10 << 62)


def uuid7_beside(key: uuid.UUID) -> uuid.UUID:
    """Return a unique id that stands where ``key`` does in the order of ids.

    The last 48 bits are random; ids of others stand before or behind all ids beside this one.
    """
    return uuid.UUID(bytes=key.bytes[:10] + os.urandom(6))


class UUID7Field(models.UUIDField):  # type: ignore[type-arg]  # generic for type checkers alone
    """A primary key that this app makes: :func:`uuid7`."""

    def __init__(self) -> None:
        super().__init__(primary_key=True, default=uuid7, editable=False)

    def deconstruct(self) -> Any:
        """Return no options: each such key has the same."""
        name, path, args, _ = super().deconstruct()
        return name, path, args, {}


class DatabaseNow(Now):
    """The moment by the database's clock, which every worker shares."""

    def as_mysql(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        # CURRENT_TIMESTAMP is in the session's time zone; Django stores UTC.
        return self.as_sql(compiler, connection, template="UTC_TIMESTAMP(6)", **extra)


class UTCDateTimeField(_DateTimeField[_Set, _Get]):
    """A moment: aware and in UTC in Python, and UTC in the database, whatever USE_TZ says.

    PostgreSQL has a type for moments (``timestamptz``); other databases keep the clock of UTC
    without a zone. So a project that changes USE_TZ or TIME_ZONE shifts no moment. A naive value
    that is assigned is read in the default zone.
    """

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> datetime | None:
        """Return the moment that the database's driver, or Django, wrote in words of its own."""
        if value is None or value.tzinfo is UTC:
            return value  # type: ignore[no-any-return]
        if connection.vendor != "postgresql":
            # A zone was put there by Django, which knows nothing of this column.
            return value.replace(tzinfo=UTC)  # type: ignore[no-any-return]
        # Without USE_TZ Django takes the zone of the session away; ``fold`` tells which hour it is.
        return times.aware(value, zone=ZoneInfo(connection.timezone_name))

    def to_python(self, value: Any) -> Any:
        """Read a text or a date as Django does; the moment is aware."""
        value = super().to_python(value)
        return times.aware(value) if isinstance(value, datetime) else value

    def get_prep_value(self, value: Any) -> Any:
        """Return the moment in UTC."""
        if isinstance(value, datetime):
            return times.aware(value)
        return self.to_python(super(models.DateField, self).get_prep_value(value))

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        """Return the moment as the column keeps it."""
        value = value if prepared else self.get_prep_value(value)
        if value is not None and connection.vendor != "postgresql":
            value = value.replace(tzinfo=None)
        return connection.ops.adapt_datetimefield_value(value)

    def pre_save(self, model_instance: models.Model, add: bool) -> Any:
        """Let the row know the moment as it will be read again."""
        value = super().pre_save(model_instance, add)
        if isinstance(value, datetime) and value.tzinfo is not UTC:
            value = times.aware(value)
            setattr(model_instance, self.attname, value)
        return value

    def formfield(self, **kwargs: Any) -> Any:
        """The form fields that show and read the clock of the current zone."""
        is_split = kwargs.get("form_class") is forms.SplitDateTimeField
        form_class = times.UTCSplitDateTimeFormField if is_split else times.UTCDateTimeFormField
        return super().formfield(**{**kwargs, "form_class": form_class})


class Undecryptable:
    """A value that does not open now; saved again, it stays as it is."""

    ciphertext: str
    why: str


class UndecryptableText(Undecryptable, str):
    """A text that does not open; it reads as empty."""

    def __new__(cls, ciphertext: str, why: str = "") -> UndecryptableText:
        made = super().__new__(cls, "")
        made.ciphertext, made.why = ciphertext, why
        return made

    def __reduce__(self) -> Any:
        return type(self), (self.ciphertext, self.why)

    def __deepcopy__(self, memo: Any) -> UndecryptableText:
        return self


class UndecryptableDict(Undecryptable, dict[str, Any]):
    """A dictionary that does not open; it reads as empty."""

    def __init__(self, ciphertext: str, why: str = "") -> None:
        super().__init__()
        self.ciphertext, self.why = ciphertext, why

    def __reduce__(self) -> Any:
        return type(self), (self.ciphertext, self.why)

    def __deepcopy__(self, memo: Any) -> UndecryptableDict:
        return UndecryptableDict(self.ciphertext, self.why)


class _Hidden(DeferredAttribute):
    """Keeps the values of a column as such whose repr does not show them."""

    def __set__(self, instance: models.Model, value: Any) -> None:
        instance.__dict__[self.field.attname] = hidden_value(value)


class Encrypted(models.Field):  # type: ignore[type-arg]  # generic for type checkers alone
    """A column whose database keeps ciphertext alone.

    An empty value is kept empty. A ciphertext that does not open is read as a
    :class:`Undecryptable` value. Fixtures hold ciphertext, which is loaded again as it is. Nothing
    but ``isnull`` can be looked up.
    """

    undecryptable: Any
    descriptor_class = _Hidden

    def get_internal_type(self) -> str:
        """A text of any length."""
        return "TextField"

    @property
    def context(self) -> str:
        """Table and column, which the ciphertext is bound to."""
        return f"{self.model._meta.label_lower}.{self.name}"

    def dump(self, value: Any) -> str:
        """Return the text that is encrypted."""
        return str(value)

    def load(self, text: str) -> Any:
        """Return the value of a decrypted text."""
        return text

    @hiding
    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:
        """Open the ciphertext, or say why it does not open."""
        if not value:
            return None if value is None else self.load("")
        try:
            return hidden_value(self.load(encryption.decrypt(value, context=self.context)))
        except NotDecrypted as error:
            return self.undecryptable(value, str(error))

    @hiding
    def get_prep_value(self, value: Any) -> Any:
        """Encrypt the value; what did not open stays as it is."""
        if value is None or isinstance(value, Undecryptable):
            return value.ciphertext if isinstance(value, Undecryptable) else None
        text = self.dump(value)
        return encryption.encrypt(text, context=self.context) if text else ""

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        """Encrypt the value."""
        return value if prepared else self.get_prep_value(value)

    @hiding
    def value_to_string(self, obj: Any) -> str:
        """Return the ciphertext, for fixtures."""
        return self.get_prep_value(self.value_from_object(obj)) or ""

    @hiding
    def to_python(self, value: Any) -> Any:
        """Take the ciphertext of a fixture as it is."""
        if isinstance(value, str) and not isinstance(value, Undecryptable):
            if encryption.is_ciphertext(value):
                return self.undecryptable(value, "")
            return hidden_value(self.load(value))
        return hidden_value(value)

    @hiding
    def clean(self, value: Any, model_instance: Any) -> Any:
        """Refuse ciphertext from people: it would tell them what it says."""
        if isinstance(value, str) and encryption.is_ciphertext(value):
            raise ValidationError(_("Enter the value itself, not its ciphertext."), code="sealed")
        if isinstance(value, Undecryptable):
            # A value that does not open is left alone.
            return value
        return super().clean(value, model_instance)

    def save_form_data(self, instance: models.Model, data: Any) -> None:
        """Keep what does not open where nothing was entered in its place."""
        if data or not isinstance(getattr(instance, self.name), Undecryptable):
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

    undecryptable = UndecryptableText


class EncryptedJSONField(Encrypted):
    """A JSON object, kept encrypted."""

    undecryptable = UndecryptableDict

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
        if not isinstance(value, Undecryptable):
            setattr(model_instance, self.attname, self.value_of(value))
        return str(getattr(model_instance, self.attname))

    @hiding
    def value_of(self, text: str) -> str:
        """Return the digest that is stored for a text."""
        return encryption.blind_index(text, context=self._context) if text else ""

    @hiding
    def values_of(self, text: str) -> list[str]:
        """Return the digests under which a text may have been stored."""
        return encryption.blind_indexes(text, context=self._context)

    @property
    def _context(self) -> str:
        return f"{self.model._meta.label_lower}.{self.of}"


def encrypted_fields(model: type[models.Model]) -> list[Encrypted]:
    """Return the fields of a model that are kept encrypted."""
    return [field for field in model._meta.concrete_fields if isinstance(field, Encrypted)]


def undecryptable_fields(instance: models.Model) -> dict[str, str]:
    """Return the names of the fields that do not open, with the reason."""
    values = (
        (one.name, instance.__dict__.get(one.name)) for one in encrypted_fields(type(instance))
    )
    return {
        name: value.why for name, value in values if isinstance(value, Undecryptable) and value.why
    }
