"""The admin as staff use it: a real browser, a real server, a real worker and real receivers."""

from __future__ import annotations

import json
import os
import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import requests

from tests.receivers import Answer, Receiver

from .browser import PASSWORD, Example, looking
from .harness import PATIENCE, Harness, postgres_database, until

pytestmark = [pytest.mark.acceptance, pytest.mark.browser, pytest.mark.postgres]


@pytest.fixture
def example(tmp_path):
    with postgres_database() as database:
        harness = Harness(tmp_path, database=database, broker="memory://")
        (tmp_path / "example").mkdir()
        try:
            yield Example(harness)
        finally:
            harness.close()


@pytest.fixture
def shots(tmp_path):
    return Path(os.environ.get("ADMIN_SCREENSHOTS", tmp_path / "screenshots"))


#: Pixels by which the list of a page is wider than its frame.
BESIDE_ITS_FRAME = """(frame => frame.scrollWidth - frame.clientWidth)(
    document.querySelector(".results"))"""


@pytest.mark.timeout(600)
def test_a_day_with_an_outage(example, shots):
    primary, backup = Receiver(), Receiver()
    with looking(example.site, shots, timezone_id="Asia/Dubai") as staff:
        staff.login()
        page = staff.page

        staff.go("overviewpage/")
        assert "There is no subscription yet" in page.content()
        staff.see("overview-empty")
        staff.go("delivery/")
        staff.see("deliveries-empty")

        # A subscription with two endpoints, that gives up at once.
        staff.go("subscription/add/")
        page.fill("#id_name", "Warehouse")
        page.get_by_placeholder("Search").fill("order.c")
        assert not page.get_by_label("order.deleted").is_visible()
        page.get_by_label("order.created").check()
        page.fill("#id_retry_attempts", "1")
        page.fill("#id_endpoints-0-url", primary.url)
        page.get_by_role("link", name=re.compile("Add another Endpoint", re.I)).or_(
            page.get_by_role("button", name=re.compile("Add another Endpoint", re.I))
        ).click()
        page.fill("#id_endpoints-1-url", backup.url)
        page.fill("#id_endpoints-1-position", "1")
        staff.see("subscription-add")
        page.click("input[name=_continue]")
        staff.wait_for("Nothing was delivered yet")
        staff.see("subscription")
        subscription = re.search(r"/([0-9a-f-]{36})/change/", page.url)[1]

        # A test event arrives.
        staff.press("Send a test event")
        page.wait_for_load_state()
        page.get_by_label("Event type").select_option("order.created")
        page.wait_for_url(re.compile("event_type=order.created"))
        page.get_by_label("Data").fill('{"id": 77}')
        staff.see("test-event")
        page.get_by_role("button", name="Send").click()
        staff.wait_for("Arrived at")
        staff.see("delivery-arrived")
        assert json.loads(primary.requests[0].body)["data"] == {"id": 77}

        # The receivers break; what is created meanwhile is given up. Their health checks fail as
        # well, so that they stay unhealthy until they are mended, and on trial until the replay.
        failed = 3
        example.python(
            "from django_webhooks.models import Endpoint, Subscription\n"
            "for one in Endpoint.objects.all():\n"
            "    one.probe, one.health_url = Endpoint.ProbeKind.HTTP, one.url\n"
            "    one.save()\n"
            "Subscription.objects.create(name='Dead shop').disable('It failed for days.')\n"
        )
        staff.until("overviewpage/?range=1h", "It failed for days.")
        primary.answers = backup.answers = [Answer(500, body=b"<b>no<b>")]
        primary.health = backup.health = 500
        for number in range(failed):
            order = {"number": f"A-{number}"}
            requests.post(
                f"{example.site}/orders/", json=order, timeout=PATIENCE
            ).raise_for_status()
        # Beside the test event: each order at both, which then have failed often enough.
        until(
            lambda: len(primary.requests + backup.requests) == 1 + 2 * failed,
            "the orders were not attempted",
        )
        staff.until("overviewpage/?range=1h", "Unhealthy (http_500)")
        staff.until("overviewpage/?range=1h", "not arrived since")
        staff.see("overview-outage")
        page.emulate_media(color_scheme="dark")
        staff.see("overview-dark")
        page.emulate_media(color_scheme="light")
        staff.go("endpoint/")
        staff.see("endpoints")

        # The receivers are well again; the failed ones are replayed.
        primary.answers, backup.answers = [Answer(204)], [Answer(204)]
        primary.health = backup.health = 204
        staff.until("overviewpage/?range=1h", "On trial")
        staff.until("delivery/?status=given_up", f"{failed} deliveries")
        assert page.locator("#result_list tbody tr").count() == failed
        staff.see("deliveries")
        page.check("#action-toggle")
        page.select_option("select[name=action]", "replay_deliveries")
        with page.expect_navigation():
            page.click("button[name=index]")
        assert f"{failed} deliveries are over" in page.content().replace("<strong>", "").replace(
            "</strong>", ""
        )
        page.get_by_label("Reason").fill("the warehouse was down")
        staff.see("replay")
        # Moments are entered by the clock of the browser, four hours ahead of UTC.
        assert page.locator(".webhooks-zone").inner_text() == "Asia/Dubai"
        soon = datetime.now(UTC) + timedelta(hours=1)
        for hours, count in ((4, failed), (-4, 0)):
            entered = f"{soon + timedelta(hours=hours):%Y-%m-%dT%H:%M:%S}"
            page.get_by_label("Recorded before").fill(entered)
            with page.expect_navigation():
                page.get_by_role("button", name="Count again").click()
            assert f"<strong>{count}</strong>" in page.content()
            assert page.get_by_label("Recorded before").input_value() == entered
        page.get_by_label("Recorded before").fill("")
        with page.expect_navigation():
            page.get_by_role("button", name="Count again").click()
        page.get_by_role("button", name="Begin the replay").click()
        staff.wait_for(f"{failed} of {failed} done")
        page.wait_for_selector("[data-webhooks-live]", state="detached")
        # The page is being loaded again.
        staff.wait_for(f"Succeeded {failed}")
        staff.see("replay-done")
        bodies = [
            json.loads(one.body) for one in primary.requests + backup.requests if one.answer.takes
        ]
        numbers = {one["data"].get("number") for one in bodies} - {None}
        assert numbers == {f"A-{number}" for number in range(failed)}

        # A failed delivery tells its story.
        staff.go("delivery/?status=given_up")
        page.locator("#result_list tbody tr a").first.click()
        page.get_by_text("Request and answer").first.click()
        page.get_by_text("Copy as curl").click()
        assert "<b>no<b>" in page.locator("#webhooks-live").inner_text()
        assert "webhook-signature: v1," in page.locator("#webhooks-curl").inner_text()
        staff.see("delivery-failed")

        # A key is rotated, and shown once.
        staff.go(f"subscription/{subscription}/change/")
        page.get_by_role("link", name="Rotate the signing key").click()
        staff.see("rotate")
        page.get_by_role("button", name="Rotate").click()
        secret = page.locator("#webhooks-key-1").inner_text()
        assert secret.startswith("whsec_")
        page.reload()
        assert secret not in page.content()

        # The backup is pinned, and gets what comes.
        staff.go(f"subscription/{subscription}/change/")
        page.get_by_role("link", name="Pin an endpoint").click()
        page.get_by_label("Endpoint").select_option(index=1)
        page.get_by_label("Reason").fill("the primary moves house")
        staff.see("pin")
        staff.press("Pin")
        staff.wait_for("Pinned. Everything goes there now.")
        before = len(backup.requests)
        requests.post(f"{example.site}/orders/", json={"number": "B-1"}, timeout=PATIENCE)
        until(lambda: len(backup.requests) > before, "the backup got it")
        staff.see("subscription-pinned")
        staff.go("auditentry/", app="django_webhooks_auditing")
        staff.see("auditentry")
        for path in ("switch/", "bulkreplay/", "attempt/", "event/"):
            staff.go(path)
            beside = page.evaluate(BESIDE_ITS_FRAME)
            assert beside <= 1, f"{path} is {beside} px wider than its frame"
            staff.see(path.strip("/"))
    primary.close()
    backup.close()


