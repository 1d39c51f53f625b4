"""What operators watch, by real processes: metrics of forked workers, and a trace across them."""

from __future__ import annotations

import json
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.receivers import Answer

from .conftest import REDIS, SQLITE
from .harness import free_port, until
from .patience import PATIENT

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300), pytest.mark.stacks(SQLITE, REDIS)]
TOKEN = "a-token-of-more-than-16"


def scrape(url, token=""):
    request = Request(url, headers={"Authorization": f"Bearer {token}"})
    with urlopen(request, timeout=30) as answer:
        text = answer.read().decode()
    return {
        (one.name.removeprefix("django_webhooks_"), *sorted(one.labels.values())): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


def test_metrics_of_all_processes_of_a_prefork_worker_and_of_the_site(harness, receiver, tmp_path):
    receiver.answers = [Answer(503), Answer(204)]
    folder = tmp_path / "metrics"
    folder.mkdir()
    shared = {"PROMETHEUS_MULTIPROC_DIR": str(folder)}
    harness.settings = {**PATIENT, "WEBHOOKS_METRICS": True, "WEBHOOKS_METRICS_TOKEN": TOKEN}
    harness.subscribe(receiver.url)
    port = free_port()
    harness.worker(concurrency=2, ACCEPTANCE_METRICS_PORT=str(port), **shared)
    harness.web(**shared)
    count = 12

    for number in range(count):
        harness.ask(f"thing {number}")

    until(lambda: harness.statuses() == {"succeeded": count}, "not everything arrived")
    url = f"http://127.0.0.1:{port}/metrics"
    counted = {
        ("events_total",): count,
        ("deliveries_total",): count,
        ("attempts_total", "http_503", "retry"): 1,
        ("attempts_total", "", "succeeded"): count,
        ("deliveries_succeeded_total",): count,
        ("event_to_arrival_seconds_count",): count,
    }
    # A signal follows its commit.
    until(lambda: counted.items() <= scrape(url).items(), "counters are short")
    worker, site = scrape(url), scrape(f"{harness.site}webhooks/metrics", TOKEN)
    with pytest.raises(HTTPError, match="401"):
        scrape(f"{harness.site}webhooks/metrics")
    # Both tell what all processes that share the folder have counted; the site tells the rows too.
    for found in (worker, site):
        assert counted.items() <= found.items()
    assert ("database_up",) not in worker
    assert (site["database_up",], site["deliveries_due",]) == (1, 0)
    assert site["heartbeat_age_seconds", "deliver"] < 60


def test_a_trace_goes_from_the_site_through_the_worker_to_the_receiver(harness, receiver, tmp_path):
    file = tmp_path / "spans"
    harness.settings = {**PATIENT, "WEBHOOKS_SEND_TRACEPARENT": True}
    harness.subscribe(receiver.url)
    harness.worker(ACCEPTANCE_SPANS=str(file))
    harness.web(ACCEPTANCE_SPANS=str(file))

    harness.ask("thing")

    def spans():
        text = file.read_text() if file.exists() else ""
        # The last line may be half there.
        lines = text.rpartition("\n")[0].splitlines()
        return {span["name"]: span for span in map(json.loads, lines)}

    names = ("emit thing.created", "deliver thing.created", "attempt")
    until(lambda: spans().keys() >= set(names), "there are not all spans of a delivery")
    emit, deliver, sent = (spans()[name] for name in names)
    assert deliver["parent_id"] == emit["context"]["span_id"]
    assert sent["parent_id"] == deliver["context"]["span_id"]
    [request] = receiver.requests
    _, trace_id, span_id, _ = request.headers["traceparent"].split("-")
    assert {f"0x{trace_id}"} == {one["context"]["trace_id"] for one in (emit, deliver, sent)}
    assert f"0x{span_id}" == sent["context"]["span_id"]
    assert "tracestate" not in request.headers
