"""The campaign's marks, settings, accounts and report."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.acceptance.conftest import RABBITMQ, REDIS, SQLITE, broker_url, campaign
from tests.acceptance.harness import Harness, Proxy
from tests.receivers import Receiver
from tests.services import SERVICES

from .accounting import UNDER_WAY, Account

#: Marks of every file of the campaign.
FAULTS = [
    pytest.mark.acceptance,
    pytest.mark.fault,
    pytest.mark.broker_server,
    pytest.mark.timeout(600),
]
#: A lease and retries so short that each test takes seconds; much longer than a busy machine stands
#: still, since what is late is sent again.
SETTINGS = {
    "WEBHOOKS_LEASE_SECONDS": 12.0,
    "WEBHOOKS_TIMEOUT_SECONDS": 6.0,
    "django_webhooks.sending.worker.dispatch.DRAIN_SECONDS": 3.0,
    "WEBHOOKS_RETRY_CAP_SECONDS": 2.0,
    "WEBHOOKS_MAX_IN_FLIGHT": UNDER_WAY,
    "WEBHOOKS_MAX_IN_FLIGHT_PER_ENDPOINT": UNDER_WAY,
    "WEBHOOKS_HEALTH_HOLD_SECONDS": 1.0,
    "django_webhooks.policies.health.HOLD_CAP_FACTOR": 2,
    "WEBHOOKS_PROBE_INTERVAL_UNHEALTHY_SECONDS": 0.5,
}
_lines: list[str] = []


#: The ordinary run has the first alone, the campaign both.
ONE_OF_BOTH = (REDIS, campaign(RABBITMQ))
ALL = (SQLITE, REDIS, RABBITMQ)
#: For a fault of another part than the broker.
ANY_BROKER = (SQLITE, REDIS, campaign(RABBITMQ))


@pytest.fixture
def harness(harness: Harness) -> Harness:
    """The harness, with the campaign's settings."""
    harness.settings = dict(SETTINGS)
    return harness


@pytest.fixture
def stack(request: pytest.FixtureRequest) -> str:
    """The name of the stack."""
    name: str = request.node.callspec.params["harness"]
    return name


@pytest.fixture
def proxied(stack: str) -> Callable[[], tuple[Proxy, dict[str, str]]]:
    """Make proxies before the broker, and the environment of a process that uses one."""

    def make() -> tuple[Proxy, dict[str, str]]:
        service = SERVICES["redis" if stack.endswith("redis") else "rabbitmq"]
        proxy = Proxy(service.host, service.port)
        return proxy, {"ACCEPTANCE_BROKER": broker_url(stack, port=proxy.port)}

    return make


@pytest.fixture
def account(harness: Harness, receiver: Receiver, request: pytest.FixtureRequest) -> Account:
    """The account of the test."""
    name = request.node.name.removeprefix("test_").replace("_", " ")
    return Account(harness, [receiver], name=name.capitalize(), lines=_lines)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the accounts."""
    if _lines:
        terminalreporter.section("accounts")
        for line in sorted(_lines):
            terminalreporter.line(line)