def session(example):
    """Log in without a browser."""
    staff = requests.Session()
    login = f"{example.site}/admin/login/"
    staff.get(login, timeout=PATIENCE)
    token = staff.cookies["csrftoken"]
    data = {"username": "ada", "password": PASSWORD, "csrfmiddlewaretoken": token}
    staff.post(f"{login}?next=/admin/", data=data, timeout=PATIENCE).raise_for_status()
    return staff


def begin(example, staff, *, rate):
    """Begin a replay of all that was given up; return its address and how long that took."""
    address = f"{example.site}/admin/django_webhooks/bulkreplay/add/?status=given_up"
    form = staff.get(address, timeout=PATIENCE).text
    data = dict(re.findall(r'name="(csrfmiddlewaretoken|token)" value="([^"]+)"', form))
    data |= {"status": "given_up", "rate": rate, "reason": "ten thousand", "begin": "1"}
    began = time.monotonic()
    answer = staff.post(address, data=data, timeout=PATIENCE, allow_redirects=False)
    took = time.monotonic() - began
    # A second click.
    again = staff.post(address, data=data, timeout=PATIENCE, allow_redirects=False)
    assert answer.headers["location"] == again.headers["location"]
    return example.site + answer.headers["location"], took


SEED = """
from django_webhooks import times
from django_webhooks.models import *
from django_webhooks.sending import wire
s, new = Subscription.objects.get_or_create(name="many")
if new:
    Endpoint.objects.create(subscription=s, url={url!r})
now = times.now()
kind = "order.created"
events = [
    Event(type=kind, body=wire.serialise(kind, {{"n": n}}, recorded_at=now), fan_out=None)
    for n in range({count})
]
Event.objects.bulk_create(events, batch_size=1000)
Delivery.objects.bulk_create(
    [
        Delivery(event=e, subscription=s, status="given_up", reason="http_500", finished_at=now)
        for e in events
    ],
    batch_size=1000,
)
"""
COUNT = 10_000
#: Deliveries that a replay releases in a second: ten seconds for all.
RATE = 1000


