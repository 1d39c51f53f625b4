"""Wake-ups: told in the background, never at the caller's cost."""

from __future__ import annotations

import os
import threading
import time
from types import SimpleNamespace

import pytest

from django_webhooks import wakeups
from django_webhooks.wakeups import Waker


@pytest.fixture
def published():
    return []


def test_ids_are_published(published):
    waker = Waker(published.append)

    waker.wake(["a", "b"])

    assert waker.flush(timeout=60)
    assert published == [["a", "b"]]


def test_what_comes_while_a_message_is_sent_goes_as_one(published):
    begun, release = threading.Event(), threading.Event()

    def publish(ids):
        begun.set()
        release.wait(60)
        published.append(ids)

    waker = Waker(publish)
    waker.wake(["first"])
    assert begun.wait(60)
    for number in range(5):
        waker.wake([str(number)])
    release.set()

    assert waker.flush(timeout=60)
    assert published == [["first"], ["0", "1", "2", "3", "4"]]


def test_one_message_holds_a_bounded_number(published):
    waker = Waker(published.append)

    waker.wake([str(number) for number in range(wakeups.MAX_IDS + 5)])

    assert waker.flush(timeout=60)
    assert [len(ids) for ids in published] == [wakeups.MAX_IDS, 5]


def test_the_caller_does_not_wait_for_a_broker_that_hangs():
    release = threading.Event()
    waker = Waker(lambda ids: release.wait(60))
    began = time.monotonic()

    for _ in range(100):
        waker.wake(["a"])
    took = time.monotonic() - began

    assert took < 30
    assert not waker.flush(timeout=0.05)
    release.set()


def test_no_more_than_a_bound_waits(published):
    begun, release = threading.Event(), threading.Event()
    waker = Waker(lambda ids: begun.set() or release.wait(60))
    waker.wake(["a"])
    assert begun.wait(60)

    waker.wake(["b"] * (wakeups.MAX_WAITING + 10))

    assert waker._asked.qsize() == wakeups.MAX_WAITING
    release.set()


def test_a_broker_that_fails_is_logged_and_asked_again(published, caplog):
    failures = [OSError("refused")]

    def publish(ids):
        if failures:
            raise failures.pop()
        published.append(ids)

    waker = Waker(publish, pause_after_failure=0)
    waker.wake(["lost"])
    assert waker.flush(timeout=60)
    waker.wake(["told"])

    assert waker.flush(timeout=60)
    assert published == [["told"]]
    assert "refused" in caplog.text


def test_nobody_waits_for_a_broker_that_is_left_alone():
    def fail(ids):
        raise OSError("refused")

    waker = Waker(fail, pause_after_failure=30)
    waker.wake(["lost"])

    assert waker.flush(timeout=60)
    # A process that ends now has nothing left to tell.
    assert waker.flush(timeout=0.1)


def test_a_thread_that_cannot_be_started_is_started_by_the_next(published, monkeypatch):
    waker = Waker(published.append)

    def fail(thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        with pytest.raises(RuntimeError):
            waker.wake(["a"])
    waker.wake(["b"])

    assert waker.flush(timeout=60)
    assert published == [["a", "b"]]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_starts_afresh(published):
    waker = Waker(published.append)
    waker.wake(["parent"])
    waker.flush(timeout=60)
    read, write = os.pipe()
    child = os.fork()
    if not child:
        # The child must not run the tests' own clean-up.
        waker.wake(["child"])
        os.write(write, b"%d" % (waker.flush(timeout=60) and published[-1] == ["child"]))
        os._exit(0)
    os.waitpid(child, 0)

    assert os.read(read, 10) == b"1"
    os.close(read)
    os.close(write)


class TestCoalescing:
    """The first wake-up goes at once, and then at most one in a while."""

    @pytest.fixture
    def moments(self):
        return []

    @pytest.fixture
    def waker(self, moments):
        return Waker(lambda ids: moments.append((time.monotonic(), ids)), pause=0.1)

    def test_who_names_nothing_has_a_worker_look_for_whatever_there_is(self, waker, moments):
        waker.wake()

        assert waker.flush(timeout=60)
        assert [ids for _, ids in moments] == [[]]

    @pytest.fixture
    def told(self):
        """Messages, and the pauses between them."""
        return []

    @pytest.fixture
    def paused(self, told, monkeypatch):
        """A waker each of whose pauses lasts until it is released, and what releases one."""
        gate = threading.Semaphore(0)

        def sleep(seconds):
            if seconds != 0.1:  # The waker of this process, which other tests began.
                time.sleep(seconds)
                return
            told.append(seconds)
            gate.acquire(timeout=60)

        monkeypatch.setattr(wakeups, "time", SimpleNamespace(sleep=sleep))
        yield Waker(told.append, pause=0.1), gate
        gate.release(10)

    def until(self, condition):
        ends = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < ends
            time.sleep(0.001)

    def test_the_first_goes_at_once(self, paused, told):
        waker, _ = paused
        waker.wake()
        self.until(lambda: len(told) == 2)

        assert told == [[], 0.1]

    def test_many_go_as_few(self, paused, told):
        waker, gate = paused
        waker.wake()
        for pauses in range(1, 4):
            self.until(lambda pauses=pauses: len(told) == 2 * pauses)
            for _ in range(100):
                waker.wake()
            gate.release()
        self.until(lambda: len(told) == 8)
        gate.release()

        assert waker.flush(timeout=60)
        assert told == [[], 0.1] * 4

    def test_the_last_is_told_after_it_was_asked_for(self, waker, moments):
        for _ in range(20):
            asked_at = time.monotonic()
            waker.wake()
            time.sleep(0.013)
        assert waker.flush(timeout=60)

        assert moments[-1][0] >= asked_at

    def test_ids_go_beside_who_names_nothing(self, waker, moments):
        waker.wake()
        waker.wake(["a"])
        waker.wake()

        assert waker.flush(timeout=60)
        assert [one for _, ids in moments for one in ids] == ["a"]
