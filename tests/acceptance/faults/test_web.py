"""F01, F02: what happens to the web process."""

from __future__ import annotations

import time

import pytest

from .conftest import ALL, FAULTS

pytestmark = [*FAULTS, pytest.mark.stacks(*ALL)]


def test_f01_a_web_process_killed_between_commit_and_message(stage, receiver, account):
    stage.subscribe(receiver.url)
    stage.worker()
    web = stage.web()

    assert stage.ask("thing", "killed after commit") is None
    web.wait(10)
    stage.beat()
    account.clear()

    assert len(account.settle().committed) == 1


def test_f02_what_is_rolled_back_is_not_sent(stage, receiver, account):
    stage.subscribe(receiver.url)
    stage.worker()
    stage.beat()
    stage.web()

    stage.ask("a savepoint", "savepoint")
    assert stage.ask("a request", "error") is None
    stage.ask("a good one")
    account.clear()

    assert len(account.settle().committed) == 1
    time.sleep(2)
    assert len(receiver.requests) == 1
