"""The audience: subscriptions of several kinds, each with receivers that can be broken."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable
from typing import Any

from tests.acceptance.harness import Harness, Proxy
from tests.receivers import Answer, Receiver, Request

from .services import UNDER_WAY

WELL = Answer(204)
MODELS = "from django_webhooks.models import *\n"
#: The fields that a kind of subscription needs; one that this release does not know is left out.
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "backup": {},
    "ordered": {"ordering": "key"},
    "limited": {"rate_limit_per_second": 40.0, "max_in_flight": 6},
}


class Endpoint:
    """One receiver behind a proxy."""

    def __init__(self, name: str) -> None:
        self.name, self.receiver = name, Receiver()
        self.proxy = Proxy("127.0.0.1", self.receiver.port)
        self.url = f"http://127.0.0.1:{self.proxy.port}/hook"

    def mend(self) -> None:
        """Answer well again."""
        self.receiver.answers = [WELL]
        if self.proxy.swallows:
            # What was swallowed does not arrive late.
            self.proxy.cut()
            time.sleep(0.1)
            self.proxy.swallows = False

    def close(self) -> None:
        """Listen no more."""
        self.mend()
        self.proxy.refuse()
        self.receiver.close()


class Receivers:
    """Subscriptions by name, each with one endpoint or two."""

    def __init__(self, harness: Harness) -> None:
        known = harness.python(
            MODELS + "print(json.dumps([f.name for f in Subscription._meta.get_fields()]))"
        )
        kinds = {name: one for name, one in KINDS.items() if set(one) <= set(known)}
        self.endpoints = {
            name: [Endpoint(name), Endpoint(f"{name}'s backup")]
            if name == "backup"
            else [Endpoint(name)]
            for name in kinds
        }
        for name, fields in kinds.items():
            urls = [one.url for one in self.endpoints[name]]
            harness.python(
                MODELS + f"s = Subscription.objects.create(name={name!r}, event_types=['*'],"
                f" **{fields!r})\n"
                f"for position, url in enumerate({urls!r}):\n"
                "    Endpoint.objects.create(subscription=s, url=url, position=position)"
            )

    def __enter__(self) -> Receivers:
        return self

    def __exit__(self, *args: object) -> None:
        for endpoint in self.all_endpoints:
            with contextlib.suppress(OSError):
                endpoint.close()

    @property
    def all_endpoints(self) -> list[Endpoint]:
        """Every receiver."""
        return [endpoint for endpoints in self.endpoints.values() for endpoint in endpoints]

    def requests(self, name: str) -> list[Request]:
        """Return all that came for a subscription, in the order in which it came."""
        found = [
            one for endpoint in self.endpoints[name] for one in list(endpoint.receiver.requests)
        ]
        return sorted(found, key=lambda one: one.at)

    def mend(self) -> None:
        """Have all receivers answer well."""
        for endpoint in self.all_endpoints:
            endpoint.mend()


def breaking(endpoint: Endpoint, *, processes: int) -> dict[str, tuple[Callable[[], None], int]]:
    """Return the ways to break a receiver until it is mended, and what each may repeat itself.

    Answers that are cut or dripped are counted as they are given.
    """
    lost = UNDER_WAY * processes

    def die() -> None:
        endpoint.proxy.refuse()

    def hang() -> None:
        endpoint.proxy.swallows = True

    def answer(*answers: Answer) -> Callable[[], None]:
        def change() -> None:
            mixed = [*answers, *[WELL] * 3]
            endpoint.receiver.answers = Mixed(mixed)

        return change

    return {
        "dies": (die, lost),
        "hangs": (hang, lost),
        "answers 500": (answer(Answer(500)), 0),
        "answers 429": (answer(Answer(429, {"Retry-After": "1"})), 0),
        "cuts answers": (answer(Answer(204, is_cut=True)), 0),
        "drips": (answer(Answer(204, drip=0.3)), 0),
        "is slow": (answer(Answer(204, delay=0.5)), 0),
    }


class Mixed(list[Answer]):
    """Answers one of which is drawn each time, whatever its number."""

    def __getitem__(self, place: Any) -> Any:
        return super().__getitem__(random.randrange(len(self)))
