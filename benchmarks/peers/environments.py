"""Virtual environments of the compared apps, made once and kept."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks import testbed

#: Installed beside each of them, where it asks for nothing else.
OTHERS = ("celery[redis]", "psycopg[binary]")
#: Seconds that an installation may take.
PATIENCE = 300


class NotInstalled(Exception):
    """It cannot be installed; the message says why."""


def python_of(distribution: str, *, folder: Path, pythons: str) -> Path:
    """Return the interpreter of an environment that has it, made where there is none.

    The versions of Python are tried in turn: this one, then those whose paths ``pythons`` holds.
    """
    home = folder / distribution
    python = home / "bin" / "python"
    if (home / "installed").exists() and python.exists():
        return python
    why = ""
    for base in [sys.executable, *filter(None, pythons.split(","))]:
        testbed.note(f"installing {distribution} with {base}")
        shutil.rmtree(home, ignore_errors=True)
        subprocess.run([base, "-m", "venv", home], check=True, timeout=PATIENCE)
        command = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        ran = subprocess.run(
            [*command, distribution, *OTHERS], capture_output=True, text=True, timeout=PATIENCE
        )
        if ran.returncode == 0:
            (home / "installed").touch()
            return python
        errors = [line for line in ran.stderr.splitlines() if line.startswith("ERROR")]
        why = (errors or ran.stderr.splitlines()[-1:] or ["pip failed"])[0]
    raise NotInstalled(why)
