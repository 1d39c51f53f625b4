"""The command that prints the health of endpoints."""

from __future__ import annotations

import pytest
from django.core.management import call_command

from django_webhooks.models import Endpoint, EndpointHealth
from tests import factories
from tests.factories import Clock
from tests.receivers import receiving

pytestmark = pytest.mark.django_db
DEAD = "http://127.0.0.1:9/"


def run(capsys, *arguments):
    try:
        call_command("webhooks_health", *arguments)
        code = 0
    except SystemExit as end:
        code = end.code
    return code, capsys.readouterr().out.splitlines()


def test_all_are_well(capsys):
    factories.subscription(name="CRM")

    code, lines = run(capsys)

    assert code == 0
    assert lines[0].split() == ["subscription", "endpoint", "health", "since", "reason", "last", "evidence"]  # fmt: skip # noqa: E501
    assert lines[1].split()[:5] == ["CRM", "127.0.0.1:9", "(primary)", "active", "healthy"]
    assert lines[-1] == "1 endpoints, 0 not well."


def test_nothing_is_there(capsys):
    assert run(capsys) == (0, ["", "0 endpoints, 0 not well."])


def test_only_the_failing(capsys):
    now = Clock()()
    factories.subscription(name="well", url="http://127.0.0.1:8/")
    bad = factories.subscription(name="bad")
    gone = factories.subscription(name="gone")
    gone.endpoints.get().disable("http_410")
    EndpointHealth.objects.filter(subscription=bad).update(
        state="unhealthy", failing_since=now, reason="timeout", failed_at=now
    )

    code, lines = run(capsys, "--failing")

    assert code == 1
    assert len(lines) == 7
    assert "unhealthy" in lines[1]
    assert "timeout" in lines[1]
    assert "disabled" in lines[2]
    assert lines[3] == "3 endpoints, 2 not well."
    assert [one.partition(": ")[0] for one in lines[4:]] == [
        "no_endpoint",
        "endpoint_unhealthy",
        "endpoint_disabled",
    ]


def test_probing_first(capsys):
    with receiving() as receiver:
        subscription = factories.subscription(url=receiver.url)
        Endpoint.objects.create(subscription=subscription, url=DEAD, position=1)
        Endpoint.objects.get(position=0).pin("drill", by="anna")
        codes = [run(capsys, "--probe")[0] for _ in range(3)]
        code, lines = run(capsys)

    assert codes == [0, 0, 1]
    assert code == 1
    assert "active, pinned" in lines[1]
    assert "connection" in lines[2]


def test_a_subscription_that_is_disabled_is_not_well(capsys):
    factories.subscription(name="bad").disable("All endpoints have failed since Monday.\x1b[2J")

    code, lines = run(capsys)

    assert code == 1
    assert lines[-2] == "0 endpoints, 0 not well."
    assert lines[-1].startswith(
        "subscription_disabled: bad is disabled. All endpoints have failed since Monday."
    )
    assert "\x1b" not in lines[-1]


def test_a_subscription_that_is_paused_is_left_out(capsys):
    factories.subscription().pause()

    assert run(capsys)[1][-1] == "0 endpoints, 0 not well."
