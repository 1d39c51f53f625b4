"""Captured events: what was emitted, assertions on it, and its delivery to a callable."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from ..policies import matching
from . import comparing, signed
from .signed import SignedRequest

if TYPE_CHECKING:
    import unittest

    from django.db.models import Model

    from ..models import Event

    _TestCase = unittest.TestCase
else:
    _TestCase = object

Returned = TypeVar("Returned")

_ANY: Any = object()
#: Events that a failure shows.
SHOWN = 20


class CapturedWebhooks:
    """The events that were emitted while they were captured, in order.

    ``secret`` signs the requests that :meth:`deliver` makes.
    """

    def __init__(self) -> None:
        from .. import signing

        self.events: list[Event] = []
        self.secret = signing.generate_secret()

    def of_type(self, pattern: str) -> list[Event]:
        """Return the events of a type, or of types such as ``order.*``."""
        return [event for event in self.events if matching.matches(pattern, event.type)]

    def assert_emitted(
        self,
        event_type: str,
        data: Any = _ANY,
        *,
        times: int | None = None,
        owner: Model | None = _ANY,
    ) -> list[Event]:
        """Fail unless such an event was emitted, or exactly ``times`` of them; return them.

        ``data`` may name a part: of dictionaries the keys it holds are compared, also of those
        inside. ``owner=None`` asks for an event without an owner.
        """
        found = [
            event
            for event in self.of_type(event_type)
            if (data is _ANY or comparing.holds(data, event.data)) and _is_of(owner, event)
        ]
        if bool(found) if times is None else len(found) == times:
            return found
        wanted = event_type
        wanted += "" if data is _ANY else f" with {comparing.text_of(data)}"
        wanted += "" if owner is _ANY else f" of {owner!r}" if owner else " without an owner"
        what = "not emitted" if times is None else f"emitted {len(found)} times, not {times}"
        raise AssertionError(f"{wanted} was {what}.\n{self._listing()}")

    def assert_nothing_emitted(self, event_type: str = "*") -> None:
        """Fail if an event was emitted, or one of the type or pattern given."""
        if self.of_type(event_type):
            which = "" if event_type == "*" else f" of {event_type}"
            raise AssertionError(f"Events{which} were emitted.\n{self._listing()}")

    def deliver(self, receiver: Callable[[SignedRequest], Returned]) -> list[Returned]:
        """Call the receiver with the signed request of each event; return what it returned."""
        return [
            receiver(
                signed.sign(bytes(event.body), secret=self.secret, message_id=event.message_id)
            )
            for event in list(self.events)
        ]

    def _take(self, event: Event) -> None:
        # Outside of tests, a repeated idempotency key records nothing new.
        digest = event.idempotency_digest
        if digest is None or all(digest != one.idempotency_digest for one in self.events):
            self.events.append(event)

    def _listing(self) -> str:
        if not self.events:
            return "Nothing was emitted."
        lines = [
            f"  {event.type} {comparing.text_of(event.data)}"
            + (f" of {event.owner_type} {event.owner_id}" if event.owner_type else "")
            for event in self.events[:SHOWN]
        ]
        more = len(self.events) - SHOWN
        if more > 0:
            lines.append(f"  and {more} more")
        return "\n".join(["Emitted were:", *lines])


@contextmanager
def capture_webhooks() -> Iterator[CapturedWebhooks]:
    """Capture the events of this block instead of recording them, whether anybody listens or not.

    An event is captured when it is emitted; a transaction that is rolled back keeps it captured.
    """
    from ..sending import recording

    webhooks = CapturedWebhooks()
    with recording.capture(webhooks._take):
        yield webhooks


class WebhooksTestMixin(_TestCase):
    """Capture the events of each test of a ``TestCase`` as ``self.webhooks``; put it first."""

    webhooks: CapturedWebhooks

    def setUp(self) -> None:
        """Begin to capture before the rest of the set-up."""
        self.webhooks = self.enterContext(capture_webhooks())
        super().setUp()


def _is_of(owner: Any, event: Event) -> bool:
    from ..models.owner import OwnerKey

    return owner is _ANY or OwnerKey.of(owner) == event.owner_key
