"""What one bad endpoint of ten costs the other nine, beside the same run without it.

    python -m benchmarks.isolation [--seconds 20] [--rate 200] [--runs 3] [--concurrency 4] [--json]

Ten subscriptions hear a steady traffic in turns, of which one's receiver is dead (connections are
refused), is a black hole (takes requests and never answers), answers after 5 s, or drips a byte now
and then. Before each such run there is one in which all ten are well. Tells the time from commit to
arrival at the nine, from the first event on, so with the time before anybody knew.
"""

from __future__ import annotations

import contextlib
import socket
import statistics
from collections.abc import Iterator
from typing import Any

from benchmarks import testbed, traffic

RECEIVERS = 10
#: How the tenth receiver is bad, by how its line is named.
KINDS = {"dead": "", "black hole": "hang", "answers after 5 s": "slow 5", "drips": "drip"}
LIMIT_SECONDS = 60


def measure(manner: str | None, *, seconds: int, rate: int, concurrency: int) -> list[float]:
    """Run the traffic with a tenth receiver of that manner; return the delays of the nine."""
    testbed.clear()
    going = traffic.Traffic(rate=rate, receivers=RECEIVERS)
    with (
        testbed.worker(concurrency=concurrency),
        testbed.beat(),
        testbed.logging_receiver(ports=RECEIVERS - 1) as good,
        _bad(manner) as url,
    ):
        traffic.subscribe([*good.urls, url])
        going.run(seconds)
        nine = {key: one for key, one in going.sent.items() if one.who != RECEIVERS - 1}
        left = traffic.wait_for(lambda: nine.keys() - good.first_moments().keys(), LIMIT_SECONDS)
        if left:
            raise SystemExit(f"{left} events of healthy endpoints have not arrived.")
        return traffic.delays(nine, good.first_moments())


@contextlib.contextmanager
def _bad(manner: str | None) -> Iterator[str]:
    if manner == "":
        with socket.socket() as deaf:
            # Bound, so that nobody else takes it, and not listening: refused.
            deaf.bind(("127.0.0.1", 0))
            yield f"http://127.0.0.1:{deaf.getsockname()[1]}/hook"
        return
    with testbed.logging_receiver(manner=manner or "ok") as bad:
        yield bad.urls[0]


def main() -> dict[str, Any]:
    """Run the benchmark and print its table or JSON."""
    options = testbed.options(__doc__, seconds=20, rate=200, runs=3, concurrency=4)
    testbed.prepare()
    given = {name: getattr(options, name) for name in ("seconds", "rate", "concurrency")}
    found: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
    for _ in range(options.runs):
        for kind, manner in KINDS.items():
            before, during = measure(None, **given), measure(manner, **given)
            found[kind].append(
                {
                    f"{when}_{name}": testbed.percentile(values, share)
                    for when, values in (("without", before), ("with", during))
                    for name, share in (("p50", 0.5), ("p99", 0.99))
                }
            )
    testbed.clear()
    result: dict[str, Any] = {**given, "runs": options.runs}
    rows = []
    for kind, runs in found.items():
        one = {name: round(statistics.median(run[name] for run in runs), 1) for name in runs[0]}
        ratio = statistics.median(run["with_p99"] / run["without_p99"] for run in runs)
        result[kind] = {"ratio_p99": round(ratio, 2), **one}
        rows.append([kind, *(result[kind][name] for name in _COLUMNS)])
    heads = ["ms of the other nine", "ratio p99", "p99 with", "without", "p50 with", "without"]
    testbed.tell(result, rows, heads=heads, as_json=options.json)
    return result


_COLUMNS = ("ratio_p99", "with_p99", "without_p99", "with_p50", "without_p50")

if __name__ == "__main__":
    main()
