"""What is in the audit trail: each change once, by whoever made it, without values."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.http import HttpResponse
from django.test import RequestFactory
from django.urls import reverse

from django_webhooks import middleware, times
from django_webhooks.audit_log import set_actor
from django_webhooks.auditing.models import AuditEntry
from django_webhooks.models import Endpoint, SigningKey, Subscription, Switch
from django_webhooks.sending import database, maintenance, worker
from django_webhooks.sending.claims import routing
from tests import factories
from tests.receivers import receiving

pytestmark = pytest.mark.django_db

SECRET_PATH = "https://shop.example/hook/s3cr3t-path"


@pytest.fixture
def made():
    subscription = factories.subscription()
    Endpoint.objects.create(subscription=subscription, url="http://127.0.0.1:8/b", position=1)
    return subscription


@pytest.fixture
def since(made):
    """Return what was noted after the fixtures."""
    known = set(AuditEntry.objects.values_list("pk", flat=True))

    def entries():
        rows = AuditEntry.objects.exclude(pk__in=known).order_by("pk")
        return [(one.action, one.by, one.detail.get("fields")) for one in rows]

    return entries


def test_a_new_subscription_with_an_endpoint():
    with set_actor("ada"):
        factories.subscription()

    assert list(AuditEntry.objects.order_by("pk").values_list("action", "by", "subject")) == [
        ("subscription.added", "ada", "CRM"),
        ("subscription.key_made", "ada", "CRM"),
        ("endpoint.added", "ada", "CRM: primary"),
    ]


def test_a_change_is_noted_once_with_the_names_of_fields(made, since):
    made.name, made.timeout_seconds, made.event_types = "ERP", 3.0, ["user.*"]
    with set_actor("ada"):
        made.save()

    assert since() == [("subscription.changed", "ada", ["event_types", "name", "timeout_seconds"])]


def test_a_save_that_changes_nothing_is_not_noted(made, since):
    made.event_types = list(made.event_types)
    made.save()
    made.endpoints.get(position=0).save()

    assert since() == []


def test_patterns_as_rows_are_noted_with_the_subscription(made, since):
    made.patterns.create(pattern="user.joined")
    made.patterns.get(pattern="user.joined").delete()

    assert since() == [("subscription.changed", "", ["event_types"])] * 2


def test_secrets_and_urls_are_named_and_not_told(made, since):
    endpoint = made.endpoints.get(position=0)
    endpoint.url, endpoint.authorization = SECRET_PATH, "Bearer s3cr3t"
    endpoint.headers = {"x-key": "s3cr3t"}
    endpoint.save()
    Endpoint.objects.filter(pk=endpoint.pk).update(url=SECRET_PATH + "2")
    made.rotate_key(secret=factories.SECRET.replace("Mf", "mF"), by="ada")

    assert since() == [
        ("endpoint.changed", "", ["authorization", "headers", "url"]),
        ("endpoint.changed", "", ["url"]),
        ("subscription.key_rotated", "ada", None),
    ]
    told = str(list(AuditEntry.objects.values()))
    assert "s3cr3t" not in told
    assert "mFKQ9r8" not in told


def test_what_has_a_name_is_noted_by_it(made, since):
    primary, backup = made.endpoints.order_by("position")
    made.pause("they move")
    made.resume()
    made.disable("all fail")
    made.resume()
    primary.pin("move", by="ada")
    backup.pin("move on", by="bob")
    backup.unpin(by="ada")
    primary.disable("410")
    primary.enable()

    assert [one[:2] for one in since()] == [
        ("subscription.paused", ""),
        ("subscription.resumed", ""),
        ("subscription.disabled", ""),
        ("subscription.resumed", ""),
        ("endpoint.pinned", "ada"),
        ("endpoint.unpinned", ""),
        ("endpoint.pinned", "bob"),
        ("endpoint.unpinned", "ada"),
        ("endpoint.disabled", ""),
        ("endpoint.enabled", ""),
    ]
    assert AuditEntry.objects.get(action="subscription.paused").detail == {"reason": "they move"}


def test_bulk_writes_are_noted_for_each_row(made, since):
    other = factories.subscription(name="ERP")
    before = len(since())
    Subscription.objects.update(timeout_seconds=5.0)
    Subscription.objects.filter(pk=other.pk).update(status="paused", status_reason="night")
    Endpoint.objects.bulk_create(
        [Endpoint(subscription=other, url="http://127.0.0.1:9/x", position=p) for p in (5, 6)]
    )
    made.name = "A"
    Subscription.objects.bulk_update([made], ["name"])

    assert since()[before:] == [
        ("subscription.changed", "", ["timeout_seconds"]),
        ("subscription.changed", "", ["timeout_seconds"]),
        ("subscription.paused", "", None),
        ("endpoint.added", "", None),
        ("endpoint.added", "", None),
        ("subscription.changed", "", ["name"]),
    ]


def test_bookkeeping_is_not_noted(made, since, django_assert_num_queries):
    with django_assert_num_queries(1):
        Subscription.objects.update(sending_changed_at=times.now(), notified_level=1)
    made.notified_down_stage = 1
    made.save(update_fields=["notified_down_stage"])
    routing.note_unreadable([made.pk], using=database.alias())

    assert since() == []


@pytest.mark.django_db(transaction=True)
def test_a_receiver_that_is_gone_is_noted_once(made, since):
    with receiving(410) as receiver:
        made.endpoints.filter(position=0).update(url=receiver.url)
        factories.record()
        worker.drain(clock=factories.Clock())

    gone = [one for one in since() if one[0] == "endpoint.disabled"]
    assert gone == [("endpoint.disabled", "", None)]
    assert AuditEntry.objects.get(action="endpoint.disabled").detail["reason"] == "http_410"


def test_a_deleted_subscription_is_one_entry_and_keeps_those_before(made, since):
    before = AuditEntry.objects.count()
    with set_actor("ada"):
        made.delete()

    assert since() == [("subscription.deleted", "ada", None)]
    assert AuditEntry.objects.count() == before + 1


def test_a_deleted_endpoint_and_a_removed_key(made, since):
    made.endpoints.get(position=1).delete()
    old = made.signing_keys.get()
    made.rotate_key(overlap=0)
    old.refresh_from_db()
    SigningKey.objects.filter(pk=old.pk).update(expires_at=times.now() - timedelta(days=40))
    maintenance.prune()

    assert since() == [
        ("endpoint.deleted", "", None),
        ("subscription.key_rotated", "", None),
        ("signing_key.changed", "", ["expires_at"]),
        ("signing_key.deleted", "", None),
    ]


def test_a_switch_by_the_system_is_noted_and_one_by_hand_follows_from_its_cause(made, since):
    candidates = Endpoint.objects.lock_health([made.pk])[made.pk]
    active = next(one for one in candidates if one.is_active)
    active.state, active.failing_since = "unhealthy", times.now()
    active.save()
    Switch.objects.settle(made, candidates, now=times.now(), reason="timeout")
    made.endpoints.get(position=0).pin("move", by="ada")

    assert [one[:2] for one in since()] == [
        ("subscription.switched", ""),
        ("endpoint.pinned", "ada"),
    ]
    detail = AuditEntry.objects.get(action="subscription.switched").detail
    assert (detail["cause"], detail["reason"]) == ("failover", "timeout")


class TestPermissions:
    @pytest.fixture
    def see(self):
        return Permission.objects.get(codename="see_secret")

    @pytest.fixture
    def alien(self):
        return Permission.objects.get(codename="add_logentry")

    @pytest.fixture
    def user(self):
        return User.objects.create_user("bob")

    def entries(self):
        rows = AuditEntry.objects.order_by("pk")
        return [(one.action, one.subject, one.detail) for one in rows]

    def test_of_a_user_from_both_sides(self, user, see, alien):
        user.user_permissions.add(see, alien)
        user.user_permissions.remove(alien)
        user.user_permissions.clear()
        see.user_set.add(user)
        see.user_set.clear()

        given = {"permissions": ["see_secret"]}
        assert self.entries() == [
            ("user.permissions_added", "bob", given),
            ("user.permissions_removed", "bob", given),
            ("user.permissions_added", "bob", given),
            ("user.permissions_removed", "bob", given),
        ]

    def test_of_a_group_and_who_is_in_it(self, user, see):
        group, other = Group.objects.create(name="ops"), Group.objects.create(name="other")
        group.permissions.set([see])
        user.groups.add(group, other)
        user.groups.remove(group)
        group.delete()

        assert self.entries() == [
            ("group.permissions_added", "ops", {"permissions": ["see_secret"]}),
            ("user.groups_added", "bob", {"groups": ["ops"]}),
            ("user.groups_removed", "bob", {"groups": ["ops"]}),
            ("group.deleted", "ops", {"permissions": ["see_secret"]}),
        ]

    def test_flags_of_a_user(self, user, django_assert_num_queries):
        user.is_superuser = True
        user.save()
        user.is_active = False
        user.save(update_fields=["is_active"])
        with django_assert_num_queries(1):
            user.save(update_fields=["last_login"])
        User.objects.create_superuser("eve")
        user.delete()

        assert self.entries() == [
            ("user.changed", "bob", {"is_superuser": True}),
            ("user.changed", "bob", {"is_active": False}),
            ("user.changed", "eve", {"is_staff": True, "is_superuser": True}),
            ("user.deleted", "bob", {"permissions": []}),
        ]

    def test_with_the_middleware_it_is_known_who(self, admin_client, user, see):
        address = reverse("admin:auth_user_change", args=[user.pk])
        data = {
            "username": "bob",
            "is_active": "on",
            "date_joined_0": "2026-01-01",
            "date_joined_1": "12:00:00",
            "user_permissions": [see.pk],
        }

        assert admin_client.post(address, data).status_code == 302

        entry = AuditEntry.objects.get(action="user.permissions_added")
        assert (entry.by, entry.subject) == ("admin", "bob")


def test_the_middleware_asks_nobody_where_nothing_is_noted():
    class Request:
        @property
        def user(self):
            raise AssertionError

    answer = middleware.actor(lambda request: HttpResponse())

    assert answer(Request()).status_code == 200
    assert middleware._name(RequestFactory().get("/")) == ""


async def _later(request):
    with set_actor("x"):
        pass
    return HttpResponse()


def test_the_middleware_takes_asynchronous_views():
    import asyncio

    answer = middleware.actor(_later)

    assert asyncio.run(answer(RequestFactory().get("/"))).status_code == 200
