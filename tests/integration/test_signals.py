"""Signals and log lines: what programs and people are told."""

from __future__ import annotations

import logging

import pytest

from django_webhooks import signals
from django_webhooks.models import Attempt
from django_webhooks.sending import worker
from tests import factories
from tests.factories import Clock
from tests.receivers import receiving

pytestmark = pytest.mark.django_db


@pytest.fixture
def clock():
    return Clock()


def drain(clock, ids=()):
    return worker.drain(ids, clock=clock)


class TestSignalsAndLogs:
    """What programs and people are told."""

    @pytest.fixture
    def heard(self):
        found = []

        def receiver_of(name):
            return lambda **kwargs: found.append((name, kwargs))

        names = ("attempt_finished", "delivery_succeeded", "delivery_given_up")
        receivers = {name: receiver_of(name) for name in names}
        for name, receiver in receivers.items():
            getattr(signals, name).connect(receiver)
        yield found
        for name, receiver in receivers.items():
            getattr(signals, name).disconnect(receiver)

    def test_success(self, clock, heard, caplog):
        caplog.set_level(logging.INFO, "django_webhooks")
        with receiving(204) as receiver:
            delivery = factories.delivery(receiver.url)
            drain(clock)

        assert [name for name, _ in heard] == ["attempt_finished", "delivery_succeeded"]
        for _, kwargs in heard:
            assert kwargs["delivery"] == delivery
            assert kwargs["attempt"] == Attempt.objects.get()
        [line] = caplog.records
        assert line.levelname == "INFO"
        assert line.webhooks_delivery == str(delivery.pk)
        assert str(delivery.pk) in line.getMessage()

    def test_retry(self, clock, heard, caplog):
        with receiving(503) as receiver:
            factories.delivery(receiver.url)
            drain(clock)

        assert [name for name, _ in heard] == ["attempt_finished"]
        [line] = caplog.records
        assert (line.levelname, line.webhooks_reason) == ("WARNING", "http_503")

    def test_the_end(self, clock, heard, caplog):
        with receiving(410) as receiver:
            factories.delivery(receiver.url, client_errors_final=True)
            drain(clock)

        assert [name for name, _ in heard] == ["attempt_finished", "delivery_given_up"]
        assert {line.levelname for line in caplog.records} == {"ERROR"}

    def test_a_receiver_of_a_signal_that_fails_harms_nothing(self, clock):
        def fail(**kwargs):
            raise RuntimeError

        signals.attempt_finished.connect(fail)
        try:
            with receiving(204) as receiver:
                delivery = factories.delivery(receiver.url)
                drain(clock)
        finally:
            signals.attempt_finished.disconnect(fail)

        delivery.refresh_from_db()
        assert delivery.status == "succeeded"
