"""The processes of the demo: a site, a Celery worker and beat, started and stopped together."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

#: Seconds that the processes may take to start.
PATIENCE = 60


class DemoFailed(Exception):
    """The demo cannot go on, and why."""


class Processes:
    """Child processes with a log file each."""

    def __init__(self, *, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder, self.environment = folder, environment
        self.children: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, *arguments: str) -> None:
        """Start a Python module in a session of its own, so that Ctrl-C reaches only the demo."""
        with self.log(name).open("wb") as log:
            self.children[name] = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", *arguments],
                env={**os.environ, **self.environment},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def stop(self) -> None:
        """Ask all of them to end, and see that they do, however often we are told to hurry."""
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, signal.SIG_IGN)
        for child in self.children.values():
            if child.poll() is None:
                child.terminate()
        for child in self.children.values():
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait(5)

    def check(self) -> None:
        """Raise DemoFailed where a process has ended."""
        for name, child in self.children.items():
            if child.poll() is not None:
                raise DemoFailed(f"The {name} ended with {child.returncode}.")

    def log(self, name: str) -> Path:
        """Return where the output of a process is."""
        return self.folder / f"{name}.log"

    def wait_for_text(self, name: str, text: str) -> None:
        """Wait until a process has printed the text."""
        ends = time.monotonic() + PATIENCE
        while text not in self.log(name).read_text(errors="replace"):
            self.check()
            if time.monotonic() > ends:
                raise DemoFailed(f"The {name} did not start within {PATIENCE} s.")
            time.sleep(0.1)

    def wait_for_site(self, url: str) -> None:
        """Wait until the site answers."""
        ends = time.monotonic() + PATIENCE
        while True:
            self.check()
            try:
                urlopen(url, timeout=2).close()
                return
            except OSError as error:
                if time.monotonic() > ends:
                    raise DemoFailed(f"The site did not start: {error}") from error
                time.sleep(0.1)


@contextmanager
def running(*, folder: Path, port: int, environment: Mapping[str, str]) -> Iterator[Processes]:
    """Run site, worker and beat, ready to work, and stop them at the end."""
    processes = Processes(folder=folder, environment=environment)
    celery = ["celery", "-A", "example_project"]
    try:
        processes.start("site", "django", "runserver", "--noreload", f"127.0.0.1:{port}")
        processes.start(
            "worker",
            *celery,
            "worker",
            "-c",
            "2",
            "-Q",
            "default,webhooks,webhooks-periodic",
            "-l",
            "info",
        )
        processes.start("beat", *celery, "beat", "-l", "info", "--pidfile=")
        processes.wait_for_text("worker", "ready.")
        processes.wait_for_text("beat", "beat: Starting")
        processes.wait_for_site(f"http://127.0.0.1:{port}/admin/login/")
        yield processes
    finally:
        processes.stop()


def free_port() -> int:
    """Return a port on loopback that nothing listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    return port
