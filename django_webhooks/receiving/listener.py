"""A listener: a receiver on loopback for trying out, that verifies, fails on purpose, and tells.

``manage.py webhooks_listen`` and the demo of the example project run it; a site receives with a
view (:mod:`.views`). Everything that a stranger can make it keep or wait for is bounded.
"""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from .. import signing
from ..exceptions import VerificationFailed
from . import schemes
from .failures import Failure, Plan, parse
from .loopback import HOST, Server
from .observed_request import Arrival, Memory
from .schemes import Scheme

__all__ = ["Arrival", "Failure", "Listener", "Plan", "parse"]

MAX_BYTES = 1_048_576


class Listener:
    """Listens from ``start`` to ``stop``; calls ``told`` with each arrival, before it answers.

    ``told`` is called in the thread of the request. ``plan`` may be exchanged at any time.
    """

    def __init__(
        self,
        *,
        scheme: Scheme,
        secrets: Sequence[str],
        told: Callable[[Arrival], None],
        plan: Plan | None = None,
        port: int = 0,
        tolerance: int = signing.TOLERANCE,
        max_bytes: int = MAX_BYTES,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.scheme, self.secrets, self.told = scheme, list(secrets), told
        self.plan = plan or Plan()
        self.port, self.tolerance, self.max_bytes, self.tls = port, tolerance, max_bytes, tls
        self._memory = Memory()
        self._busy, self._quiet = 0, threading.Condition()
        self._server: Server | None = None

    @property
    def url(self) -> str:
        """The URL at which the listener listens."""
        return f"{'https' if self.tls else 'http'}://{HOST}:{self.port}/"

    def start(self) -> None:
        """Listen, after ``stop`` on the same port again. Raise OSError where it is taken."""
        self._server = Server((HOST, self.port), self)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self, *, patience: float = 2.0) -> None:
        """Listen no more: let answers that are under way go out, then hang up."""
        server, self._server = self._server, None
        if server is None:
            return
        server.shutdown()
        server.server_close()
        with self._quiet:
            self._quiet.wait_for(lambda: self._busy == 0, patience)
        server.hang_up()

    def judge(self, arrival: Arrival, headers: dict[str, str]) -> tuple[Arrival, Failure | None]:
        """Return what an arrival is, and how it fails on purpose, if it does."""
        try:
            message = schemes.verify(
                self.scheme,
                secrets=self.secrets,
                headers=headers,
                body=arrival.body,
                now=arrival.at,
                tolerance=self.tolerance,
                method=arrival.method,
                urls=lambda: [self._asked(arrival, headers)],
            )
        except VerificationFailed as error:
            return replace(arrival, refusal=str(error), answer="401"), None
        failure = self.plan.next()
        times, is_repeat = self._memory.note(message.id, is_accepted=failure is None)
        found = replace(
            arrival,
            message_id=message.id,
            times=times,
            is_repeat=is_repeat,
            answer="204" if failure is None else failure.name,
        )
        return found, failure

    def _asked(self, arrival: Arrival, headers: dict[str, str]) -> str:
        """Return the full URL of an arrival, as its sender wrote it where nothing is between."""
        host = headers.get("host", f"{HOST}:{self.port}")
        return f"{'https' if self.tls else 'http'}://{host}{arrival.path}"

    @contextlib.contextmanager
    def answering(self) -> Iterator[None]:
        """Count an answer as under way."""
        with self._quiet:
            self._busy += 1
        try:
            yield
        finally:
            with self._quiet:
                self._busy -= 1
                self._quiet.notify_all()
