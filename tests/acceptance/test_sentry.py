"""C10: Sentry's SDK with its defaults, in web and worker: receivers get nothing of it."""

from __future__ import annotations

import pytest

from tests.receivers import Answer

from .conftest import REDIS
from .harness import QUERY, until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300), pytest.mark.stacks(REDIS)]
#: All that a request may carry.
OURS = {
    "host", "accept-encoding", "content-type", "content-length", "user-agent", "webhook-id",
    "webhook-timestamp", "webhook-signature", "webhook-attempt", "webhook-max-attempts",
    "webhook-retry-reason", "authorization",
}  # fmt: skip
#: What is sent is kept in a log, in which the harness looks for planted secrets.
RECIPE = """
import sentry_sdk
from sentry_sdk.transport import Transport

class Keeping(Transport):
    def capture_envelope(self, envelope):
        folder = os.environ["ACCEPTANCE_FOLDER"]
        with open(os.path.join(folder, f"sentry-{{os.getpid()}}.log"), "ab") as log:
            log.write(envelope.serialize() + b"\\n")

sentry_sdk.init(dsn="http://public@127.0.0.1:9/1", transport=Keeping, release="shop", {options})
"""


@pytest.mark.parametrize("options", ["", "traces_sample_rate=1.0"], ids=["defaults", "tracing"])
@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_nothing_of_it_reaches_receivers(harness, receiver, options, pool):
    receiver.answers = [Answer(500, body=QUERY.encode()), Answer(204)]
    harness.recipe = RECIPE.format(options=options)
    harness.subscribe(receiver.url)
    harness.worker(pool=pool)
    harness.web()

    for number in range(5):
        harness.ask(f"thing {number}")

    until(lambda: len(receiver.requests) >= 6, "not everything arrived")
    until(lambda: set(harness.statuses()) <= {"succeeded"}, f"stuck: {harness.statuses()}")
    assert {name for one in receiver.requests for name in one.headers} <= OURS
    if options:
        sent = [path.read_text() for path in harness.folder.glob("sentry-*.log")]
        assert any("transaction" in one for one in sent)
