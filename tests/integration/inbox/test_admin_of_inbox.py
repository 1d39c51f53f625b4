"""The inbox in the admin: what was received, and how to have it handled again."""

from __future__ import annotations

from datetime import timedelta

import pytest

from django_webhooks import times
from django_webhooks.auditing.models import AuditEntry
from django_webhooks.inbox import wakeups
from django_webhooks.inbox.models import InboxMessage, NetworkList, Rejection
from django_webhooks.models.owner import OwnerKey
from tests import pages

pytestmark = pytest.mark.django_db
BODY = b'{"type":"order.paid","data":{"note":"<script>alert(1)</script>\xe2\x80\xae"}}'


@pytest.fixture(autouse=True)
def _told(monkeypatch):
    told.clear()
    monkeypatch.setattr(wakeups, "tell_of_message", told.append)


told = []


def message(number=1, **fields):
    over = fields.get("status", "handled") != "waiting"
    return InboxMessage.objects.create(
        **{
            "source": "shop.github",
            "scheme": "github",
            "message_id": f"msg_{number}",
            "digest": f"{number}",
            "event_type": "order.paid",
            "path": "/hooks/",
            "headers": {"x-more": "<b>bold</b>"},
            "body": BODY,
            "status": "handled",
            "attempts_made": 1,
            "answer": 204,
            "due_at": None if over else times.now(),
            "finished_at": times.now() if over else None,
        }
        | fields
    )


def page_of(client, row):
    return client.get(pages.url("inboxmessage", "change", row.pk)).content.decode()


class TestList:
    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ("", {1, 2, 3}),
            ("?status__exact=waiting", {2}),
            ("?source=shop.stripe", {3}),
            ("?recent=1h", {1, 2, 3}),
            ("?recent=never", {1, 2, 3}),
            ("?q=msg_2", {2}),
            ("?q=order.paid", {1, 2}),
            ("?q=nothing", set()),
        ],
    )
    def test_filters_and_search(self, admin_client, query, found):
        message(1)
        message(2, status="waiting")
        message(3, source="shop.stripe", event_type="charge")

        answer = admin_client.get(pages.url("inboxmessage") + query)

        assert answer.status_code == 200
        rows = answer.context["cl"].queryset
        assert {int(one.digest) for one in rows} == found

    def test_it_costs_the_same_with_many_rows(self, admin_client, django_assert_max_num_queries):
        for number in range(30):
            message(number)

        with django_assert_max_num_queries(9):
            admin_client.get(pages.url("inboxmessage"))

    def test_who_is_limited_to_owners_sees_theirs(self, client, settings):
        message(1)
        mine = message(2, owner_type="testapp.shop", owner_id="7")
        settings.WEBHOOKS_ADMIN_SCOPE = lambda request: [OwnerKey("testapp.shop", "7")]
        staff = pages.staff(client, "view_inboxmessage", "view_rejection", "view_payload")
        Rejection.objects.create(period=times.now(), source="a", reason="b", last_at=times.now())

        rows = staff.get(pages.url("inboxmessage")).context["cl"].queryset

        assert list(rows) == [mine]
        assert list(staff.get(pages.url("rejection")).context["cl"].queryset) == []


class TestPage:
    def test_it_says_what_became_of_it_and_shows_the_payload_inert(self, admin_client):
        page = page_of(admin_client, message())

        assert "Handled at" in page
        assert "&lt;script&gt;alert(1)" in page
        assert "<script>alert(1)" not in page
        assert "&lt;b&gt;bold" in page

    def test_payload_and_errors_need_a_permission(self, client):
        row = message(status="given_up", error="ValueError: secret of a customer")

        page = page_of(pages.staff(client, "view_inboxmessage"), row)

        assert "You do not have the permission to see payloads." in page
        assert "secret of a customer" not in page
        assert "alert(1)" not in page
        assert "bold" not in page

    def test_a_payload_that_is_not_kept_is_said_to_be_missing(self, admin_client):
        assert "keeps no payloads" in page_of(admin_client, message(body=b"", has_payload=False))

    def test_nobody_adds_changes_or_deletes(self, admin_client):
        row = message()

        for page, arguments in (("add", ()), ("delete", (row.pk,))):
            assert admin_client.post(pages.url("inboxmessage", page, *arguments)).status_code == 403


class TestActions:
    def test_what_is_over_is_handled_again(self, admin_client):
        over, waits = message(1, status="given_up"), message(2, status="waiting")

        answer = pages.act(admin_client, "inboxmessage", "replay_messages", over, waits)

        over.refresh_from_db()
        assert (over.status, over.attempts_made) == ("waiting", 0)
        assert len(told) == 1
        assert pages.messages_of(answer)[0] == "1 message is handled by a worker now."
        assert "1 was left out" in pages.messages_of(answer)[1]
        entry = AuditEntry.objects.get(action="inbox.replayed")
        assert (entry.by, entry.detail["count"]) == ("admin", 1)

    def test_a_second_click_does_nothing(self, admin_client):
        row = message(status="given_up")
        pages.act(admin_client, "inboxmessage", "replay_messages", row)

        pages.act(admin_client, "inboxmessage", "replay_messages", row)

        assert AuditEntry.objects.filter(action="inbox.replayed").count() == 1

    def test_what_waits_is_handled_now(self, admin_client):
        row = message(status="waiting", due_at=times.now() + timedelta(hours=1))
        assert "Handle it now" in page_of(admin_client, row)

        pages.act(admin_client, "inboxmessage", "try_now", row)

        row.refresh_from_db()
        assert row.due_at <= times.now()

    @pytest.mark.parametrize("action", ["replay_messages", "try_now"])
    def test_without_the_permission_there_is_no_way(self, client, action):
        row = message(status="given_up" if action == "replay_messages" else "waiting")
        before = InboxMessage.objects.values().get()
        staff = pages.staff(client, "view_inboxmessage")

        assert 'name="action"' not in page_of(staff, row)
        pages.act(staff, "inboxmessage", action, row)

        assert InboxMessage.objects.values().get() == before
        assert told == []


def test_rejections_and_network_lists_are_shown(admin_client):
    now = times.now()
    Rejection.objects.create(
        period=now, source="shop.github", reason="signature", network="192.0.2.0/24", count=7,
        last_at=now,
    )  # fmt: skip
    other = Rejection.objects.create(period=now, source="shop.github", reason="size", last_at=now)
    NetworkList.objects.create(name="github", networks=["192.0.2.0/24"], origin="a file")

    listed = admin_client.get(pages.url("rejection")).content.decode()
    assert "192.0.2.0/24" in listed
    assert "all others" in listed
    assert admin_client.get(pages.url("rejection", "change", other.pk)).status_code == 200
    assert str(other) == "0 × size"
    assert "github" in admin_client.get(pages.url("networklist")).content.decode()
    page = admin_client.get(pages.url("networklist", "change", "github")).content.decode()
    assert "<pre>192.0.2.0/24</pre>" in page
