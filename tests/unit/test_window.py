"""The sliding window: all jobs, in bounds, none held back by another's receiver."""

from __future__ import annotations

import threading
import time
from collections import Counter

import pytest

from django_webhooks.sending import window as windows
from django_webhooks.sending.slowness import MOST, REMEMBERED, Slowness
from django_webhooks.sending.window import Window


@pytest.fixture
def window():
    made = []

    def make(work, *, size=8, per_key=4, **options):
        made.append(Window(work, size=size, per_key=per_key, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


def collect_all(window):
    results = []
    while not window.is_empty:
        results += window.collect(timeout=0.05)
    return results


class Watch:
    """A job that takes a while, and counts how many run at once."""

    def __init__(self, seconds):
        self.seconds = seconds
        self.running, self.most = Counter(), Counter()
        self.lock = threading.Lock()

    def __call__(self, key):
        with self.lock:
            self.running[key] += 1
            self.running["all"] += 1
            for name, count in self.running.items():
                self.most[name] = max(self.most[name], count)
        time.sleep(self.seconds)
        with self.lock:
            self.running[key] -= 1
            self.running["all"] -= 1
        return key


def test_every_job_has_its_result(window):
    made = window(lambda job: job * 2)
    for number in range(200):
        made.submit(number, key="one")

    assert sorted(collect_all(made)) == [number * 2 for number in range(200)]


def test_slow_jobs_run_side_by_side_within_the_bounds(window):
    watch = Watch(0.05)
    made = window(watch, size=6, per_key=4)
    for number in range(40):
        made.submit(f"key {number % 2}", key=f"key {number % 2}")

    assert len(collect_all(made)) == 40
    assert watch.most["all"] <= 6
    assert watch.most["key 0"] <= 4
    assert watch.most["all"] > 2


def test_quick_jobs_run_one_after_the_other(window, monkeypatch):
    # A busy machine must not make them slow.
    monkeypatch.setattr(windows, "PATIENCE", 5.0)
    watch = Watch(0)
    made = window(watch)
    for number in range(100):
        made.submit(f"key {number % 4}", key=f"key {number % 4}")

    assert len(collect_all(made)) == 100
    assert watch.most["all"] == 1


def test_the_jobs_of_a_key_begin_in_their_order(window):
    began = []
    made = window(began.append, per_key=1)
    for number in range(50):
        made.submit(number, key="one")

    collect_all(made)

    assert began == list(range(50))


def test_keys_take_turns(window):
    began = []
    release = threading.Event()
    made = window(lambda key: began.append(key) or release.wait(5), size=1)
    made.submit("first", key="first")
    while not began:
        time.sleep(0.001)
    for key in "aaaaabbbbb":
        made.submit(key, key=key)
    release.set()

    collect_all(made)

    assert began == ["first", *"ababababab"]


def test_no_more_threads_than_places(window):
    before = threading.active_count()
    made = window(lambda key: None, size=3)
    for key in range(200):
        made.submit(key, key=key)

    assert len(collect_all(made)) == 200
    assert threading.active_count() - before <= 3


def test_work_that_fails_fails_the_owner_rather_than_hanging_it(window):
    def fail(job):
        raise RuntimeError("broken")

    made = window(fail)
    for number in range(3):
        made.submit(number, key="one")

    with pytest.raises(RuntimeError, match="broken"):
        collect_all(made)


def test_a_slow_key_does_not_hold_back_another(window):
    release = threading.Event()
    made = window(lambda key: key if key == "quick" else release.wait(5) and key)
    for _ in range(20):
        made.submit("slow", key="slow")
    for _ in range(20):
        made.submit("quick", key="quick")

    results = []
    while len(results) < 20:
        results += made.collect(timeout=0.05)
    assert set(results) == {"quick"}
    assert made.startable == 0
    assert len(made.withdraw()) == 16

    release.set()
    assert len(collect_all(made)) == 4


def test_keys_that_take_long_are_known(window):
    release = threading.Event()
    made = window(lambda key: release.wait(5))
    made.submit("slow", key="slow")
    time.sleep(0.3)

    assert made.slow_keys == {"slow"}
    assert made.keys_under_way == {"slow"}
    release.set()
    collect_all(made)
    assert made.slow_keys == set()


def test_results_that_were_not_collected_keep_their_places(window):
    began = []
    made = window(began.append, size=3, per_key=3)
    for number in range(10):
        made.submit(number, key="one")
    time.sleep(0.2)

    assert len(began) == 3
    collect_all(made)
    assert len(began) == 10


def test_jobs_that_have_not_begun_can_be_withdrawn(window):
    release = threading.Event()
    made = window(lambda job: release.wait(5), size=1, per_key=1)
    for number in range(5):
        made.submit(number, key="one")
    time.sleep(0.1)

    assert made.withdraw() == [1, 2, 3, 4]
    release.set()
    assert len(collect_all(made)) == 1


def test_a_closed_window_begins_nothing_and_its_threads_end(window):
    before = threading.active_count()
    release = threading.Event()
    made = window(lambda job: release.wait(5), size=2, per_key=2)
    for number in range(5):
        made.submit(number, key="one")
    time.sleep(0.1)

    made.close()
    made.submit(9, key="one")
    release.set()

    ends = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < ends:
        time.sleep(0.01)
    assert threading.active_count() <= before


def test_collecting_from_an_empty_window_returns_at_once(window):
    began = time.monotonic()

    assert window(lambda job: job).collect(timeout=5) == []
    assert time.monotonic() - began < 1


def test_an_urgent_result_is_collected_at_once_and_stops_its_key(window):
    began = []
    made = window(lambda job: began.append(job) or job, is_urgent=lambda job: job == "bad")
    made.submit("bad", key="one")
    for number in range(5):
        made.submit(number, key="one")

    before = time.monotonic()
    results = made.collect(timeout=5)

    assert time.monotonic() - before < 2
    assert results == ["bad"]
    time.sleep(0.05)
    assert began == ["bad"]
    assert sorted(made.collect(timeout=5)) == [0, 1, 2, 3, 4]


def test_an_urgent_result_stops_no_other_key(window):
    made = window(lambda job: job, is_urgent=lambda job: job == "bad")
    made.submit("bad", key="one")
    made.submit("late", key="one")
    made.submit("good", key="two")

    results = made.collect(timeout=5)
    while "good" not in results:
        results += made._done
        time.sleep(0.01)

    assert "late" not in results


def test_a_key_with_much_queued_is_crowded(window):
    release = threading.Event()
    made = window(lambda job: release.wait(5), per_key=1)
    for number in range(4):
        made.submit(number, key="many")
    made.submit("x", key="few")
    time.sleep(0.05)

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
    def hole(self, window, release):
        """A window in which all but the quick ones hang."""

        def make(**options):
            self.began = []

            def work(key):
                self.began.append(key)
                if not key.startswith("quick"):
                    release.wait(10)
                return key

            return window(work, **options)

        return make

    def fill(self, window, *, keys, jobs):
        for _ in range(jobs):
            for key in range(keys):
                window.submit(f"hole {key}", key=f"hole {key}")

    def settle(self, count):
        """Wait until so many have begun, and a little longer, so that more could."""
        ends = time.monotonic() + 10
        while len(self.began) < count and time.monotonic() < ends:
            time.sleep(0.01)
        time.sleep(0.1)

    def test_ten_that_hang_leave_room_for_one_that_is_new(self, hole):
        made = hole(size=32, per_key=8)
        self.fill(made, keys=10, jobs=20)
        self.settle(24)

        assert len(self.began) == 24
        made.submit("quick", key="quick")
        before = time.monotonic()
        assert made.collect(timeout=5, group=1) == ["quick"]
        assert time.monotonic() - before < 0.2

    def test_what_may_turn_out_to_be_slow_counts_with_what_is(self, hole):
        made = hole(size=8, per_key=8)
        for _ in range(4):
            made.submit("hole a", key="hole a")
        self.settle(4)
        time.sleep(0.3)
        for key in ("hole b", "hole b", "hole a", "hole a"):
            made.submit(key, key=key)
        self.settle(6)

        assert len(self.began) == 6

    def test_what_nothing_is_known_of_leaves_room_for_what_is_known(self, hole):
        slowness = Slowness()
        slowness.note("quick", seconds=0.01, now=time.monotonic())
        made = hole(size=16, per_key=8, slowness=slowness)
        self.fill(made, keys=50, jobs=1)
        self.settle(14)
        # Twelve places of slow ones, and two of those that may be.
        assert len(self.began) == 14

        made.submit("quick unknown", key="quick unknown")
        made.submit("quick", key="quick")

        assert made.collect(timeout=5, group=1) == ["quick"]
        assert "quick unknown" not in self.began

    def test_one_window_knows_what_another_learnt(self, hole, window):
        slowness = Slowness()
        for key in range(10):
            slowness.note(f"hole {key}", seconds=1, now=time.monotonic())
        made = hole(size=8, per_key=8, slowness=slowness)
        self.fill(made, keys=10, jobs=5)

        assert made.slow_keys == {f"hole {key}" for key in range(10)}
        time.sleep(0.1)
        assert len(self.began) == 6
        assert made.startable == 0

    def test_a_slow_answer_is_learnt_and_a_quick_one_unlearns_it(self, window):
        slowness = Slowness()
        made = window(time.sleep, slowness=slowness)
        made.submit(0.3, key="one")
        collect_all(made)
        assert slowness.is_slow("one", now=time.monotonic())

        made.submit(0.0, key="one")
        collect_all(made)

        assert not slowness.is_slow("one", now=time.monotonic())
        assert slowness.is_quick("one", now=time.monotonic())

    def test_jobs_that_wait_for_a_place_of_slow_ones_do_not_keep_out_others(self, hole):
        made = hole(size=8, per_key=8)
        self.fill(made, keys=4, jobs=50)
        self.settle(6)

        assert made.startable == 0

    @pytest.mark.parametrize(("size", "hang"), [(1, 1), (2, 2), (3, 2), (4, 3)])
    def test_a_small_window_goes_on(self, hole, release, size, hang):
        slowness = Slowness()
        slowness.note("quick", seconds=0.01, now=time.monotonic())
        made = hole(size=size, per_key=8, slowness=slowness)
        self.fill(made, keys=3, jobs=4)
        self.settle(hang)
        assert len(self.began) == hang
        made.submit("quick", key="quick")
        if hang < size:
            assert made.collect(timeout=5, group=1) == ["quick"]
        release.set()

        assert len(collect_all(made)) == 12 + (hang == size)

    def test_quick_ones_have_all_places(self, window):
        watch = Watch(0.1)
        slowness = Slowness()
        for number in range(8):
            slowness.note(f"key {number}", seconds=0.1, now=time.monotonic())
        made = window(watch, size=8, per_key=1, slowness=slowness)
        for number in range(32):
            made.submit(f"key {number % 8}", key=f"key {number % 8}")

        assert len(collect_all(made)) == 32
        assert watch.most["all"] == 8


def test_slowness_is_forgotten_after_a_while():
    slowness = Slowness()
    slowness.note("slow", seconds=1, now=0.0)
    slowness.note("quick", seconds=0.1, now=0.0)

    assert slowness.is_slow("slow", now=REMEMBERED - 1)
    assert slowness.is_quick("quick", now=REMEMBERED - 1)
    assert not slowness.is_slow("slow", now=REMEMBERED + 1)
    assert not slowness.is_quick("quick", now=REMEMBERED + 1)


def test_slowness_is_remembered_of_so_many():
    slowness = Slowness()
    for number in range(MOST + 10):
        slowness.note(number, seconds=1, now=0.0)

    assert sum(slowness.is_slow(number, now=1.0) for number in range(MOST + 10)) <= MOST
    assert slowness.is_slow(MOST + 9, now=1.0)
