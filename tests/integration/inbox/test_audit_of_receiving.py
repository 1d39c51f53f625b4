"""Audits of what is received: signatures, messages that were given up, lists that are old."""

from __future__ import annotations

from datetime import timedelta

import pytest

from django_webhooks import times
from django_webhooks.auditing.finding import RULES, AuditContext
from django_webhooks.inbox.models import InboxMessage, NetworkList, Rejection

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)


def found(rule, now):
    context = AuditContext(now=now, using="default")
    return [(one.subject, one.severity, one.sentence) for one in RULES[rule].find(context)]


def rejected(now, *, count, ago=HOUR, reason="signature", network="192.0.2.0/24", source="shop"):
    Rejection.objects.create(
        period=now - ago, source=source, reason=reason, network=network, count=count, last_at=now
    )


def test_many_signatures_that_do_not_hold_are_told_by_view():
    now = times.now()
    rejected(now, count=15)
    rejected(now, count=30, network="198.51.100.0/24")
    rejected(now, count=19, source="quiet")
    rejected(now, count=999, reason="method", source="scanned")
    rejected(now, count=999, ago=25 * HOUR, source="yesterday")
    rejected(now, count=10_000, network="", source="flooded")

    assert found("webhooks.A017", now) == [
        (
            "view:flooded",
            "severe",
            "flooded refused 10000 signatures within a day, 10000 of them from many networks.",
        ),
        (
            "view:shop",
            "warning",
            "shop refused 45 signatures within a day, 30 of them from 198.51.100.0/24.",
        ),
    ]


def test_messages_that_were_given_up_are_told_by_view():
    now = times.now()
    for number, (source, status) in enumerate(
        [("shop", "given_up"), ("shop", "given_up"), ("shop", "handled"), ("bank", "handled")]
    ):
        InboxMessage.objects.create(
            source=source, scheme="github", message_id="1", digest=str(number), path="/",
            body=b"", status=status, finished_at=now,
        )  # fmt: skip

    assert found("webhooks.A028", now) == [
        ("view:shop", "warning", "2 messages that shop received were given up.")
    ]


def test_lists_that_were_not_loaded_for_long_are_told():
    now = times.now()
    NetworkList.objects.create(name="fresh", loaded_at=now - timedelta(days=7))
    NetworkList.objects.create(name="old", loaded_at=now - timedelta(days=9))

    assert found("webhooks.A029", now) == [
        ("networks:old", "warning", "The networks of old were last loaded 9 days ago.")
    ]
