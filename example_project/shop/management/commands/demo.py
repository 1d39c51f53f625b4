"""``manage.py demo``: run the main job for real, in seconds."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management import BaseCommand, CommandError, call_command

#: What the demo sets, so that it takes seconds.
FAST = {
    "EXAMPLE_SWEEP_SECONDS": "2",
    "WEBHOOKS_RETRY_BASE_SECONDS": "0.5",
    "WEBHOOKS_RETRY_FACTOR": "2",
    "EXAMPLE_CHECK_SECONDS": "1",
    "WEBHOOKS_HEALTH_HOLD_SECONDS": "3",
    "WEBHOOKS_PROBE_INTERVAL_UNHEALTHY_SECONDS": "1",
}


class Command(BaseCommand):
    """Start a site, a worker, beat and receivers; send, fail, retry, fail over, replay; account."""

    help = "Run the main job for real: model saves, signed HTTP, retries, failover, replay."
    requires_system_checks: list[str] = []  # as Django declares it

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take --serve."""
        parser.add_argument(
            "--serve", action="store_true", help="Keep all running to look around in the admin."
        )

    def handle(self, *, serve: bool, **options: Any) -> None:
        """Run the demo in a folder of its own."""
        # Ended like by Ctrl-C, so that no process is left behind.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        if "EXAMPLE_DATA_DIR" not in os.environ:
            # Settings are read before a command runs, so begin again with a fresh folder.
            with tempfile.TemporaryDirectory(prefix="django-webhooks-demo-") as folder:
                self._begin_again(folder, serve=serve)
            return
        from django_webhooks import signing
        from example_project.demo.processes import DemoFailed, free_port, running
        from example_project.demo.receiver import Receiver
        from example_project.demo.scenario import Scenario

        began, lock = time.monotonic(), threading.Lock()

        def tell(line: str) -> None:
            with lock:
                prefix = f"{time.monotonic() - began:5.1f} s" if line.startswith("    ") else ""
                self.stdout.write(f"{prefix}{line}")
                # Through a pipe it would all be seen at the end.
                self.stdout.flush()

        tell("Starting a site, a Celery worker, beat and a receiver …")
        call_command("migrate", verbosity=0)
        folder, port = Path(os.environ["EXAMPLE_DATA_DIR"]), free_port()
        receiver = Receiver(secret=signing.generate_secret(), tell=tell)
        backup = Receiver(secret=receiver.secret, tell=tell, name="backup ")
        processes = None
        try:
            with running(folder=folder, port=port, environment=FAST) as processes:
                scenario = Scenario(
                    site=f"http://127.0.0.1:{port}/",
                    receiver=receiver,
                    backup=backup,
                    processes=processes,
                    tell=tell,
                )
                scenario.run()
                tell("\nEvery event arrived, signed and accounted for.")
                if serve:
                    self._serve(port)
        except DemoFailed as error:
            logs = "\n".join(
                f"--- {path.name}\n{path.read_text(errors='replace')[-2000:]}"
                for path in sorted(folder.glob("*.log"))
            )
            raise CommandError(f"{logs}\nThe demo failed: {error}") from error
        finally:
            receiver.close()
            backup.close()

    def _begin_again(self, folder: str, *, serve: bool) -> None:
        import subprocess
        import sys

        command = [sys.executable, sys.argv[0], "demo", *(["--serve"] if serve else [])]
        environment = {**os.environ, **FAST, "EXAMPLE_DATA_DIR": folder}
        process = subprocess.Popen(command, env=environment)
        try:
            code = process.wait()
        except KeyboardInterrupt:
            # After Ctrl-C the child knows already, and stops its processes.
            process.terminate()
            code = process.wait()
        if code:
            raise CommandError("The demo failed.", returncode=code)

    def _serve(self, port: int) -> None:
        from django.contrib.auth import get_user_model

        user, _ = get_user_model().objects.get_or_create(
            username="admin", defaults={"is_staff": True, "is_superuser": True}
        )
        user.set_password("admin")
        user.save()
        self.stdout.write(
            f"\nThe admin is at http://127.0.0.1:{port}/admin/ (admin / admin). Ctrl-C ends it all."
        )
        try:
            while True:
                time.sleep(1)
        except KeyboardInterrupt:
            self.stdout.write("Stopping.")
