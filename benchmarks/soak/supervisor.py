"""The crew: the processes, started again when they end, as a supervisor would."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.acceptance.harness import free_port

from .services import Services

#: Processes of the pool of one worker.
POOL = 2
WORKERS = ("witness", "worker")


class Supervisor:
    """The web process, two workers and a beat; the witness alone is never killed."""

    def __init__(self, stack: Services) -> None:
        self.stack, self.harness = stack, stack.harness
        port = free_port()
        self.harness.site = f"http://127.0.0.1:{port}/"
        self._starts: dict[str, Callable[[], subprocess.Popen[bytes]]] = {
            "web": lambda: self.harness.serve(port, wait=False),
            "witness": lambda: self.harness.worker(concurrency=POOL, wait=False),
            "worker": lambda: self.harness.worker(concurrency=POOL, wait=False),
            "beat": lambda: self.harness.beat(wait=False),
        }
        self.members = {name: start() for name, start in self._starts.items()}
        self._absent: set[str] = set()
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._supervise, daemon=True)

    def __enter__(self) -> Supervisor:
        self._thread.start()
        return self

    def __exit__(self, *args: object) -> None:
        self._ending.set()
        self._thread.join(30)

    @property
    def processes(self) -> int:
        """How many processes send."""
        return POOL * len(WORKERS)

    def pid(self, name: str) -> int:
        """Return the process that has a task."""
        with self._lock:
            return self.members[name].pid

    def pool(self, name: str) -> list[int]:
        """Return the processes of a worker's pool."""
        with self._lock:
            return self.harness.descendants(self.members[name])

    def signal(self, name: str, signum: int) -> None:
        """Signal a member; kill, stop and continue its pool as well."""
        with contextlib.suppress(ProcessLookupError):
            if signum == signal.SIGTERM:
                os.kill(self.pid(name), signum)
            else:
                os.killpg(self.pid(name), signum)

    def absent(self, name: str, *, is_absent: bool) -> None:
        """Do not start a member again for now, or do."""
        (self._absent.add if is_absent else self._absent.discard)(name)

    def double(self, name: str) -> subprocess.Popen[bytes]:
        """Start one more of a kind, which nobody starts again."""
        return self._starts[name]()

    def mend(self) -> None:
        """Have everybody there, awake."""
        self._absent.clear()
        for name in self.members:
            self.signal(name, signal.SIGCONT)

    def measure(self) -> list[dict[str, Any]]:
        """Return memory and open files of the processes of the witness's pool."""
        return [
            {"pid": pid, "rss_mib": _rss(pid), "files": len(os.listdir(f"/proc/{pid}/fd"))}
            for pid in self.pool("witness")
        ]

    def _supervise(self) -> None:
        while not self._ending.wait(0.3):
            for name, child in list(self.members.items()):
                if child.poll() is not None and name not in self._absent:
                    # Its pool may outlive it for a moment.
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(child.pid, signal.SIGKILL)
                    time.sleep(0.2)
                    with self._lock:
                        self.members[name] = self._starts[name]()


def _rss(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    kib = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))
    return round(int(kib) / 1024, 1)
