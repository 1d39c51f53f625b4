"""F01, F02: what happens to the web process."""

from __future__ import annotations

import time

import pytest

from tests.acceptance.harness import PATIENCE

from .conftest import ANY_BROKER, FAULTS

pytestmark = [*FAULTS, pytest.mark.stacks(*ANY_BROKER)]


def test_f01_a_web_process_killed_between_commit_and_message(harness, receiver, account):
    harness.subscribe(receiver.url)
    harness.worker()
    web = harness.web()

    assert harness.ask("thing", "killed after commit") is None
    web.wait(PATIENCE)
    harness.beat()
    account.clear()

    assert len(account.settle().committed) == 1


def test_f02_what_is_rolled_back_is_not_sent(harness, receiver, account):
    harness.subscribe(receiver.url)
    harness.worker()
    harness.beat()
    harness.web()

    harness.ask("a savepoint", "savepoint")
    assert harness.ask("a request", "error") is None
    harness.ask("a good one")
    account.clear()

    assert len(account.settle().committed) == 1
    time.sleep(2)
    assert len(receiver.requests) == 1
