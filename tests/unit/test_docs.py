"""The documentation: complete, without inventions, with links that lead somewhere."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
from django.core.management import BaseCommand, get_commands, load_command_class
from django.dispatch import Signal

from django_webhooks import checks, signals
from django_webhooks.conf import Settings
from django_webhooks.inbox import signals as inbox_signals
from django_webhooks.policies.retry import RetryPolicy

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
SETTING = re.compile(r"\bWEBHOOKS_[A-Z_]*[A-Z]\b")


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def rows(text: str) -> list[list[str]]:
    """The cells of all tables, without the marks of code."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [
        [cell.strip().strip("`").replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in lines
    ]


def first_cells(text: str, pattern: str) -> list[str]:
    return [row[0] for row in rows(text) if re.fullmatch(pattern, row[0])]


def settings() -> dict[str, Any]:
    return {name: value for name, value in vars(Settings).items() if SETTING.fullmatch(name)}


def test_each_setting_is_in_its_reference_as_it_is_in_the_code():
    documented = {row[0]: row[1:3] for row in rows(page("reference/settings.md"))}

    assert {name: documented.get(name) for name in settings()} == {
        name: [Settings.__annotations__[name], repr(value)] for name, value in settings().items()
    }


def test_no_page_names_a_setting_that_does_not_exist():
    named = {
        (path.name, name)
        for path in [*PAGES, ROOT / "README.md"]
        for name in SETTING.findall(path.read_text(encoding="utf-8"))
    }

    assert [one for one in named if one[1] not in settings()] == []


def test_each_signal_is_in_its_reference_and_no_other():
    names = {**vars(signals), **vars(inbox_signals)}
    sent = sorted(name for name, value in names.items() if isinstance(value, Signal))

    assert sorted(first_cells(page("reference/signals.md"), r"[a-z]+_[a-z_]+")) == sent


def check_sources() -> list[Path]:
    """The files that name ids of checks: those of the core, and of each optional app."""
    core = Path(checks.__file__).parent
    apps = (core.parent / name for name in ("auditing", "inbox"))
    own = (one / file for one in apps for file in ("checks.py", "extension.py"))
    return [*core.glob("*.py"), *own]


def test_each_check_is_in_its_reference_and_no_other():
    sources = [path.read_text() for path in check_sources()]
    ids = sorted(re.findall(r"webhooks\.[EW]\d{3}", "".join(sources)))

    assert first_cells(page("reference/checks.md"), r"webhooks\.[EW]\d{3}") == ids


def test_each_rule_of_a_setting_is_documented_under_its_id():
    from django_webhooks.checks.values import RULES

    documented = {row[0]: row[1] for row in rows(page("reference/checks.md"))}

    assert [one.id for one in RULES if one.setting not in documented[one.id]] == []


def test_each_finding_is_in_its_reference_with_its_severity_and_no_other():
    from django_webhooks.auditing import audit
    from django_webhooks.auditing.finding import RULES

    documented = {row[0]: row[1] for row in rows(page("reference/audit.md")) if "." in row[0]}
    ours = {one.id: one.severity.value for one in RULES.values()}

    assert documented == {audit.FAILED: "warning", **dict(sorted(ours.items()))}
    assert list(documented) == sorted(documented)


def test_each_reason_is_in_its_reference_with_its_meaning_and_no_other():
    from django_webhooks.policies.reasons import HttpReason, Reason, RejectionReason, SwitchReason

    documented = [tuple(row) for row in rows(page("reference/reasons.md")) if row[0] != "reason"]
    ours = [one for codes in (Reason, SwitchReason, RejectionReason) for one in codes]

    assert documented == [
        ("http_NNN", HttpReason(503).help_text),
        *((str(one), one.help_text) for one in ours),
    ]


def test_each_command_is_in_its_reference_with_its_options_and_no_other():
    text = page("reference/commands.md")
    ours = [name for name, app in get_commands().items() if app.startswith("django_webhooks")]

    assert sorted(re.findall(r"^## (\w+)$", text, re.M)) == sorted(ours)
    for name in ours:
        own = text.partition(f"## {name}\n")[2].partition("\n## ")[0]
        options = options_of(load_command_class(get_commands()[name], name))
        of_all = {*options_of(BaseCommand()), "--skip-checks"}
        assert set(re.findall(r"--[a-z-]+", own)) == options - of_all, name


def options_of(command: BaseCommand) -> set[str]:
    parser = command.create_parser("manage.py", "command")
    return {one.option_strings[-1] for one in parser._actions if one.option_strings}


def test_the_retry_schedule_is_that_of_the_code():
    policy = RetryPolicy()
    units = {"s": 1, "min": 60, "h": 3600}

    [waits] = [row[1:] for row in rows(page("explanation/delivery.md")) if row[0] == "wait"]

    documented = [
        sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+) (s|min|h)", wait))
        for wait in waits
    ]
    assert documented == [policy.wait(retry, random=0.5) for retry in range(1, len(waits) + 1)]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(DOCS)))
def test_examples_in_python_compile(path):
    for block in re.findall(r"^```python\n(.*?)^```", path.read_text("utf-8"), re.M | re.S):
        ast.parse(block)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(DOCS)))
def test_links_lead_somewhere(path):
    text = re.sub(r"^```.*?^```", "", path.read_text("utf-8"), flags=re.M | re.S)
    for link in re.findall(r"\]\(([^)]+)\)", text):
        if link.startswith("https://"):
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file) if file else path
        assert target.is_file(), link
        assert not anchor or anchor in anchors(target), link


def anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", path.read_text("utf-8"), re.M)
    return {re.sub(r"[^\w\s-]", "", one).strip().lower().replace(" ", "-") for one in headings}


def test_each_page_can_be_reached_from_the_first_one():
    seen, todo = set(), [DOCS / "index.md"]
    while todo:
        path = todo.pop()
        if path in seen or not path.is_file():
            continue
        seen.add(path)
        links = re.findall(r"\]\(([^)#]+\.md)", path.read_text("utf-8"))
        todo += [(path.parent / link).resolve() for link in links if "://" not in link]

    assert sorted(path.resolve() for path in PAGES) == sorted(path.resolve() for path in seen)
