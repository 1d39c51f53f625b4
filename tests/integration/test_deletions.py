"""A subscription that is deleted while events are recorded for it."""

from __future__ import annotations

import threading

import pytest
from django.db import connection, transaction

from django_webhooks import tasks
from django_webhooks.models import Delivery, Event, Subscription
from tests import factories

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor == "sqlite", reason="one transaction writes at a time"),
]
#: Seconds in which the other thread gets as far as it can.
MOMENT = 0.5


class Recording(threading.Thread):
    """A transaction that has recorded an event, and commits when it is told to."""

    def __init__(self):
        super().__init__()
        self.has_recorded, self.may_commit = threading.Event(), threading.Event()
        self.error = None

    def run(self):
        try:
            with transaction.atomic():
                factories.record()
                self.has_recorded.set()
                self.may_commit.wait(30)
        except Exception as error:
            self.error = error
        finally:
            self.has_recorded.set()
            connection.close()


class Deleting(threading.Thread):
    """Deletes in the meantime."""

    def __init__(self, delete):
        super().__init__()
        self.delete, self.error = delete, None

    def run(self):
        try:
            self.delete()
        except Exception as error:
            self.error = error
        finally:
            connection.close()


@pytest.mark.parametrize(
    "delete",
    [
        lambda: Subscription.objects.get().delete(),
        lambda: Subscription.objects.all().delete(),
    ],
    ids=["the object", "a queryset"],
)
def test_who_deletes_waits_for_who_records(delete):
    """The transaction of the project must not fail because somebody deletes a subscription."""
    factories.subscription()
    recording, deleting = Recording(), Deleting(delete)
    recording.start()
    assert recording.has_recorded.wait(30)
    deleting.start()
    deleting.join(MOMENT)
    assert deleting.is_alive()
    recording.may_commit.set()
    for thread in (recording, deleting):
        thread.join(30)

    assert (recording.error, deleting.error) == (None, None)
    tasks.prune()
    assert not Subscription.objects.exists()
    assert Event.objects.count() == 1
    assert Delivery.objects.values_list("status", "reason").get() == (
        "cancelled",
        "subscription_deleted",
    )


def test_who_rotates_a_key_waits_for_nobody_who_records():
    subscription = factories.subscription()
    recording = Recording()
    recording.start()
    assert recording.has_recorded.wait(30)
    rotating = Deleting(subscription.rotate_key)
    rotating.start()
    rotating.join(30 if connection.features.has_select_for_no_key_update else MOMENT)
    has_ended = not rotating.is_alive()
    recording.may_commit.set()
    for thread in (recording, rotating):
        thread.join(30)

    assert has_ended or not connection.features.has_select_for_no_key_update
    assert (recording.error, rotating.error) == (None, None)
    assert subscription.signing_keys.count() == 2
