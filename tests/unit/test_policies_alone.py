"""The tests of the policies, run by themselves, in a process that has no Django to import."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

POLICIES = Path(__file__).parent / "policies"
RUN = """
import sys
sys.modules["django"] = sys.modules["celery"] = None
import pytest
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", *sys.argv[1:]]))
"""


def run(*arguments: str) -> str:
    """Return the output of pytest, which succeeds without Django."""
    own = {"DJANGO_SETTINGS_MODULE": "no.such.settings"}
    ended = subprocess.run(
        [sys.executable, "-c", RUN, *arguments],
        env={**os.environ, **own},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_the_policies_are_tested_without_django():
    passed = re.search(r"(\d+) passed", run(str(POLICIES)))

    assert passed is not None
    assert int(passed[1]) > 500


def test_each_policy_that_has_tests_of_its_own_is_there():
    policies = Path(__file__).parents[2] / "django_webhooks" / "policies"

    tested = {one.stem.removeprefix("test_") for one in POLICIES.glob("test_*.py")}

    assert tested <= {one.stem for one in policies.glob("*.py")}
