"""What contributors are told, and what is asked of their commits."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
HOOKS = {
    hook["id"]: hook
    for repository in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    for hook in repository["hooks"]
}


def test_each_path_that_is_named_is_there():
    named = re.findall(r"(?:django_webhooks|docs|tests)/[\w./*]+[\w/]", TEXT)
    named += [f"tests/integration/{one}" for one in re.findall(r"`…/(\S+?)`", TEXT)]

    assert len(named) > 20
    assert [one for one in named if not list(ROOT.glob(one.rstrip("/")))] == []


def test_the_change_can_be_made():
    [(path, line)] = re.findall(r"in `(\S+\.py)`, write .*?```python\n(.+?)\n```", TEXT, re.S)

    assert (ROOT / path).read_text(encoding="utf-8").count(line) == 1
    told = (ROOT / "tests/unit/policies/test_outcome.py").read_text(encoding="utf-8")
    assert "def test_the_status_decides(" in told


@pytest.mark.parametrize("environment", re.findall(r"tox run -e (\S+)", TEXT))
def test_each_environment_of_tox_is_there(environment):
    tox = (ROOT / "tox.ini").read_text(encoding="utf-8")

    assert all(f"[testenv:{name}]" in tox for name in environment.split(","))


@pytest.mark.parametrize(
    ("message", "is_refused"),
    [
        ("x" * 71, False),
        ("x" * 72, True),
        (f"Tests: short\n\n{'long ' * 30}", False),
        (f"{'long ' * 30}\n\nshort", True),
    ],
    ids=["71", "72", "a long body", "a long subject before a body"],
)
def test_the_subject_of_a_commit_is_short(message, is_refused):
    hook = HOOKS["subject"]

    assert hook["language"] == "pygrep"
    # As pre-commit searches with this argument.
    assert hook["args"] == ["--multiline"]
    found = re.search(hook["entry"], message, re.MULTILINE | re.DOTALL)
    assert (found is not None) == is_refused


def test_commits_are_asked_for_what_the_build_asks():
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    wanted = {one for hook in HOOKS.values() for one in hook.get("additional_dependencies", ())}

    assert wanted <= set(groups["lint"])
    lint = (ROOT / "tox.ini").read_text(encoding="utf-8").partition("[testenv:lint]")[2]
    for hook in HOOKS.values():
        if hook["language"] == "python":
            assert hook["entry"].removesuffix(" --force-exclude") in lint
