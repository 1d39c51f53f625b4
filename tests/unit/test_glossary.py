"""The glossary, held against the code: each thing has its standard name, and no other comes
back."""

from __future__ import annotations

import io
import re
import tokenize
from pathlib import Path

import pytest

import django_webhooks

PACKAGE = Path(django_webhooks.__file__).parent
PAGES = PACKAGE.parent / "docs"

#: Parts of identifiers, and words of pages, by the term to use in their place.
PARTS = {
    "allowance": "limiter",
    "allowances": "limiters",
    "door": "endpoint, or candidate for traffic",
    "doors": "endpoints, or candidates for traffic",
    "lane": "partition",
    "lanes": "partitions",
    "ledger": "recorder",
    "pulse": "heartbeat",
    "pulses": "heartbeats",
    "tallies": "roll-ups",
    "tally": "roll-up",
    "unbegun": "unstarted",
    "unnoted": "without_audit",
    "weighing": "health_update",
}
#: Whole identifiers, by the one to use in their place.
NAMES = {
    "AGAIN": "RETRY",
    "Entry": "AttemptRecord",
    "Flow": "RateLimitState",
    "GRAINS": "MOMENTS_A_SECOND",
    "Health": "EndpointHealth",
    "Keyed": "SigningKeysMixin",
    "Listening": "EventTypesMixin",
    "Manner": "ReplayOptions",
    "Note": "EntryDraft",
    "Overview": "OverviewPage",
    "Scene": "AuditContext",
    "Sealed": "Undecryptable",
    "SealedText": "UndecryptableText",
    "Slowness": "LatencyAverages",
    "Terms": "DeliveryOptions",
    "Told": "FindingDraft",
    "WEBHOOKS_FRESH_SHARE": "NEW_SHARE",
    "Written": "LazyEvents",
    "acting": "actor",
    "acting_as": "set_actor",
    "down_warnings": "notified_down_stage",
    "entries_of": "records_of",
    "failing_is_mixed": "failed_events_differ",
    "flow_changed_at": "sending_changed_at",
    "flowed_at": "fully_released_at",
    "is_told_unreadable": "is_notified_unreadable",
    "left_out": "skipped",
    "has_new_message_ids": "gives_new_message_ids",
    "let_flow": "release_all",
    "made_of": "build_entry",
    "manner": "replay_options",
    "one_trip": "postgres_insert",
    "ramp": "slow_start_released",
    "rises": "probe_successes",
    "sealed_fields": "undecryptable_fields",
    "told_at": "notified_at",
    "told_state": "notified_state",
    "watched_until": "pacer_lease_until",
    "watcher": "pacer",
    "webhooks_rotate_keys": "webhooks_reencrypt",
}


def private_words(source: str, known: dict[str, str] | None = None) -> list[str]:
    """Return what Python code calls by a private word, with its line and the standard term."""
    known = known or {**NAMES, **PARTS}
    found = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.NAME:
            words = {token.string}
        elif token.type == tokenize.STRING:
            # Columns, look-ups and names of tasks are strings.
            words = set(re.findall(r"[A-Za-z_]\w*", token.string))
            words = {word for word in words if "_" in word}
        else:
            continue
        for word in words:
            parts = [word, *word.split("__"), *re.split("_+", word.lower())]
            terms = {known[one] for one in parts if one in known}
            found += [f"line {token.start[0]}: {word} is {term}" for term in sorted(terms)]
    return found


@pytest.mark.parametrize(
    "path",
    [pytest.param(one, id=str(one.relative_to(PACKAGE))) for one in sorted(PACKAGE.rglob("*.py"))],
)
def test_code_uses_the_terms_of_the_glossary(path):
    assert private_words(path.read_text()) == []


@pytest.mark.parametrize("folder", ["tests", "benchmarks", "example_project"])
def test_the_code_around_the_package_has_no_private_word_in_its_names(folder):
    files = [one for one in (PACKAGE.parent / folder).rglob("*.py") if one != Path(__file__)]

    assert len(files) > 3
    assert {
        one.name: found for one in files if (found := private_words(one.read_text(), PARTS))
    } == {}


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(one, id=one.name)
        for one in sorted([*PAGES.rglob("*.md"), *PACKAGE.rglob("*.html")])
    ],
)
def test_pages_use_the_terms_of_the_glossary(path):
    words = set(re.findall(r"[A-Za-z_]\w*", path.read_text()))

    private = {word for word in words if word.lower() in PARTS or (word in NAMES and "_" in word)}

    assert private == set()


def test_modules_are_called_by_the_terms_of_the_glossary():
    names = {part for path in PACKAGE.rglob("*.py") for part in path.stem.split("_")}

    assert names & (set(PARTS) | set(NAMES)) == set()


@pytest.mark.parametrize(
    "source",
    [
        "door = 1\n",
        "def lock_doors(): pass\n",
        "class Flow: pass\n",
        'rows.filter(subscription__flow__told_at=None)\nrows.values("told_at")\n',
        "class AllowanceOfOne: pass\nallowance_of = 1\n",
    ],
)
def test_a_private_word_that_comes_back_is_found(source):
    assert private_words(source) != []


@pytest.mark.parametrize("source", ["indoors = 1\n", "# a door\n", "flowing = told = 1\n"])
def test_other_words_are_left_alone(source):
    assert private_words(source) == []
