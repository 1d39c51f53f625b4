"""Hooks on fields of every kind: each value is sent, in one form, as its schema says."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from django.core import serializers
from django.core.exceptions import ImproperlyConfigured
from django.core.files.base import ContentFile
from django.db import connection
from i18nfield.strings import LazyI18nString
from moneyed import Money

from django_webhooks import catalog
from django_webhooks.hooks import muted
from django_webhooks.models import Event
from tests.hosts.fields.models import Colour, Everything, Grade, Other, Point, Size

from .conftest import hooked, told

pytestmark = pytest.mark.django_db
KEY = "018f3c7e-0000-7000-8000-000000000000"
INFINITE = pytest.mark.skipif(connection.vendor == "mysql", reason="has no such numbers")
#: Each field with values, and what is told of each.
VALUES = [
    ("big", 2**62, 2**62),
    ("binary", b"\x00text", "AHRleHQ="),
    ("boolean", True, True),
    ("char", "Ünïcode", "Ünïcode"),
    ("choice", Size.LARGE, "l"),
    ("grade", Grade.SECOND, 2),
    ("date", date(2026, 1, 31), "2026-01-31"),
    ("date", "2026-01-31", "2026-01-31"),
    ("moment", datetime(2026, 1, 31, 12, tzinfo=UTC), "2026-01-31T12:00:00Z"),
    ("moment", datetime(2026, 1, 31, 12, tzinfo=ZoneInfo("Asia/Tokyo")), "2026-01-31T03:00:00Z"),
    ("decimal", "1.5", "1.50"),
    ("decimal", Decimal("1E+2"), "100.00"),
    ("duration", timedelta(days=1, hours=2), "P1DT02H00M00S"),
    ("email", "ann@example.com", "ann@example.com"),
    ("file", "a.pdf", "a.pdf"),
    ("path", "/etc/hosts", "/etc/hosts"),
    ("floating", 4.5, 4.5),
    ("floating", 4, 4.0),
    pytest.param("floating", float("inf"), "inf", marks=INFINITE),
    pytest.param("floating", float("-inf"), "-inf", marks=INFINITE),
    ("address", "2001:0db8::0001", "2001:db8::1"),
    ("integer", "42", 42),
    ("json", {"a": [1, None, {"b": True}]}, {"a": [1, None, {"b": True}]}),
    ("json", {1: (2, 3)}, {"1": [2, 3]}),
    ("json", "text", "text"),
    ("json", [1.5, 2.0], [1.5, 2.0]),
    ("encoded", {"at": date(2026, 1, 31)}, {"at": "2026-01-31"}),
    ("encoded", {"sum": Decimal("1.50")}, {"sum": "1.50"}),
    ("positive_big", 2**62, 2**62),
    ("positive", 7, 7),
    ("positive_small", 7, 7),
    ("slug", "a-b", "a-b"),
    ("small", -7, -7),
    ("text", "x" * 5000, "x" * 5000),
    ("time", time(12, 30), "12:30:00"),
    ("url", "https://example.com/", "https://example.com/"),
    ("uuid", KEY.upper(), KEY),
    ("phone", "030 12345678", "+493012345678"),
    ("phone", "+1 202-555-0123", "+12025550123"),
    ("zone", ZoneInfo("Europe/Berlin"), "Europe/Berlin"),
    ("zone", "Europe/Berlin", "Europe/Berlin"),
    ("zone_name", "Asia/Tokyo", "Asia/Tokyo"),
    ("country", "FR", "FR"),
    ("countries", ["FR", "DE"], ["DE", "FR"]),
    ("countries", "FR,DE", ["DE", "FR"]),
    ("countries", [], []),
    ("price", Money("1.5", "EUR"), "1.50"),
    ("colour", Colour.BLUE, "b"),
    ("title", "plain", "plain"),
    ("title", LazyI18nString({"en": "Hello", "de": "Hallo"}), {"en": "Hello", "de": "Hallo"}),
    ("point", Point(1, 2), "1,2"),
]
EMPTY = [
    field.name
    for field in Everything._meta.concrete_fields
    if field.null or (field.blank and not field.primary_key)
]


@pytest.mark.parametrize(("name", "value", "form"), VALUES)
def test_a_value_is_sent_in_one_form(listener, name, value, form):
    with hooked(Everything, fields=["id", name]):
        thing = Everything.objects.create(**{name: value})
        thing.count += 1
        thing.save()
        fresh = Everything.objects.get()
        fresh.count += 1
        fresh.save(update_fields=["count"])
        fresh.delete()

        forms = [data[name] for _, data in told()]

    types = Event.objects.order_by("created_at", "pk").values_list("type", flat=True)
    actions = [event_type.partition(".")[2] for event_type in types]
    assert actions == ["created", "updated", "updated", "deleted"]
    if name == "title" and isinstance(form, dict):
        # It is its own form of several languages as text.
        forms, form = [json.loads(one) for one in forms], form
    assert forms == [form] * 4
    assert {type(one) for one in forms} == {type(form)}


@pytest.mark.parametrize(("name", "value", "form"), VALUES)
def test_a_save_of_nothing_tells_nothing(listener, name, value, form):
    with hooked(Everything):
        with muted():
            made = Everything.objects.create(**{name: value})
        few = (
            ["id"] if name != "price" else ["id", "price", "price_currency"]
        )  # or django-money fails
        for thing in (made, Everything.objects.get(), Everything.objects.only(*few).get()):
            thing.save()
            thing.save(update_fields=[name])

        assert told() == []


@pytest.mark.parametrize(("name", "value", "form"), VALUES)
def test_a_change_is_told_by_the_name_of_its_field(listener, name, value, form):
    if not value:
        return
    with hooked(Everything):
        with muted():
            thing = Everything.objects.create()
        setattr(thing, name, value)
        thing.save()

        [(_, data)] = told()

    assert set(data["changed"]) - {"price_currency"} == {name}


@pytest.mark.parametrize("name", EMPTY)
def test_what_is_empty_is_sent(listener, name):
    with hooked(Everything, fields=[name]):
        Everything.objects.create().delete()

        (_, first), (_, last) = told()

    assert first == last


@pytest.mark.parametrize(("name", "value", "form"), VALUES)
def test_what_the_serializers_of_django_say_is_what_is_sent(listener, name, value, form):
    with hooked(Everything, fields=[name]):
        thing = Everything.objects.create(**{name: value})
        thing.refresh_from_db()
        [row] = json.loads(serializers.serialize("json", [thing]))
        [(_, data)] = told()

    theirs = row["fields"][name]
    if name in ("countries", "duration") or isinstance(form, dict) or data[name] in ("inf", "-inf"):
        # Theirs are texts of lists, durations in another standard, and numbers that JSON lacks.
        return
    assert data[name] == theirs


@pytest.mark.parametrize("name", ["foreign", "by_code", "one", "many"])
def test_relations_are_sent_by_their_keys(listener, name):
    other = Other.objects.create(key=KEY, code="fr")
    with hooked(Everything, fields=[name], m2m=["many"]):
        thing = Everything.objects.create(**({} if name == "many" else {name: other}))
        thing.many.add(other)
        [*_, (_, data)] = told()

    expected = {"foreign": KEY, "by_code": "fr", "one": KEY, "many": [KEY]}
    assert data == {name: expected[name], "changed": ["many"]}


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("content_object", "cannot send 'content_object' by itself"),
        ("tags", "cannot send 'tags' by itself"),
        ("tagged_items", "cannot send 'tagged_items' by itself"),
        ("full_clean", "is no value"),
    ],
)
def test_what_cannot_be_sent_is_refused_when_it_is_registered(name, why):
    with pytest.raises(ImproperlyConfigured, match=why), hooked(Everything, fields=[name]):
        pass


def test_tags_are_no_many_to_many_field():
    hook = hooked(Everything, m2m=["tags"])
    with pytest.raises(ImproperlyConfigured, match="no many-to-many"), hook:
        pass


def test_an_upload_is_sent_by_its_name(listener, settings, tmp_path):
    settings.MEDIA_ROOT = tmp_path
    with hooked(Everything, fields=["file"]):
        thing = Everything(count=1)
        thing.file.save("report.txt", ContentFile(b"text"))
        [(_, data)] = told()

    assert data == {"file": "report.txt"}


SCHEMAS = {
    "char": {"type": "string"},
    "choice": {"type": "string", "enum": ["s", "l", ""]},
    "binary": {"type": ["string", "null"], "contentEncoding": "base64"},
    "floating": {"anyOf": [{"type": "number"}, {"enum": ["inf", "-inf", "nan"]}, {"type": "null"}]},
    "doubled": {"type": "integer"},
    "countries": {"type": "array"},
    "json": {},
    "phone": {},
    "colour": {},
    "title": {},
    "point": {},
    "foreign": {"type": ["string", "null"], "format": "uuid"},
    "by_code": {"type": ["string", "null"]},
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_says_no_more_than_is_sure(name):
    with hooked(Everything, fields=[name]):
        schema = catalog.get("everything.created").schema

    assert schema["properties"][name] == SCHEMAS[name]


def test_every_schema_can_be_sent_itself():
    with hooked(Everything):
        for action in ("created", "updated", "deleted"):
            event_type = catalog.get(f"everything.{action}")
            json.dumps([event_type.schema, event_type.example], allow_nan=False)


def test_all_fields_at_once(listener):
    given = {}
    for one in VALUES:
        name, value, _ = getattr(one, "values", one)
        given.setdefault(name, value)
    given["uuid"] = uuid.UUID(KEY)
    with hooked(Everything):
        thing = Everything.objects.create(**given)
        thing.count = 2
        thing.save()
        thing.delete()
        events = told()

    assert len(events) == 3
    assert events[1][1]["changed"] == ["count", "doubled"]
    assert events[2][1]["doubled"] == 4
