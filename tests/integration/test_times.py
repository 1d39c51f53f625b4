"""Moments: right whatever USE_TZ and TIME_ZONE say, in the hour that comes twice as well."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
import time_machine
from django import forms
from django.apps import apps
from django.conf import settings
from django.db import models
from django.test import override_settings
from django.utils.timezone import override as in_zone

from django_webhooks import times
from django_webhooks.admin import times as admin_times
from django_webhooks.auditing.models import AcceptedFinding
from django_webhooks.fields import DatabaseNow, UTCDateTimeField
from django_webhooks.models import Delivery
from django_webhooks.models.figures.heartbeat import Heartbeat
from django_webhooks.sending import database, replays, wire
from django_webhooks.sending.database import compiled_sql
from django_webhooks.sending.replays import selection
from tests import factories
from tests.testapp.hooks import listen, registered, told
from tests.testapp.models import Parcel

ZONES = ["America/New_York", "Europe/Berlin", "UTC", "Asia/Tokyo"]
#: Pairs of moments an hour apart that one clock shows alike, and those around a day without change.
MOMENTS = [
    pytest.param(datetime(2026, 11, 1, 5, 30, 0, 123456, tzinfo=UTC), id="new-york-first-1.30"),
    pytest.param(datetime(2026, 11, 1, 6, 30, 0, 123456, tzinfo=UTC), id="new-york-second-1.30"),
    pytest.param(datetime(2026, 10, 25, 0, 30, tzinfo=UTC), id="berlin-first-2.30"),
    pytest.param(datetime(2026, 10, 25, 1, 30, tzinfo=UTC), id="berlin-second-2.30"),
    pytest.param(datetime(2026, 3, 8, 7, 0, tzinfo=UTC), id="new-york-spring"),
    pytest.param(datetime(2026, 7, 1, 22, 59, 59, 999999, tzinfo=UTC), id="summer"),
]


@pytest.fixture(params=[True, False], ids=["aware", "naive"])
def use_tz(request):
    return request.param


@pytest.fixture(params=ZONES)
def host(request, use_tz):
    """A project of these settings, whose connection is made with them."""
    # How rows are converted is kept for as long as a process lives, as its settings are.
    compiled_sql._rows.clear()
    with override_settings(USE_TZ=use_tz, TIME_ZONE=request.param):
        yield request.param
    compiled_sql._rows.clear()


def test_every_moment_of_every_model_is_in_such_a_column():
    others = [
        str(field)
        for model in apps.get_app_config("django_webhooks").get_models()
        for field in model._meta.concrete_fields
        if isinstance(field, models.DateTimeField) and not isinstance(field, UTCDateTimeField)
    ]

    assert others == []


@pytest.mark.django_db
@pytest.mark.parametrize("moment", MOMENTS)
class TestColumns:
    def test_a_moment_comes_back_as_it_was(self, host, moment):
        Heartbeat.objects.create(name="a", at=moment)

        found = Heartbeat.objects.get()

        assert (found.at, found.at.tzinfo) == (moment, UTC)
        assert Heartbeat.objects.values_list("at", flat=True).get() == moment
        assert Heartbeat.objects.aggregate(last=models.Max("at")) == {"last": moment}

    def test_a_moment_is_found_by_itself_alone(self, host, moment):
        Heartbeat.objects.create(name="before", at=moment - timedelta(hours=1))
        Heartbeat.objects.create(name="now", at=moment)
        Heartbeat.objects.create(name="after", at=moment + timedelta(hours=1))

        rows = Heartbeat.objects.order_by("at")

        assert rows.get(at=moment).name == "now"
        assert [one.name for one in rows.filter(at__lte=moment)] == ["before", "now"]
        assert rows.get(at__range=(moment, moment)).name == "now"
        assert rows.get(at__in=[moment]).name == "now"
        assert [one.name for one in rows] == ["before", "now", "after"]

    def test_a_moment_of_another_zone_is_the_same(self, host, moment):
        there = moment.astimezone(timezone(timedelta(hours=5, minutes=45)))

        row = Heartbeat.objects.create(name="a", at=there)

        assert row.at.tzinfo is UTC
        assert Heartbeat.objects.get(at=there).at == moment

    def test_changing_the_settings_shifts_nothing(self, host, moment):
        Heartbeat.objects.create(name="a", at=moment)

        for use_tz in (True, False):
            for zone in ZONES:
                with override_settings(USE_TZ=use_tz, TIME_ZONE=zone):
                    assert Heartbeat.objects.get().at == moment

    def test_it_survives_updates_by_case_and_by_value(self, host, moment):
        row = Heartbeat.objects.create(name="a", at=moment)
        value = models.Value(moment, output_field=UTCDateTimeField())

        Heartbeat.objects.update(at=models.Case(models.When(pk=row.pk, then=value)))

        assert Heartbeat.objects.get(at=value).at == moment


@pytest.mark.django_db
class TestClocks:
    def test_all_clocks_tell_the_same(self, host):
        Heartbeat.objects.create(name="a", at=DatabaseNow())

        told = [times.now(), Heartbeat.objects.get().at, database.DatabaseClock(using="default")()]

        assert {one.tzinfo for one in told} == {UTC}
        assert max(told) - min(told) < timedelta(seconds=30)
        assert abs(told[0].timestamp() - datetime.now().timestamp()) < 30

    def test_what_is_due_now_is_found_now_and_not_before(self, host):
        now = times.now()
        row = factories.delivery()
        Delivery.objects.update(due_at=DatabaseNow())

        assert not Delivery.objects.due(now - timedelta(minutes=30))
        assert Delivery.objects.due(now + timedelta(minutes=1)).get() == row


@pytest.mark.django_db
class TestNaiveValues:
    """What a project with USE_TZ=False hands over is read in its zone."""

    @pytest.mark.parametrize("value", [datetime(2026, 7, 1, 12), "2026-07-01T12:00", "2026-07-01"])
    def test_they_are_read_in_the_default_zone(self, value):
        with override_settings(USE_TZ=False, TIME_ZONE="Europe/Berlin"):
            row = Heartbeat.objects.create(name="a", at=value)
            row.refresh_from_db()

            hour = 22 if value == "2026-07-01" else 10
            assert (row.at.hour, row.at.tzinfo) == (hour, UTC)
            assert Heartbeat.objects.get(at=value) == row

    def test_their_fold_is_honoured(self):
        twice = datetime(2026, 10, 25, 2, 30)
        with override_settings(USE_TZ=False, TIME_ZONE="Europe/Berlin"):
            found = [
                Heartbeat.objects.create(name=str(fold), at=twice.replace(fold=fold)).at.hour
                for fold in (0, 1)
            ]

        assert found == [0, 1]


@pytest.mark.django_db
class TestPayloads:
    def test_the_timestamp_is_utc(self, host):
        moment = datetime(2026, 11, 1, 6, 30, tzinfo=UTC)

        with time_machine.travel(moment, tick=False):
            factories.subscription()
            body = json.loads(bytes(factories.record()[0].event.body))

        assert body["timestamp"] == "2026-11-01T06:30:00.000Z"

    def test_naive_times_of_the_project_tell_their_offset(self):
        data = {"at": datetime(2026, 7, 1, 12, 0), "list": [datetime(2026, 1, 1, 12, 0)]}

        with override_settings(USE_TZ=False, TIME_ZONE="Europe/Berlin"):
            body = json.loads(wire.serialise("a", data, recorded_at=times.now()))

        assert body["data"] == {"at": "2026-07-01T10:00:00Z", "list": ["2026-01-01T11:00:00Z"]}


@pytest.mark.django_db
@registered(Parcel, fields=["sent_at"])
def test_a_model_of_the_project_is_told_alike_before_and_after_it_is_stored(host):
    listen()
    moment = datetime(2026, 7, 1, 10, 0, tzinfo=UTC)
    local = moment.astimezone(ZoneInfo(host))
    value = moment if settings.USE_TZ else local.replace(tzinfo=None)

    parcel = Parcel.objects.create(sent_at=value)
    parcel.refresh_from_db()
    parcel.save()
    parcel.delete()

    sent_at = {"sent_at": "2026-07-01T10:00:00Z"}
    assert told() == [("parcel.created", sent_at), ("parcel.deleted", sent_at)]


class TestForms:
    FIELDS = [times.UTCDateTimeFormField, times.UTCSplitDateTimeFormField]

    @pytest.mark.parametrize("form_field", FIELDS, ids=["one", "split"])
    def test_what_is_shown_is_what_is_read(self, use_tz, form_field):
        moment = datetime(2026, 7, 1, 10, 0, tzinfo=UTC)
        field = form_field()

        with override_settings(USE_TZ=use_tz, TIME_ZONE="Europe/Berlin"), in_zone("Asia/Tokyo"):
            shown = field.prepare_value(moment)
            sent = ["2026-07-01", "19:00"] if "Split" in form_field.__name__ else str(shown)

            assert shown == datetime(2026, 7, 1, 19, 0)
            assert field.clean(sent) == moment
            assert not field.has_changed(moment, sent)

    @pytest.mark.parametrize(
        "text", ["2026-10-25 02:30", "2026-03-29 02:30"], ids=["twice", "never"]
    )
    def test_a_time_that_names_no_moment_is_refused(self, use_tz, text):
        with override_settings(USE_TZ=use_tz, TIME_ZONE="Europe/Berlin"):
            with pytest.raises(Exception, match="interpreted in time zone Europe/Berlin"):
                times.UTCDateTimeFormField().clean(text)
            assert times.UTCDateTimeFormField().clean(f"{text}+02:00").tzinfo is UTC

    def test_nothing_is_nothing(self):
        assert times.UTCDateTimeFormField(required=False).clean("") is None

    def test_those_of_a_model_are_such(self):
        field = AcceptedFinding._meta.get_field("until")
        assert type(field.formfield()) is times.UTCDateTimeFormField
        split = field.formfield(form_class=forms.SplitDateTimeField)
        assert type(split) is times.UTCSplitDateTimeFormField


class TestForPeople:
    @pytest.mark.parametrize(
        ("moment", "text"),
        [
            (datetime(2026, 7, 1, 12, tzinfo=UTC), "2026-07-01 08:00:00"),
            (datetime(2026, 11, 1, 5, 30, tzinfo=UTC), "2026-11-01 01:30:00 -0400"),
            (datetime(2026, 11, 1, 6, 30, tzinfo=UTC), "2026-11-01 01:30:00 -0500"),
            (datetime(2026, 3, 8, 7, tzinfo=UTC), "2026-03-08 03:00:00"),
            (None, "-"),
        ],
        ids=["summer", "first", "second", "spring", "none"],
    )
    def test_a_moment_is_written_by_the_local_clock(self, use_tz, moment, text):
        with override_settings(USE_TZ=use_tz, TIME_ZONE="America/New_York"):
            assert times.written(moment) == text
            marked = admin_times.in_text(f"Waits until {text}.")

        if moment is not None:
            assert moment.isoformat(timespec="milliseconds") in marked
            assert text in marked

    def test_what_is_chosen_is_read_in_the_zone(self, use_tz):
        with override_settings(USE_TZ=use_tz, TIME_ZONE="America/New_York"):
            assert selection.moment("2026-07-01") == datetime(2026, 7, 1, 4, tzinfo=UTC)
            chosen = replays.Selection(since=datetime(2026, 7, 1))
            assert replays.Selection.of(chosen.stored).since == selection.moment("2026-07-01")

    def test_a_time_that_a_clock_leaves_out_does_not_exist(self):
        berlin = ZoneInfo("Europe/Berlin")

        assert not times.exists(datetime(2026, 3, 29, 2, 30, tzinfo=berlin))
        assert not times.comes_twice(datetime(2026, 3, 29, 2, 30, tzinfo=berlin))
