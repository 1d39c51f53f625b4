"""The command that runs the tests of what changed."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests import changed

FILES = {
    "README.md": "",
    "django_webhooks/__init__.py": "",
    "django_webhooks/policies/__init__.py": "",
    "django_webhooks/policies/retry.py": "",
    "django_webhooks/sending/__init__.py": "",
    "django_webhooks/sending/entries.py": "from ..policies import retry\n",
    "django_webhooks/sending/recorder.py": "from . import entries\n",
    "tests/acceptance/test_all.py": "from django_webhooks.policies import retry\n",
    "tests/factories.py": "from django_webhooks.sending.recorder import record\n",
    "tests/unit/__init__.py": "",
    "tests/unit/test_docs.py": "",
    "tests/unit/test_entries.py": "import django_webhooks.sending.entries\n",
    "tests/unit/test_recorder.py": "from ..factories import delivery\n",
    "tests/unit/policies/conftest.py": "",
    "tests/unit/policies/test_retry.py": "",
    "tests/unit/policies/test_retry_cap.py": "def test() -> None:\n    from django_webhooks "
    "import policies\n    import django_webhooks.policies.retry as retry\n",
}


@pytest.fixture
def repository(tmp_path):
    """A repository with a commit on main."""
    for path, text in FILES.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text, encoding="utf-8")
    git(tmp_path, "init", "-q", "-b", "main")
    commit(tmp_path)
    return tmp_path


def git(folder, *arguments):
    own = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
    subprocess.run(["git", "-C", folder, *own, *arguments], check=True)


def commit(folder):
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "A change")


class TestWhatChanged:
    def test_the_branch_and_what_is_not_committed(self, repository):
        git(repository, "switch", "-q", "-c", "mine")
        (repository / "tests/factories.py").write_text("# committed")
        commit(repository)
        (repository / "README.md").write_text("changed")
        (repository / "new.py").write_text("not added")

        found = changed.changed_files("main", root=repository)

        assert found == {"README.md", "new.py", "tests/factories.py"}

    def test_not_what_the_base_got_meanwhile(self, repository):
        git(repository, "switch", "-q", "-c", "mine")
        git(repository, "switch", "-q", "main")
        (repository / "README.md").write_text("changed by others")
        commit(repository)
        git(repository, "switch", "-q", "mine")

        assert changed.changed_files("main", root=repository) == set()

    def test_a_base_that_is_not_there(self, repository):
        with pytest.raises(SystemExit, match="There is no 'origin/main' to compare with"):
            changed.changed_files("origin/main", root=repository)


class TestTestsOfIt:
    @pytest.mark.parametrize(
        ("path", "expected"),
        [
            pytest.param(
                "django_webhooks/policies/retry.py",
                {
                    "tests/unit/policies/test_retry.py": changed.NAMED,
                    "tests/unit/policies/test_retry_cap.py": changed.NAMED,
                    "tests/unit/test_entries.py": changed.NEAR,
                },
                id="its name, then who imports what imports it",
            ),
            pytest.param(
                "django_webhooks/sending/recorder.py",
                {
                    "tests/unit/test_recorder.py": changed.NAMED,
                },
                id="its name before an import of its import",
            ),
            pytest.param(
                "tests/factories.py",
                {"tests/unit/test_recorder.py": changed.IMPORTING},
                id="who imports a helper",
            ),
            pytest.param(
                "tests/unit/test_recorder.py",
                {"tests/unit/test_recorder.py": changed.CHANGED},
                id="itself",
            ),
            pytest.param(
                "tests/unit/policies/conftest.py",
                {
                    "tests/unit/policies/test_retry.py": changed.NEAR,
                    "tests/unit/policies/test_retry_cap.py": changed.NEAR,
                },
                id="the folder of a conftest",
            ),
            pytest.param(
                "README.md", {"tests/unit/test_docs.py": changed.NAMED}, id="what is no module"
            ),
            pytest.param("tests/acceptance/test_all.py", {}, id="no test of real processes"),
            pytest.param("django_webhooks/policies/gone.py", {}, id="a module that is gone"),
        ],
    )
    def test_they_are_found(self, repository, path, expected):
        assert changed.tests_of([path], root=repository) == expected

    def test_the_nearest_come_first(self, repository):
        paths = ["django_webhooks/policies/retry.py", "tests/unit/test_entries.py"]

        assert list(changed.tests_of(paths, root=repository)) == [
            "tests/unit/test_entries.py",
            "tests/unit/policies/test_retry.py",
            "tests/unit/policies/test_retry_cap.py",
        ]

    def test_each_file_that_is_named_for_others_is_there(self):
        named = {test for tests in changed.OTHERS.values() for test in tests}

        assert [test for test in named if not (changed.ROOT / test).is_file()] == []


RUN = """
import sys, time
import pytest
from tests.changed import Budget
order = ["tests/unit/policies/test_retry.py", "tests/unit/policies/test_matching.py"]
budget = Budget({path: 0 for path in order}, ends=time.monotonic() + float(sys.argv[1]))
sys.exit(pytest.main(["-v", "-p", "no:cacheprovider", *order[::-1]], plugins=[budget]))
"""


def run(*, seconds):
    """Return the output of a run of two files in another order."""
    ended = subprocess.run(
        [sys.executable, "-c", RUN, str(seconds)],
        cwd=changed.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


class TestTheRun:
    def test_the_nearest_file_is_run_first(self):
        output = run(seconds=3600)

        ran = re.findall(r"test_(\w+)\.py::\S+ PASSED", output)
        assert set(ran) == {"retry", "matching"}
        assert ran == sorted(ran, reverse=True)
        assert "not begun in time" not in output

    def test_when_the_time_is_over_the_rest_is_left_out_and_named(self):
        output = run(seconds=0)

        assert "PASSED" not in output
        section = output.partition("tests were not begun in time")[2]
        assert re.findall(r"tests/unit/\S+", section) == [
            "tests/unit/policies/test_retry.py",
            "tests/unit/policies/test_matching.py",
        ]
