"""The sliding window: all jobs, in bounds, none held back by another's receiver."""

from __future__ import annotations

import threading
import time
from collections import Counter
from types import SimpleNamespace

import pytest

from django_webhooks.sending.worker import executor as module
from django_webhooks.sending.worker.executor import (
    MOST,
    REMEMBERED,
    SLOW,
    Executor,
    Judgement,
    Latencies,
)

#: Seconds after which a test gives up what never comes.
PATIENCE = 60


@pytest.fixture
def executor():
    made = []

    def make(work, *, size=8, per_key=4, **options):
        made.append(Executor(work, size=size, per_key=per_key, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


def collect_all(executor):
    results = []
    while not executor.is_empty:
        results += executor.collect(timeout=0.05)
        executor.settle()
    return results


def until(condition):
    ends = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.001)


def urgent(job):
    return Judgement.URGENT if job == "bad" else Judgement.WELL


class Watch:
    """A job that counts how many run at once, and after a few waits until so many have."""

    def __init__(self, at_once=1, *, after=0):
        self.at_once, self.after = at_once, after
        self.running, self.most = Counter(), Counter()
        self.lock, self.reached = threading.Lock(), threading.Event()

    def __call__(self, key):
        with self.lock:
            self.running[key] += 1
            self.running["all"] += 1
            for name, count in self.running.items():
                self.most[name] = max(self.most[name], count)
            if self.running["all"] >= self.at_once:
                self.reached.set()
            self.after -= 1
            waits = self.after < 0
        if waits:
            self.reached.wait(PATIENCE)
        time.sleep(0.01)
        with self.lock:
            self.running[key] -= 1
            self.running["all"] -= 1
        return key


def test_every_job_has_its_result(executor):
    made = executor(lambda job: job * 2)
    for number in range(200):
        made.submit(number, key="one")

    assert sorted(collect_all(made)) == [number * 2 for number in range(200)]


def test_slow_jobs_run_side_by_side_within_the_bounds(executor):
    # One of each key goes well, so that each may have two.
    watch = Watch(3, after=2)
    made = executor(watch, size=6, per_key=4)
    for number in range(40):
        made.submit(f"key {number % 2}", key=f"key {number % 2}")

    assert len(collect_all(made)) == 40
    assert watch.most["all"] <= 6
    assert watch.most["key 0"] <= 4
    assert watch.most["all"] >= 3


def test_the_jobs_of_a_key_begin_in_their_order(executor):
    began = []
    made = executor(began.append, per_key=1)
    for number in range(50):
        made.submit(number, key="one")

    collect_all(made)

    assert began == list(range(50))


def test_a_key_begins_with_one_and_has_more_with_what_goes_well(executor):
    watch, judgements = Watch(), [Judgement.BAD] * 5
    made = executor(watch, judge=lambda key: judgements.pop() if judgements else Judgement.WELL)
    for _ in range(5):
        made.submit("key", key="key")
    collect_all(made)
    assert watch.most["key"] == 1

    watch.reached.clear()
    watch.at_once, watch.after = 4, 3
    for _ in range(20):
        made.submit("key", key="key")
    collect_all(made)
    assert watch.most["key"] == 4


def test_a_key_that_fails_has_half_as_many(executor):
    verdict = [Judgement.WELL]
    watch = Watch()
    made = executor(watch, judge=lambda key: verdict[0])
    for _ in range(20):
        made.submit("key", key="key")
    collect_all(made)

    verdict[0] = Judgement.BAD
    made.submit("key", key="key")
    collect_all(made)
    assert made._allowed["key"] == 2
    watch.most.clear()
    for _ in range(2):
        made.submit("key", key="key")
    collect_all(made)
    assert watch.most["key"] <= 2
    assert made._allowed["key"] == 1


def test_keys_take_turns(executor):
    began = []
    release = threading.Event()
    made = executor(lambda key: began.append(key) or release.wait(PATIENCE), size=1)
    made.submit("first", key="first")
    until(lambda: began)
    for key in "aaaaabbbbb":
        made.submit(key, key=key)
    release.set()

    collect_all(made)

    assert began == ["first", *"ababababab"]


def test_no_more_threads_than_places(executor):
    before = threading.active_count()
    made = executor(lambda key: None, size=3)
    for key in range(200):
        made.submit(key, key=key)

    assert len(collect_all(made)) == 200
    assert threading.active_count() - before <= 3


def test_work_that_fails_fails_the_owner_rather_than_hanging_it(executor):
    def fail(job):
        raise RuntimeError("broken")

    made = executor(fail)
    for number in range(3):
        made.submit(number, key="one")

    with pytest.raises(RuntimeError, match="broken"):
        collect_all(made)


def test_a_slow_key_does_not_hold_back_another(executor):
    release = threading.Event()
    made = executor(lambda key: key if key == "quick" else release.wait(PATIENCE) and key)
    for _ in range(20):
        made.submit("slow", key="slow")
    for _ in range(20):
        made.submit("quick", key="quick")

    results = []
    while len(results) < 20:
        results += made.collect(timeout=0.05)
        made.settle()
    assert set(results) == {"quick"}
    assert made.startable == 0
    assert len(made.withdraw()) == 19

    release.set()
    assert len(collect_all(made)) == 1


def test_keys_that_take_long_are_known(executor):
    release = threading.Event()
    made = executor(lambda key: release.wait(PATIENCE))
    submitted = time.monotonic()
    made.submit("slow", key="slow")
    until(lambda: made.slow_keys == {"slow"})

    assert time.monotonic() - submitted > SLOW
    release.set()
    collect_all(made)
    assert made.slow_keys == set()


def test_what_a_killed_worker_would_repeat_is_bounded(executor):
    began = []
    made = executor(began.append, size=3, per_key=3)
    for number in range(20):
        made.submit(number, key="one")
    until(lambda: len(made._done) == 6)
    time.sleep(0.1)
    assert len(began) == 6

    # Collected is not recorded.
    assert len(made.collect(timeout=1)) == 6
    time.sleep(0.1)
    assert len(began) == 6

    made.settle()
    until(lambda: len(made._done) == 6)
    time.sleep(0.1)
    assert len(began) == 12


def test_jobs_that_have_not_begun_can_be_withdrawn(executor):
    began, release = [], threading.Event()
    made = executor(lambda job: began.append(job) or release.wait(PATIENCE), size=1, per_key=1)
    for number in range(5):
        made.submit(number, key="one")
    until(lambda: began)

    assert made.withdraw() == [1, 2, 3, 4]
    release.set()
    assert len(collect_all(made)) == 1


def test_a_closed_window_begins_nothing_and_its_threads_end(executor):
    before = threading.active_count()
    began, release = [], threading.Event()
    made = executor(lambda job: began.append(job) or release.wait(PATIENCE), size=2, per_key=2)
    for number in range(5):
        made.submit(number, key="one")
    until(lambda: began)

    made.close()
    made.submit(9, key="one")
    release.set()

    until(lambda: threading.active_count() <= before)
    assert began == [0]


def test_collecting_from_an_empty_window_returns_at_once(executor):
    began = time.monotonic()

    assert executor(lambda job: job).collect(timeout=PATIENCE) == []
    assert time.monotonic() - began < PATIENCE / 2


def test_an_urgent_result_is_collected_at_once_and_stops_its_key(executor):
    began = []
    made = executor(lambda job: began.append(job) or job, judge=urgent)
    made.submit("bad", key="one")
    for number in range(5):
        made.submit(number, key="one")

    before = time.monotonic()
    results = made.collect(timeout=PATIENCE)

    assert time.monotonic() - before < PATIENCE / 2
    assert results == ["bad"]
    time.sleep(0.05)
    assert began == ["bad"]
    assert sorted(made.collect(timeout=PATIENCE)) == [0, 1, 2, 3, 4]


def test_an_urgent_result_stops_no_other_key(executor):
    made = executor(lambda job: job, judge=urgent)
    made.submit("bad", key="one")
    made.submit("late", key="one")
    made.submit("good", key="two")

    results = made.collect(timeout=PATIENCE)
    while "good" not in results:
        results += made._done
        time.sleep(0.01)

    assert "late" not in results


def test_a_key_with_much_queued_is_crowded(executor):
    began, release = [], threading.Event()
    made = executor(lambda job: began.append(job) or release.wait(PATIENCE), per_key=1)
    for number in range(4):
        made.submit(number, key="many")
    made.submit("x", key="few")
    until(lambda: len(began) == 2)

    assert made.crowded_keys(beyond=2) == {"many"}
    assert made.crowded_keys(beyond=3) == set()
    release.set()


class TestSlowKeys:
    """What is slow leaves room for what is quick."""

    @pytest.fixture
    def release(self):
        event = threading.Event()
        yield event
        event.set()

    @pytest.fixture
    def hole(self, executor, release):
        """A window in which all but the quick ones hang."""

        def make(**options):
            self.began = []

            def work(key):
                self.began.append(key)
                if not key.startswith("quick"):
                    release.wait(PATIENCE)
                return key

            return executor(work, **options)

        return make

    def fill(self, executor, *, keys, jobs):
        for _ in range(jobs):
            for key in range(keys):
                executor.submit(f"hole {key}", key=f"hole {key}")

    def settle(self, count):
        """Wait until so many have begun, and a little longer, so that more could."""
        until(lambda: len(self.began) >= count)
        time.sleep(0.1)

    def test_ten_that_hang_leave_room_for_one_that_is_new(self, hole):
        made = hole(size=32, per_key=8)
        self.fill(made, keys=10, jobs=20)
        self.settle(10)

        assert len(self.began) == 10
        made.submit("quick", key="quick")
        before = time.monotonic()
        assert made.collect(timeout=PATIENCE, group=1) == ["quick"]
        assert time.monotonic() - before < PATIENCE / 2

    def test_what_may_turn_out_to_be_slow_counts_with_what_is(self, hole):
        made = hole(size=8, per_key=8)
        self.fill(made, keys=4, jobs=1)
        self.settle(4)
        time.sleep(0.3)
        for key in ("hole a", "hole b", "hole c", "hole d"):
            made.submit(key, key=key)
        self.settle(7)

        assert len(self.began) == 7

    def test_what_nothing_is_known_of_leaves_room_for_what_is_known(self, hole):
        latencies = Latencies()
        latencies.note("quick", seconds=0.01, now=time.monotonic())
        made = hole(size=16, per_key=8, known=latencies)
        self.fill(made, keys=50, jobs=1)
        self.settle(14)
        # Twelve places of slow ones, and two of those that may be.
        assert len(self.began) == 14

        made.submit("quick unknown", key="quick unknown")
        made.submit("quick", key="quick")

        assert made.collect(timeout=PATIENCE, group=1) == ["quick"]
        assert "quick unknown" not in self.began

    def test_one_window_knows_what_another_learnt(self, hole, executor):
        latencies = Latencies()
        for key in range(10):
            latencies.note(f"hole {key}", seconds=1, now=time.monotonic())
        made = hole(size=8, per_key=8, known=latencies)
        self.fill(made, keys=10, jobs=5)

        assert made.slow_keys == {f"hole {key}" for key in range(10)}
        self.settle(6)
        assert len(self.began) == 6
        assert made.startable == 0

    def test_a_slow_answer_is_learnt_and_a_quick_one_unlearns_it(self, executor, monkeypatch):
        now, latencies = [100.0], Latencies()

        def take(seconds):
            now[0] += seconds

        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))
        made = executor(take, known=latencies)
        made.submit(0.3, key="one")
        collect_all(made)
        assert latencies.is_slow("one", now=now[0])

        made.submit(0.2, key="one")
        collect_all(made)

        assert not latencies.is_slow("one", now=now[0])
        assert latencies.is_quick("one", now=now[0])

    def test_jobs_that_wait_for_a_place_of_slow_ones_do_not_keep_out_others(self, hole):
        made = hole(size=8, per_key=8)
        self.fill(made, keys=10, jobs=50)
        self.settle(7)

        assert len(self.began) == 7
        assert made.startable == 0

    @pytest.mark.parametrize(("size", "hang"), [(1, 1), (2, 2), (3, 2), (4, 3)])
    def test_a_small_window_goes_on(self, hole, release, size, hang):
        latencies = Latencies()
        latencies.note("quick", seconds=0.01, now=time.monotonic())
        made = hole(size=size, per_key=8, known=latencies)
        self.fill(made, keys=3, jobs=4)
        self.settle(hang)
        assert len(self.began) == hang
        made.submit("quick", key="quick")
        if hang < size:
            assert made.collect(timeout=PATIENCE, group=1) == ["quick"]
        release.set()

        assert len(collect_all(made)) == 12 + (hang == size)

    def test_quick_ones_have_all_places(self, executor):
        watch = Watch(8)
        latencies = Latencies()
        for number in range(8):
            latencies.note(f"key {number}", seconds=0.1, now=time.monotonic())
        made = executor(watch, size=8, per_key=1, known=latencies)
        for number in range(32):
            made.submit(f"key {number % 8}", key=f"key {number % 8}")

        assert len(collect_all(made)) == 32
        assert watch.most["all"] == 8


def test_slowness_is_forgotten_after_a_while():
    latencies = Latencies()
    latencies.note("slow", seconds=1, now=0.0)
    latencies.note("quick", seconds=0.1, now=0.0)

    assert latencies.is_slow("slow", now=REMEMBERED - 1)
    assert latencies.is_quick("quick", now=REMEMBERED - 1)
    assert not latencies.is_slow("slow", now=REMEMBERED + 1)
    assert not latencies.is_quick("quick", now=REMEMBERED + 1)


def test_slowness_is_remembered_of_so_many():
    latencies = Latencies()
    for number in range(MOST + 10):
        latencies.note(number, seconds=1, now=0.0)

    assert sum(latencies.is_slow(number, now=1.0) for number in range(MOST + 10)) <= MOST
    assert latencies.is_slow(MOST + 9, now=1.0)
