"""Failures on purpose: which there are, and which requests meet one."""

from __future__ import annotations

import pytest

from django_webhooks.receiving import failures
from django_webhooks.receiving.failures import Plan, parse


@pytest.mark.parametrize(
    ("text", "status", "headers"),
    [
        ("503", 503, {}),
        ("404", 404, {}),
        ("307", 307, {}),
        ("429:30", 429, {"Retry-After": "30"}),
        (
            "503:Wed, 21 Oct 2026 07:28:00 GMT",
            503,
            {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"},
        ),
        ("redirect", 302, {"Location": "/elsewhere"}),
        ("refuse", 422, {"webhook-no-retry": "1"}),
        ("timeout", 0, {}),
        ("reset", 0, {}),
    ],
)
def test_a_failure_is_read_from_a_text(text, status, headers):
    found = parse(text)

    assert (found.name, found.status, dict(found.headers)) == (text, status, headers)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "200",
        "204",
        "299",
        "600",
        "5030",
        "²00",
        "-503",
        "503:",
        "503:\r\nx: y",
        "503:é",
        "slow",
    ],
)
def test_what_is_no_failure_is_refused(text):
    with pytest.raises(ValueError, match="A failure is timeout"):
        parse(text)


class TestPlan:
    def test_without_failures_nothing_fails(self):
        assert [Plan(first=3).next() for _ in range(3)] == [None] * 3

    def test_with_one_everything_fails(self):
        assert [Plan([failures.RESET]).next() for _ in range(3)] == [failures.RESET] * 3

    def test_several_take_turns(self):
        plan = Plan([failures.RESET, failures.TIMEOUT])

        assert [plan.next().name for _ in range(3)] == ["reset", "timeout", "reset"]

    def test_the_first_ones(self):
        plan = Plan([failures.RESET], first=2)

        assert [one is None for one in (plan.next() for _ in range(4))] == [
            False,
            False,
            True,
            True,
        ]

    def test_a_share_of_them_which_the_seed_decides(self):
        def fates(seed):
            plan = Plan([failures.RESET], rate=0.3, seed=seed)
            return [plan.next() is not None for _ in range(1000)]

        assert fates(7) == fates(7) != fates(8)
        assert 250 < sum(fates(7)) < 350

    @pytest.mark.parametrize(("rate", "count"), [(0, 0), (1, 50)])
    def test_none_and_all_are_shares(self, rate, count):
        plan = Plan([failures.RESET], rate=rate)

        assert sum(plan.next() is not None for _ in range(50)) == count

    @pytest.mark.parametrize("options", [{"rate": 1.5}, {"rate": -0.1}, {"rate": 0.5, "first": 1}])
    def test_what_makes_no_sense_is_refused(self, options):
        with pytest.raises(ValueError, match=r"share"):
            Plan([failures.RESET], **options)
