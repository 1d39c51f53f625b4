"""A model with fields of every kind that Django has, and of packages for more."""

from __future__ import annotations

import enum
import uuid
from typing import Any

from django.contrib.contenttypes.fields import GenericForeignKey
from django.contrib.contenttypes.models import ContentType
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django_countries.fields import CountryField
from djmoney.models.fields import MoneyField
from enumfields import EnumField
from i18nfield.fields import I18nCharField
from phonenumber_field.modelfields import PhoneNumberField
from taggit.managers import TaggableManager
from timezone_field import TimeZoneField


class Colour(enum.Enum):
    """An enumeration that is no text."""

    RED = "r"
    BLUE = "b"


class Size(models.TextChoices):
    """An enumeration of Django's."""

    SMALL = "s"
    LARGE = "l"


class Grade(models.IntegerChoices):
    """An enumeration of Django's, by numbers."""

    FIRST = 1
    SECOND = 2


class Point:
    """A value of the project's own, which compares with nothing and has no text to speak of."""

    def __init__(self, x: int, y: int) -> None:
        self.x, self.y = x, y


class PointField(models.Field):
    """A field as projects write them: everything by hand."""

    def db_type(self, connection: Any) -> str:
        """Return the type of the column."""
        return "varchar(20)"

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:
        """Make a value of a column."""
        return None if value is None else Point(*map(int, value.split(",")))

    def to_python(self, value: Any) -> Any:
        """Make a value of a text."""
        return Point(*map(int, value.split(","))) if isinstance(value, str) else value

    def get_prep_value(self, value: Any) -> Any:
        """Make a column of a value."""
        return f"{value.x},{value.y}" if isinstance(value, Point) else value

    def value_to_string(self, obj: Any) -> str:
        """Make a text of a value, for serializers."""
        return str(self.get_prep_value(self.value_from_object(obj)))


class Other(models.Model):
    """What others refer to."""

    key = models.UUIDField(primary_key=True, default=uuid.uuid4)
    code = models.CharField(max_length=5, unique=True)


class Everything(models.Model):
    """One of each; all may be empty."""

    big = models.BigIntegerField(null=True)
    binary = models.BinaryField(null=True)
    boolean = models.BooleanField(null=True)
    char = models.CharField(max_length=20, blank=True)
    choice = models.CharField(max_length=1, choices=Size.choices, blank=True)
    grade = models.IntegerField(choices=Grade.choices, null=True)
    date = models.DateField(null=True)
    moment = models.DateTimeField(null=True)
    decimal = models.DecimalField(max_digits=8, decimal_places=2, null=True)
    duration = models.DurationField(null=True)
    email = models.EmailField(blank=True)
    file = models.FileField(blank=True)
    path = models.FilePathField(path="/", blank=True)
    floating = models.FloatField(null=True)
    address = models.GenericIPAddressField(null=True)
    integer = models.IntegerField(null=True)
    json = models.JSONField(null=True)
    encoded = models.JSONField(null=True, encoder=DjangoJSONEncoder)
    positive_big = models.PositiveBigIntegerField(null=True)
    positive = models.PositiveIntegerField(null=True)
    positive_small = models.PositiveSmallIntegerField(null=True)
    slug = models.SlugField(blank=True)
    small = models.SmallIntegerField(null=True)
    text = models.TextField(blank=True)
    time = models.TimeField(null=True)
    url = models.URLField(blank=True)
    uuid = models.UUIDField(null=True)
    foreign = models.ForeignKey(Other, null=True, on_delete=models.CASCADE)
    by_code = models.ForeignKey(
        Other, null=True, on_delete=models.CASCADE, to_field="code", related_name="+"
    )
    one = models.OneToOneField(Other, null=True, on_delete=models.CASCADE, related_name="+")
    many = models.ManyToManyField(Other, related_name="+")
    # Packages.
    phone = PhoneNumberField(blank=True)
    zone = TimeZoneField(null=True)
    zone_name = TimeZoneField(null=True, use_pytz=False, choices_display="WITH_GMT_OFFSET")
    country = CountryField(blank=True)
    countries = CountryField(multiple=True, blank=True)
    price = MoneyField(max_digits=8, decimal_places=2, null=True, default_currency="EUR")
    colour = EnumField(Colour, max_length=1, null=True)
    title = I18nCharField(max_length=200, blank=True)
    point = PointField(null=True)
    # What has no column of its own.
    content_type = models.ForeignKey(ContentType, null=True, on_delete=models.CASCADE)
    object_id = models.PositiveIntegerField(null=True)
    content_object = GenericForeignKey("content_type", "object_id")
    tags = TaggableManager(blank=True)

    #: Changes with each save of the tests.
    count = models.IntegerField(default=0)
    doubled = models.GeneratedField(
        expression=models.F("count") * 2, output_field=models.IntegerField(), db_persist=True
    )
