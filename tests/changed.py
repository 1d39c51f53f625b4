"""Run the tests of what changed, in under a minute: ``python -m tests.changed [arguments]``.

What changed is what git says: commits that ``--base`` (origin/main) does not have, and everything
that is not committed. The tests nearest to it are run first: changed ones, then those that have the
name of a changed module, those that import it, and those that import a module that imports it. When
the time is over the rest is left out, and named. Other arguments are pytest's.

Tests of real processes are left to a full run, ``python -m tests.parallel_runs``.
"""

from __future__ import annotations

import argparse
import ast
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "django_webhooks"
#: Folders of tests that are run; the others need processes and settings of their own.
FOLDERS = ("tests/unit", "tests/integration")
#: Tests of what is no module, by the beginning of its path.
OTHERS = {
    "docs/": ("tests/unit/test_docs.py",),
    "README.md": ("tests/integration/test_readme.py", "tests/unit/test_docs.py"),
    f"{PACKAGE}/locale/": ("tests/integration/admin/test_languages.py",),
    f"{PACKAGE}/templates/": (
        "tests/integration/admin/test_admin.py",
        "tests/integration/admin/test_admin_records.py",
        "tests/integration/admin/test_overview.py",
    ),
}
#: Seconds after which no test is begun.
SECONDS = 40.0
#: How near a test is to what changed.
CHANGED, NAMED, IMPORTING, NEAR = range(4)


def main(*arguments: str) -> int:
    """Run the tests; return pytest's status, or 0 where nothing that changed has tests."""
    parser = argparse.ArgumentParser(prog="python -m tests.changed", allow_abbrev=False)
    parser.add_argument("--base", default="origin/main")
    parser.add_argument("--seconds", type=float, default=SECONDS)
    options, further = parser.parse_known_args(arguments)
    began = time.monotonic()
    found = tests_of(changed_files(options.base), root=ROOT)
    if not found:
        print("Nothing that changed has tests here.")
        return 0
    print(f"{len(found)} files of tests are near to what changed; the nearest come first.")
    budget = Budget(found, ends=began + options.seconds)
    return int(pytest.main([*further, *found], plugins=[budget]))


def changed_files(base: str, *, root: Path = ROOT) -> set[str]:
    """Return the paths that were changed since the branch left its base, committed or not."""
    fork = _git("merge-base", "HEAD", base, root=root)
    if not fork:
        sys.exit(f"There is no {base!r} to compare with; name a branch by --base.")
    return {
        *_git("diff", "--name-only", *fork, root=root),
        *_git("ls-files", "--others", "--exclude-standard", root=root),
    }


def _git(*arguments: str, root: Path) -> list[str]:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()


def tests_of(changed: Iterable[str], *, root: Path) -> dict[str, int]:
    """Return the files of tests that are near to changed files, the nearest first."""
    sources = set(_sources(root))
    imports = {path: sources & set(_imports(path, root=root)) for path in sources}
    tests = {path for path in imports if _is_test(path)}
    found: dict[str, int] = {}
    for path in sorted(changed):
        for test, distance in _near(path, tests=tests, imports=imports):
            found[test] = min(distance, found.get(test, NEAR))
    # Of those that are as near, unit tests first: there are more of them in a second.
    return dict(sorted(found.items(), key=lambda one: (one[1], "integration" in one[0], one[0])))


def _near(path: str, *, tests: set[str], imports: dict[str, set[str]]) -> Iterator[tuple[str, int]]:
    if path in tests:
        yield path, CHANGED
    for begins, those in OTHERS.items():
        if path.startswith(begins):
            yield from ((test, NAMED) for test in those if test in tests)
    if path not in imports:
        return
    folder, stem = path.rpartition("/")[0], Path(path).stem
    if stem == "conftest":
        yield from ((test, NEAR) for test in tests if test.startswith(f"{folder}/"))
    importing = {one for one, names in imports.items() if path in names}
    further = {one for one, names in imports.items() if names & importing}
    for test in tests:
        if path.startswith(f"{PACKAGE}/") and _has_the_name(test, path):
            yield test, NAMED
        if test in importing:
            yield test, IMPORTING
        elif test in further:
            yield test, NEAR


def _has_the_name(test: str, path: str) -> bool:
    """Say whether a test is called like a module, or like a module and its package."""
    of_test, parts = Path(test).stem, Path(path).with_suffix("").parts[1:]
    parts = parts[:-1] if parts[-1] == "__init__" else parts
    if not parts:
        return False
    names = {f"test_{parts[-1]}", f"test_{'_'.join(parts)}", f"test_{'_'.join(reversed(parts))}"}
    return any(of_test == name or of_test.startswith(f"{name}_") for name in names)


def _sources(root: Path) -> Iterator[str]:
    for folder in (PACKAGE, "tests"):
        for path in root.joinpath(folder).rglob("*.py"):
            yield path.relative_to(root).as_posix()


def _is_test(path: str) -> bool:
    return path.startswith(FOLDERS) and Path(path).name.startswith("test_")


def _imports(path: str, *, root: Path) -> Iterator[str]:
    """Yield the files that a file imports, as if all modules were the repository's."""
    package = Path(path).parent.parts
    for node in ast.walk(ast.parse((root / path).read_text(encoding="utf-8"))):
        names: Sequence[str] = ()
        if isinstance(node, ast.Import):
            names = [one.name for one in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*above, *([node.module] if node.module else [])])
            names = [module, *(f"{module}.{one.name}" for one in node.names)]
        for name in names:
            yield from (name.replace(".", "/") + end for end in (".py", "/__init__.py"))


class Budget:
    """A plugin of pytest: the nearest tests first, and none begun after the time is over."""

    def __init__(self, order: dict[str, int], *, ends: float) -> None:
        self._places = {path: place for place, path in enumerate(order)}
        self._ends = ends
        self._left: Counter[str] = Counter()

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Sort by file; within one they stay in the order in which they are."""
        items.sort(key=lambda one: self._places.get(_file_of(one), len(self._places)))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        """Leave out the rest when the time is over."""
        if time.monotonic() < self._ends:
            return None
        self._left[_file_of(item)] += 1
        return True

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Name the files that were not run to their end, in their order."""
        if self._left:
            terminalreporter.section(f"{self._left.total()} tests were not begun in time")
            terminalreporter.write_line(" ".join(self._left))


def _file_of(item: pytest.Item) -> str:
    return item.path.relative_to(ROOT).as_posix()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
