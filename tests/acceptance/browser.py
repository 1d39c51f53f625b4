"""A browser that looks at the admin of the example project, with a worker and beat behind it."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.services import REQUIRED

from .harness import PATIENCE, Harness, free_port, until

PASSWORD = "only for tests"
#: axe-core's rules; what is serious or critical keeps somebody from using a page.
GRAVE = {"serious", "critical"}


def need(found: object, what: str) -> None:
    """Skip where something is missing, or fail where everything is required."""
    if not found:
        (pytest.fail if REQUIRED else pytest.skip)(f"needs {what}")


@functools.cache
def axe() -> str:
    """Return the script of axe-core, from npm."""
    need(shutil.which("npm"), "npm, for axe-core")
    folder = Path(tempfile.mkdtemp())
    try:
        ran = subprocess.run(
            ["npm", "install", "--no-audit", "--no-fund", "--silent", "axe-core@4"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=100,
        )
        need(ran.returncode == 0, f"axe-core from npm: {ran.stderr}")
        return (folder / "node_modules/axe-core/axe.min.js").read_text()
    finally:
        shutil.rmtree(folder)


#: Parts of our own pages that have to be scrolled sideways to be read.
BESIDE = """[...document.querySelectorAll(".webhooks-scroll, #content pre")]
    .filter(one => one.scrollWidth > one.clientWidth + 1)
    .map(one => one.textContent.trim().slice(0, 40))"""


class Example:
    """The example project on a harness: its site, a worker and beat."""

    def __init__(self, harness: Harness) -> None:
        self.harness = harness
        port = free_port()
        self.site = f"http://127.0.0.1:{port}"
        self.environment = {
            "DJANGO_SETTINGS_MODULE": "example_project.settings",
            "EXAMPLE_DATA_DIR": str(harness.folder / "example"),
            "DATABASE_URL": harness.database,
            "EXAMPLE_SWEEP_SECONDS": "1",
            "EXAMPLE_CHECK_SECONDS": "1",
            "EXAMPLE_ROLL_UP_SECONDS": "1",
            "WEBHOOKS_HEALTH_HOLD_SECONDS": "2",
            "WEBHOOKS_PROBE_INTERVAL_UNHEALTHY_SECONDS": "1",
            "DEBUG": "1",
            # What the server says is waited for.
            "PYTHONUNBUFFERED": "1",
        }
        self.python(
            "from django.core.management import call_command\n"
            "call_command('migrate', verbosity=0)\n"
            "from django.contrib.auth.models import User\n"
            f"User.objects.create_superuser('ada', password={PASSWORD!r})\n"
        )
        serve = ("manage", "runserver", "--noreload", str(port))
        harness.start(*serve, ready="Quit", **self.environment)
        self.worker()
        celery = ("celery", "-A", "example_project.celery", "beat", "-l", "info", "--pidfile=")
        harness.start(*celery, ready="beat: Starting", **self.environment)

    def worker(self) -> subprocess.Popen[bytes]:
        """Start a worker."""
        celery = ("celery", "-A", "example_project.celery", "worker", "-c", "2", "-l", "info")
        return self.harness.start(
            *celery, "-Q", "webhooks,webhooks-periodic,default", ready="ready.", **self.environment
        )

    def python(self, code: str) -> str:
        """Run code in a process of the project, and return what it prints last."""
        import sys

        ran = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", f"import django; django.setup()\n{code}"],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert ran.returncode == 0, ran.stderr
        return (ran.stdout.splitlines() or [""])[-1]


class Looker:
    """A page of a browser: what it shows, and whether everybody can use it."""

    def __init__(self, page: Any, site: str, shots: Path) -> None:
        self.page, self.site, self.shots = page, site, shots
        self.errors: list[str] = []
        page.set_default_timeout(PATIENCE * 1000)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on(
            "console",
            lambda message: message.type == "error" and self.errors.append(message.text),
        )

    def login(self) -> None:
        """Log in."""
        self.page.goto(f"{self.site}/admin/")
        self.page.fill("#id_username", "ada")
        self.page.fill("#id_password", PASSWORD)
        with self.page.expect_navigation():
            self.page.click("input[type=submit]")

    def go(self, path: str, *, app: str = "django_webhooks") -> None:
        """Open a page of the admin of webhooks."""
        self.page.goto(f"{self.site}/admin/{app}/{path}")

    def see(self, name: str) -> None:
        """Keep a picture, and fail where a page is not for everybody, wide or narrow."""
        self.page.screenshot(path=self.shots / f"{name}.png", full_page=True)
        assert not self.errors, f"{name}: {self.errors}"
        assert "</" not in self.page.inner_text("#content"), f"{name} shows markup"
        # By the protocol of the browser: the policy of the page forbids scripts from elsewhere.
        self.page.evaluate(axe())
        found = self.page.evaluate("async () => (await axe.run()).violations")
        grave = [
            f"{one['id']}: {one['help']}: {[node['html'] for node in one['nodes']][:3]}"
            for one in found
            if one["impact"] in GRAVE
        ]
        assert not grave, f"{name}: {grave}"
        self.page.set_viewport_size({"width": 360, "height": 740})
        width = self.page.evaluate("document.documentElement.scrollWidth")
        self.page.screenshot(path=self.shots / f"{name}-narrow.png", full_page=True)
        beside = self.page.evaluate(BESIDE)
        self.page.emulate_media(color_scheme="dark")
        self.page.screenshot(path=self.shots / f"{name}-narrow-dark.png", full_page=True)
        self.page.emulate_media(color_scheme="light")
        self.page.set_viewport_size({"width": 1280, "height": 900})
        assert not beside, f"{name} has parts that scroll sideways: {beside}"
        assert width <= 360, f"{name} scrolls sideways: {width} px"
        # What axe does to measure is against the policy; the page itself was clean.
        self.errors.clear()

    def press(self, name: str) -> None:
        """Reach a button or a link by the keyboard alone, and press it."""
        self.page.evaluate("document.activeElement.blur(); window.scrollTo(0, 0)")
        for _ in range(150):
            self.page.keyboard.press("Tab")
            reached = self.page.evaluate(
                "(document.activeElement.value || document.activeElement.textContent).trim()"
            )
            if reached == name:
                self.page.keyboard.press("Enter")
                self.page.wait_for_load_state()
                return
        raise AssertionError(f"{name} is not reached by the keyboard")

    def wait_for(self, text: str) -> None:
        """Wait until the page shows a text by itself."""
        self.page.get_by_text(text).first.wait_for()

    def until(self, path: str, text: str) -> None:
        """Open a page again and again until it shows a text."""

        def shows() -> bool:
            self.go(path)
            return text in self.page.content()

        until(shows, f"{path} shows {text!r}")


@contextmanager
def looking(site: str, shots: Path, **options: Any) -> Iterator[Looker]:
    """Yield somebody who looks, by Debian's Chromium."""
    need(shutil.which("chromium"), "chromium")
    with contextlib.suppress(ImportError):
        from playwright import sync_api

        shots.mkdir(parents=True, exist_ok=True)
        with sync_api.sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox"]
            )
            page = browser.new_page(viewport={"width": 1280, "height": 900}, **options)
            try:
                yield Looker(page, site, shots)
            finally:
                page.screenshot(path=shots / "last.png", full_page=True)
                browser.close()
        return
    need(False, "playwright")
