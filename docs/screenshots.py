"""Make the screenshots of the documentation: ``python docs/screenshots.py [FOLDER]``.

It fills a database of its own with what an outage leaves behind, starts the example project on
loopback, and looks at its admin with Debian's Chromium. Needs ``playwright`` and ``chromium``.
"""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

PASSWORD = "screenshots"
WIDE, NARROW = {"width": 1440, "height": 900}, {"width": 360, "height": 740}


def fill() -> dict[str, str]:
    """Make rows that look like a day with an outage; return the addresses of pages."""
    from django.contrib.auth.models import User

    from django_webhooks import times
    from django_webhooks.fields import uuid7_at
    from django_webhooks.models import (
        Attempt,
        Delivery,
        Endpoint,
        EndpointHealth,
        Event,
        Subscription,
        Switch,
    )
    from django_webhooks.models.figures.heartbeat import Heartbeat
    from django_webhooks.sending import wire
    from django_webhooks.sending.figures import rollups

    chance = random.Random(7)
    now = times.now()
    User.objects.create_superuser("ada", password=PASSWORD)
    made: dict[str, Subscription] = {}
    for name, hosts in {
        "Warehouse": ("https://hooks.warehouse.example", "https://backup.warehouse.example"),
        "CRM": ("https://crm.example",),
    }.items():
        made[name] = Subscription(name=name, event_types=["order.*"])
        made[name].save()
        for position, host in enumerate(hosts):
            Endpoint.objects.create(subscription=made[name], url=f"{host}/in", position=position)
    crm = made["CRM"].endpoints.get()
    primary, backup = made["Warehouse"].endpoints.order_by("position")
    fell = now - timedelta(minutes=70)
    for minutes in range(24 * 60, 0, -4):
        at = now - timedelta(minutes=minutes)
        for name, subscription in made.items():
            key = uuid7_at(at).int + chance.getrandbits(60)
            body = wire.serialise(
                "order.paid",
                {"id": minutes, "number": f"A-{minutes}", "total": "19.90"},
                recorded_at=at,
            )
            event = Event.objects.create(
                id=_uuid(key), type="order.paid", body=body, created_at=at, fan_out=None
            )
            is_down = at > fell and name == "CRM"
            delivery = Delivery.objects.create(
                id=_uuid(key + 1),
                event=event,
                subscription=subscription,
                created_at=at,
                status="given_up" if is_down else "succeeded",
                reason="http_503" if is_down else "",
                attempts_made=3 if is_down else 1,
                finished_at=at + timedelta(seconds=chance.expovariate(2)),
                due_at=None,
            )
            endpoint = crm if name == "CRM" else (backup if at > fell else primary)
            for number in range(1, delivery.attempts_made + 1):
                Attempt.objects.create(
                    id=_uuid(key + 1 + number),
                    delivery=delivery,
                    endpoint=endpoint,
                    endpoint_host=endpoint.host,
                    number=number,
                    started_at=at + timedelta(seconds=7 * (number - 1)),
                    duration_ms=int(chance.lognormvariate(4.2, 0.6)),
                    outcome="retry" if is_down else "succeeded",
                    reason="http_503" if is_down else "",
                    status_code=503 if is_down else 204,
                    response_headers={"retry-after": "5"} if is_down else {},
                    response_body="Back soon." if is_down else "",
                )
    EndpointHealth.objects.filter(endpoint=primary).update(
        state="unhealthy",
        failing_since=fell,
        since=fell,
        reason="timeout",
        is_active=None,
        hold_until=now + timedelta(minutes=2),
        probed_at=now,
    )
    EndpointHealth.objects.filter(endpoint=backup).update(is_active=True, succeeded_at=now)
    Switch.objects.create(
        subscription=made["Warehouse"],
        from_endpoint=primary,
        to_endpoint=backup,
        from_host=primary.host,
        to_host=backup.host,
        cause="failover",
        reason="timeout",
        created_at=fell,
    )
    rollups.count()
    for name in ("sweep", "check_health"):
        Heartbeat.objects.beat(name)
    lost = Delivery.objects.filter(status="given_up").first()
    assert lost is not None
    return {
        "overview": "django_webhooks/overviewpage/",
        "deliveries": "django_webhooks/delivery/?status=given_up",
        "delivery": f"django_webhooks/delivery/{lost.pk}/change/",
        "replay": "django_webhooks/bulkreplay/add/?status=given_up&finished=24h",
        "subscription": f"django_webhooks/subscription/{made['Warehouse'].pk}/change/",
        "endpoints": "django_webhooks/endpoint/",
    }


def shoot(page: Any, site: str, pages: dict[str, str], folder: Path) -> None:
    """Log in, and take a picture of each page."""
    page.goto(f"{site}/admin/")
    page.fill("#id_username", "ada")
    page.fill("#id_password", PASSWORD)
    page.click("input[type=submit]")
    for name, path in pages.items():
        page.goto(f"{site}/admin/{path}")
        page.wait_for_load_state("networkidle")
        page.screenshot(path=folder / f"{name}.png", full_page=name in ("overview", "delivery"))


def main(folder: Path) -> None:
    """Make them all."""
    from playwright.sync_api import sync_playwright

    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as data, socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
        free.close()
        os.environ |= {
            "EXAMPLE_DATA_DIR": data,
            "DJANGO_SETTINGS_MODULE": "example_project.settings",
        }
        import django
        from django.core.management import call_command

        django.setup()
        call_command("migrate", verbosity=0)
        pages = fill()
        server = subprocess.Popen(
            [sys.executable, str(ROOT / "manage.py"), "runserver", "--noreload", str(port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _wait(port)
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(
                    executable_path=shutil.which("chromium"), args=["--no-sandbox"]
                )
                page = browser.new_page(viewport=WIDE, color_scheme="light")
                shoot(page, f"http://127.0.0.1:{port}", pages, folder)
                browser.close()
        finally:
            server.terminate()
            server.wait(10)
    print(f"{len(pages)} screenshots in {folder}")


def _wait(port: int) -> None:
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("The example project did not start.")


def _uuid(value: int) -> Any:
    import uuid

    return uuid.UUID(int=value)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images")
