"""Feed schemes, the client's address and what listeners show with whatever atheris thinks of.

``python -m tests.fuzz.receiving -max_total_time=120``; it ends with a traceback at the first fault.
"""

from __future__ import annotations

import contextlib
import os
import sys

import atheris

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
with atheris.instrument_imports(include=["django_webhooks.receiving", "django_webhooks.signing"]):
    from django_webhooks.exceptions import InvalidPayload, VerificationFailed
    from django_webhooks.management import listen_output
    from django_webhooks.policies.addresses import networks
    from django_webhooks.receiving import client, failures
    from django_webhooks.receiving.observed_request import Arrival, claimed_id
    from tests.senders import NOW, SCHEMES, SECRET

NAMES = list(SCHEMES)
TRUSTED = networks(["10.0.0.0/8", "2001:db8:1::/48"])


def text(data, length=120):
    """Text that a header may hold: ISO 8859-1 half of the time, else anything."""
    if data.ConsumeBool():
        return data.ConsumeBytes(length).decode("latin-1")
    return data.ConsumeUnicode(length)


def schemes(data):
    """Verify a request of which one part is made up, or all, or whose body is, but well signed."""
    name = data.PickValueInList(NAMES)
    scheme, make, proof = SCHEMES[name]
    kind = data.ConsumeIntInRange(0, 3)
    headers = make()
    if kind == 0:
        headers = {one: text(data) for one in headers}
    elif kind == 1:
        headers[data.PickValueInList(sorted(headers))] = text(data)
    body = data.ConsumeBytes(data.remaining_bytes())
    if kind == 2:
        headers = make(body)
    elif kind == 3:
        headers = make(body) | {proof: make(body)[proof][: len(body) % 70]}
    try:
        message = scheme.verify(
            secrets=[SECRET], headers=headers, body=body, now=NOW, tolerance=300
        )
    except VerificationFailed:
        return
    held = SCHEMES[name][1](body)[proof]
    # Who knows no secret has to have been handed the proof.
    assert kind in (2, 3) or name == "token" or headers[proof].strip() in held, headers
    assert message.id.isprintable(), message.id
    assert len(message.id) <= 200, message.id
    with contextlib.suppress(InvalidPayload):
        _ = message.payload


def addresses(data):
    """Find the client behind proxies that write what they like."""
    remote = data.PickValueInList(["10.0.0.1", "2001:db8:1::1", "203.0.113.7", text(data, 40)])
    try:
        client.address(remote, text(data, 200), trusted=TRUSTED)
    except ValueError:
        return


def shown(data):
    """Show an arrival, and read a failure."""
    headers = {"webhook-attempt": text(data, 20), "x-github-event": text(data, 40)}
    if data.ConsumeBool():
        del headers["x-github-event"]
    with contextlib.suppress(ValueError):
        failures.parse(text(data, 20))
    path, body = text(data, 40), data.ConsumeBytes(data.remaining_bytes())
    arrival = Arrival(
        method="POST", path=path, headers=headers, body=body, message_id=claimed_id(headers)
    )
    for line in listen_output.for_people(arrival).split("\n"):
        assert line.isprintable(), line
    assert listen_output.as_json(arrival).isascii()


def one(fed):
    """Choose what is fed by the first byte."""
    data = atheris.FuzzedDataProvider(fed)
    which = data.ConsumeIntInRange(0, 3)
    (schemes, schemes, addresses, shown)[which](data)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
