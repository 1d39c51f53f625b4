"""What is refused is counted, in bounded space; who may call can be published by the sender."""

from __future__ import annotations

import io
import ipaddress
import json
import logging
import types
from datetime import UTC, datetime, timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError
from django.test import Client
from django.urls import path

from django_webhooks import namespaces, times
from django_webhooks.auditing.models import AuditEntry
from django_webhooks.exceptions import UnusableList
from django_webhooks.inbox import maintenance, network_lists, rejections
from django_webhooks.inbox.checks import check_retention
from django_webhooks.inbox.models import NetworkList, Rejection
from django_webhooks.inbox.published_networks import published
from django_webhooks.receiving import webhook
from tests.receivers import receiving

pytestmark = pytest.mark.django_db
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

plain = webhook(secrets=SECRET, require_https=False, name="plain")(lambda request, message: None)
narrow = webhook(
    secrets=SECRET, require_https=False, name="narrow", allowed_networks=published("github")
)(lambda request, message: None)
urlpatterns = [path("plain/", plain), path("narrow/", narrow)]


@pytest.fixture(autouse=True)
def _urls(settings):
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = []


def send(address="/plain/", *, client="192.0.2.77", **extra):
    return Client().post(
        address, b"{}", content_type="application/json", REMOTE_ADDR=client, **extra
    )


@pytest.fixture
def moment(monkeypatch):
    """The second in which this process counts; it stands until it is moved."""
    found = types.SimpleNamespace(now=1000.0)
    clock = types.SimpleNamespace(monotonic=lambda: found.now)
    monkeypatch.setattr(rejections, "time", clock)
    return found


def counted():
    rejections.flush(every=0)
    rows = Rejection.objects.values_list("source", "reason", "network", "count")
    return sorted(tuple(row) for row in rows)


class TestCounting:
    def test_what_is_refused_is_counted_by_view_reason_and_network(self):
        send()
        send()
        send(client="192.0.2.1")
        send(client="2001:db8:1:2::3")
        Client().get("/plain/", REMOTE_ADDR="198.51.100.1")

        assert counted() == [
            ("plain", "method", "198.51.100.0/24", 1),
            ("plain", "signature", "192.0.2.0/24", 3),
            ("plain", "signature", "2001:db8:1::/48", 1),
        ]

    def test_behind_proxies_the_client_is_counted(self, settings):
        settings.WEBHOOKS_TRUSTED_PROXIES = ["10.0.0.0/8"]

        send(client="10.1.1.1", HTTP_X_FORWARDED_FOR="1.2.3.4, 203.0.113.9")

        assert counted() == [("plain", "signature", "203.0.113.0/24", 1)]

    def test_an_address_that_is_none_is_counted_with_the_others(self):
        send(client="nobody")

        assert counted() == [("plain", "signature", "", 1)]

    def test_hours_are_counted_apart(self):
        now = datetime(2026, 1, 1, 10, 59, 59, tzinfo=UTC)
        rejections.count("plain", "size", "", now=now)
        rejections.count("plain", "size", "", now=now + timedelta(seconds=1))
        rejections.flush(every=0)

        periods = Rejection.objects.order_by("period").values_list("period", flat=True)
        assert [one.hour for one in periods] == [10, 11]

    def test_the_first_is_written_at_once_and_a_flood_now_and_then(
        self, django_assert_num_queries, moment
    ):
        send()
        assert Rejection.objects.get().count == 1

        with django_assert_num_queries(0):
            for _ in range(20):
                send()
        assert Rejection.objects.get().count == 1
        moment.now += rejections.EVERY
        send()
        assert Rejection.objects.get().count == 22

    def test_an_attacker_with_many_addresses_fills_no_table(self, monkeypatch):
        monkeypatch.setattr(rejections, "MAX_NETWORKS", 5)
        for number in range(40):
            send(client=f"10.0.{number}.1")
        rejections.flush(every=0)
        for number in range(40, 80):
            send(client=f"10.0.{number}.1")

        found = counted()
        assert len(found) <= 6
        assert sum(row[3] for row in found) == 80
        assert next(row[3] for row in found if row[2] == "") >= 70

    def test_what_a_process_has_not_written_is_bounded_too(self, monkeypatch, moment):
        monkeypatch.setattr(rejections, "MAX_NETWORKS", 5)
        for number in range(40):
            send(client=f"10.0.{number}.1")

        [waiting] = rejections._counts.waiting.values()
        assert len(waiting) <= 6
        assert sum(waiting.values()) == 39

    def test_a_database_that_fails_costs_the_count_and_not_the_answer(self, monkeypatch, caplog):
        def fail(*args, **kwargs):
            raise DatabaseError("full")

        monkeypatch.setattr(rejections, "_add", fail)

        assert send().status_code == 401
        assert "could not be counted: full" in caplog.text

    def test_a_child_process_counts_its_own(self):
        rejections._counts.waiting[namespaces.of("default")] = {(times.now(), "a", "b", "c"): 7}

        rejections._counts.start_afresh()

        assert counted() == []

    def test_counts_are_kept_for_ninety_days(self):
        send()
        Rejection.objects.update(period=times.now() - timedelta(days=91))

        maintenance.prune()

        assert not Rejection.objects.exists()

    def test_networks_are_those_of_one_customer(self):
        assert rejections.network_of(ipaddress.ip_address("203.0.113.200")) == "203.0.113.0/24"
        assert rejections.network_of(None) == ""


