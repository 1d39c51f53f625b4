"""Reasons are codes of closed lists; names and words of people are in columns of their own."""

from __future__ import annotations

import ast
from datetime import timedelta
from pathlib import Path

import pytest

import django_webhooks
from django_webhooks import times
from django_webhooks.audit_log import set_actor
from django_webhooks.auditing.models import AuditEntry
from django_webhooks.models import Delivery, Endpoint, Subscription, Switch
from django_webhooks.models.figures.rollup import Rollup
from django_webhooks.policies.reasons import Reason
from django_webhooks.sending.figures import rollups
from tests import factories

pytestmark = pytest.mark.django_db

NAME = "ann@example.com"
ROOT = Path(django_webhooks.__file__).parent


@pytest.mark.parametrize(
    "text", [f"by {NAME}", NAME, "", "Cancelled", "http_", "http_99", "pinned", "x" * 50]
)
def test_what_is_no_reason_cancels_nothing_and_is_refused(text):
    delivery = factories.delivery()

    with pytest.raises(ValueError, match="is no reason"):
        Delivery.objects.cancel(text)

    delivery.refresh_from_db()
    assert (delivery.status, delivery.reason) == ("waiting", "")


@pytest.mark.parametrize("how", ["named", "acting"])
def test_who_cancelled_is_told_and_not_counted(how):
    delivery = factories.delivery()

    if how == "named":
        Delivery.objects.cancel(by=NAME)
    else:
        with set_actor(NAME):
            Delivery.objects.cancel()

    delivery.refresh_from_db()
    assert (delivery.reason, delivery.cancelled_by) == ("cancelled", NAME)
    assert delivery.explain().endswith(f"by {NAME}.")
    now = times.now()
    rollups.count(now=now - timedelta(seconds=1))
    rollups.count(now=now + timedelta(minutes=1))
    assert set(Rollup.objects.filter(kind="delivery").values_list("result", "reason")) == {
        ("cancelled", "cancelled")
    }


def test_a_name_that_is_too_long_is_cut():
    factories.delivery()

    assert Delivery.objects.cancel(by="x" * 300) == 1
    assert Delivery.objects.get().cancelled_by == "x" * 150


def test_a_deleted_subscription_says_why_and_who():
    delivery = factories.delivery()

    with set_actor(NAME):
        delivery.subscription.delete()

    delivery.refresh_from_db()
    assert (delivery.reason, delivery.cancelled_by) == (Reason.SUBSCRIPTION_DELETED, NAME)


@pytest.mark.parametrize("change", ["pause", "disable", "disable_endpoint", "pin", "fail_back"])
def test_what_people_do_has_a_code_a_note_and_a_name(change):
    subscription = factories.subscription(url="https://one.example.com/")
    subscription.endpoints.create(position=1, url="https://two.example.com/")
    first = subscription.endpoints.get(position=0)
    match change:
        case "pause":
            subscription.pause("weekend", by=NAME)
        case "disable":
            subscription.disable("weekend", by=NAME)
        case "disable_endpoint":
            first.disable("weekend", by=NAME)
        case "pin":
            subscription.endpoints.get(position=1).pin("weekend", by=NAME)
        case _:
            subscription.failback = "stay"
            subscription.save()
            subscription.endpoints.get(position=1).pin("before", by=NAME)
            subscription.endpoints.get(position=1).unpin(by=NAME)
            subscription.fail_back("weekend", by=NAME)

    stored = Subscription.objects.get()
    assert (stored.status_reason, stored.status_by) == (
        ("weekend", NAME) if change in ("pause", "disable") else ("", "")
    )
    if change == "disable_endpoint":
        one = Endpoint.objects.get(pk=first.pk)
        assert (one.disabled_reason, one.disabled_by) == ("weekend", NAME)
    last = Switch.objects.order_by("pk").last()
    assert (last is None) == (change in ("pause", "disable"))
    if last is not None:
        codes = {"disable_endpoint": "endpoint_disabled", "pin": "pinned"}
        assert last.reason == codes.get(change, "failed_back")
        assert (last.note, last.by) == ("weekend", NAME)
    assert AuditEntry.objects.filter(by=NAME, detail__reason="weekend").exists()


def test_a_subscription_that_is_resumed_forgets_who_paused_it():
    subscription = factories.subscription()
    subscription.pause("weekend", by=NAME)
    subscription.resume()

    assert Subscription.objects.values_list("status_reason", "status_by").get() == ("", "")


@pytest.mark.parametrize(
    "path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_no_module_gives_a_reason_as_a_bare_text(path):
    bare = [
        f"{node.value.lineno}: {ast.unparse(node.value)}"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.keyword)
        and node.arg == "reason"
        and isinstance(node.value, ast.Constant | ast.JoinedStr)
        and ast.unparse(node.value) != "''"
    ]

    assert bare == []
