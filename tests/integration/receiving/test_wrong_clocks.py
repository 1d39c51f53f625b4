"""A clock that is off by minutes is named as the reason, on both sides."""

from __future__ import annotations

import time

import pytest

from django_webhooks import times
from django_webhooks.inbox import rejections
from django_webhooks.inbox.models import Rejection
from django_webhooks.models import Attempt, Delivery
from django_webhooks.policies.outcome import of_answer
from django_webhooks.receiving import webhook
from django_webhooks.sending import worker
from django_webhooks.testing.signed import signed_request
from tests import factories
from tests.factories import Clock
from tests.receivers import Answer, receiving

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("status", [400, 401, 403])
@pytest.mark.parametrize(("seconds", "where"), [(-390, "ahead of"), (390, "behind")])
def test_a_receiver_that_refuses_and_whose_date_is_off_is_told_of(status, seconds, where):
    began = time.monotonic()
    clock = Clock()
    clock.move(seconds=seconds - 30)
    with receiving() as receiver:
        receiver.answers = [Answer(status)]
        delivery = factories.delivery(url=receiver.url)
        Delivery.objects.update(due_at=clock())
        worker.drain(clock=clock)

    attempt = Attempt.objects.get()
    delivery.refresh_from_db()
    assert (attempt.reason, attempt.status_code) == ("clock", status)
    assert delivery.reason == "clock"
    assert f"seconds {where} ours" in attempt.detail
    # The clock of the test stands; a date has whole seconds.
    off = 1 + time.monotonic() - began
    assert int("".join(filter(str.isdigit, attempt.detail))) == pytest.approx(390, abs=off)


@webhook(secrets=[factories.SECRET], once=False)
def hook(request, message):
    return None


@pytest.mark.parametrize("off", [-360, 360, 0])
def test_a_view_says_timestamp_and_counts_it_apart(off, settings, rf):
    request = signed_request(
        "order.paid", {"id": 1}, secret=factories.SECRET, timestamp=int(time.time()) + off
    ).as_django()
    request.META["wsgi.url_scheme"] = "https"

    answer = hook(request)
    rejections.flush()

    if not off:
        assert answer.status_code == 204
        return
    assert (answer.status_code, answer.content) == (401, b"timestamp\n")
    assert answer.headers["webhook-rejected"] == "timestamp"
    assert of_answer(401, {"webhook-rejected": "timestamp"}, now=times.now()).reason == "clock"
    assert Rejection.objects.get().reason == "timestamp"


@pytest.mark.parametrize("off", [-360, 360])
def test_a_view_tells_nothing_of_its_clock_to_who_has_another_secret(off, rf):
    secret = "whsec_" + "B" * 32
    request = signed_request(
        "order.paid", {"id": 1}, secret=secret, timestamp=int(time.time()) + off
    ).as_django()
    request.META["wsgi.url_scheme"] = "https"

    answer = hook(request)

    assert (answer.status_code, answer.content) == (401, b"signature\n")
    assert answer.headers["webhook-rejected"] == "signature"
