"""Time-ordered ids."""

from __future__ import annotations

import threading
import time
import uuid

from hypothesis import given
from hypothesis import strategies as st

from django_webhooks import fields
from django_webhooks.fields import uuid7


def test_an_id_is_a_uuid_of_version_7():
    made = uuid7()

    assert made.version == 7
    assert made.variant == uuid.RFC_4122


def test_an_id_begins_with_its_millisecond():
    before = time.time_ns() // 1_000_000
    made = uuid7()
    after = time.time_ns() // 1_000_000

    assert before <= made.int >> 80 <= after


@given(st.lists(st.integers(0, 2**48 - 1), min_size=2, unique=True))
def test_ids_sort_by_their_moment_in_every_form(moments):
    class Clock:
        """A clock that is read once."""

        def __init__(self, milliseconds):
            self.time_ns = lambda: milliseconds * 1_000_000

    real = fields.time
    made = []
    try:
        for moment in sorted(moments):
            fields.time = Clock(moment)
            made.append(uuid7())
    finally:
        fields.time = real

    assert made == sorted(made)
    assert [str(one) for one in made] == sorted(str(one) for one in made)
    assert {(one.version, one.variant) for one in made} == {(7, uuid.RFC_4122)}


def test_ids_made_at_once_differ():
    made = []
    threads = [
        threading.Thread(target=lambda: made.extend(uuid7() for _ in range(2_000)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(made)) == len(made) == 8_000
