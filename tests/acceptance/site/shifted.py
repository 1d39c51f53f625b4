"""A module run by a clock that is wrong: ``python -m tests.acceptance.site.shifted SECONDS …``.

All that tells the time of day is shifted, in C too; processes forked from it have the same clock.
The monotonic clock is right, as it is on a machine whose time of day is wrong.
"""

from __future__ import annotations

import datetime
import runpy
import sys

import time_machine


def main() -> None:
    """Shift the clock, and run the module with the arguments that follow."""
    seconds, module = float(sys.argv[1]), sys.argv[2]
    time_machine.travel(datetime.timedelta(seconds=seconds), tick=True).start()
    sys.argv = sys.argv[2:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