def progress(staff, address):
    """Return how many are done, and whether it moves still."""
    page = staff.get(address, timeout=PATIENCE).text
    return int(re.search(r"(\d+) of \d+ done", page)[1]), "data-webhooks-live" in page


@pytest.mark.timeout(600)
def test_ten_thousand_are_replayed_from_the_admin(example):
    receiver = Receiver()
    example.python(SEED.format(url=receiver.url, count=COUNT))
    staff = session(example)

    address, took = begin(example, staff, rate=RATE)
    seen = []
    while not seen or seen[-1] < COUNT:
        done, _ = progress(staff, address)
        seen.append(done)
        time.sleep(0.3)
    until(lambda: not progress(staff, address)[1], "all have been sent", seconds=120)

    ids = [one.headers["webhook-id"] for one in receiver.requests]
    print(f"\nThe request took {took:.2f} s; progress: {sorted(set(seen))}")
    # Who waited for the replay would wait for twice as long.
    assert took < COUNT / RATE / 2
    assert len(set(seen)) >= 3
    assert len(set(ids)) == COUNT
    assert len(ids) == COUNT
    receiver.close()


@pytest.mark.timeout(600)
def test_a_worker_killed_in_the_middle_of_a_replay_is_gone_on_from(example):
    receiver = Receiver()
    count = 3000
    example.python(SEED.format(url=receiver.url, count=count))
    staff = session(example)
    worker = example.harness.children[1]

    address, _ = begin(example, staff, rate=500)
    until(lambda: progress(staff, address)[0] >= 1000, "a third is done")
    example.harness.stop(worker, 9)
    example.worker()
    until(lambda: progress(staff, address) == (count, False), "all was sent", seconds=150)

    ids = [one.headers["webhook-id"] for one in receiver.requests]
    print(f"\n{len(ids) - len(set(ids))} requests were repeated, which were under way")
    assert len(set(ids)) == count
    # What a killed worker had under way may have arrived: two processes, each with a window.
    assert len(ids) - len(set(ids)) <= 2 * 100
    receiver.close()