GITHUB = {"hooks": ["192.0.2.0/24", "2001:db8::/32", "192.0.2.0/24"], "web": ["1.2.3.0/24"]}


def run(*arguments):
    out = io.StringIO()
    call_command("webhooks_networks", *arguments, stdout=out)
    return out.getvalue().splitlines()


@pytest.fixture
def document(tmp_path):
    def write(content):
        file = tmp_path / "networks.json"
        file.write_text(content if isinstance(content, str) else json.dumps(content))
        return str(file)

    return write


class TestPublishedNetworks:
    def test_nobody_is_let_in_while_the_list_is_missing(self, caplog):
        answer = send("/narrow/")

        assert (answer.status_code, answer["Retry-After"]) == (503, "10")
        assert "webhooks_networks github" in caplog.text

    def test_the_list_decides_who_may_call(self, document):
        assert run("github", "--file", document(GITHUB)) == ["github: 2 networks are stored."]

        assert send("/narrow/").content == b"signature\n"
        assert send("/narrow/", client="1.2.3.4").content == b"network\n"
        assert send("/narrow/", client="2001:db8:1::7").content == b"signature\n"

    def test_it_is_asked_for_once_a_minute(self, document, django_assert_num_queries):
        run("github", "--file", document(GITHUB))
        network_lists.of("github")

        with django_assert_num_queries(0):
            assert network_lists.of("github") == ["192.0.2.0/24", "2001:db8::/32"]

    def test_it_is_loaded_from_where_the_sender_publishes_it(self):
        body = json.dumps({"items": [{"cidr": "192.0.2.0/24"}], "pad": "x" * 100_000}).encode()
        with receiving() as sender:
            sender.health, sender.document = 200, body
            run("atlassian", "--url", sender.url)

        row = NetworkList.objects.get()
        assert (row.networks, row.origin) == (["192.0.2.0/24"], sender.url)
        assert str(row) == "atlassian"

    @pytest.mark.parametrize(
        ("answer", "words"),
        [((404, b""), "answered 404"), ((200, b"<html>"), "is not JSON")],
    )
    def test_what_cannot_be_loaded_changes_nothing(self, answer, words):
        with receiving() as sender:
            sender.health, sender.document = answer
            with pytest.raises(CommandError, match=words):
                run("github", "--url", sender.url)
        with pytest.raises(CommandError, match="could not be loaded"):
            run("github", "--url", "http://127.0.0.1:9/")

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            ("{", "is not JSON"),
            ({}, "no list of networks at 'hooks'"),
            ({"hooks": [7]}, "no list of networks"),
            ({"hooks": ["example.com"]}, "no network"),
            ({"hooks": ["0.0.0.0/0"]}, "wider than any"),
            ({"hooks": ["::/0"]}, "wider than any"),
        ],
    )
    def test_what_is_no_list_is_refused(self, document, content, words):
        with pytest.raises(CommandError, match=words):
            run("github", "--file", document(content))
        assert not NetworkList.objects.exists()

    def test_a_list_that_shrinks_by_more_than_half_is_looked_at_first(self, document):
        many = [f"192.0.{number}.0/24" for number in range(10)]
        run("mine", "--file", document(many))

        with pytest.raises(CommandError, match="9 of 10 networks would go"):
            run("mine", "--file", document(many[:1]))
        run("mine", "--file", document(many[:1]), "--force", "--by", "ada")

        assert network_lists.of("mine") == ["192.0.0.0/24"]
        entry = AuditEntry.objects.filter(action="network_list.loaded").first()
        assert (entry.by, entry.detail) == ("ada", {"added": 0, "removed": 9})

    def test_an_empty_list_is_refused(self):
        with pytest.raises(UnusableList, match="empty"):
            network_lists.store("mine", [], origin="", by="")

    def test_a_dry_run_prints_and_stores_nothing(self, document):
        printed = run("github", "--file", document(GITHUB), "--dry-run")

        assert printed == ["192.0.2.0/24", "2001:db8::/32", "2 networks would be stored."]
        assert not NetworkList.objects.exists()

    def test_a_name_that_is_not_known_needs_a_place(self, tmp_path):
        with pytest.raises(CommandError, match="--url or --file"):
            run("mine")
        with pytest.raises(CommandError, match="cannot be read"):
            run("mine", "--file", str(tmp_path / "none"))


def test_messages_that_are_forgotten_early_are_warned_of(settings):
    def ids():
        return [one.id for one in check_retention()]

    assert ids() == []
    settings.WEBHOOKS_RETENTION_DAYS = {"inbox_handled": 3}
    assert ids() == ["webhooks.W014"]
    settings.WEBHOOKS_RETENTION_DAYS = {"inbox_handled": None}
    assert ids() == []
    settings.WEBHOOKS_RETENTION_DAYS = 7
    assert ids() == []


def test_logs_tell_the_reason(caplog):
    with caplog.at_level(logging.WARNING):
        send()

    assert "was refused (signature)" in caplog.text
