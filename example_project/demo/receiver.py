"""The receiver of the demo: verifies signatures, fails when told to, and keeps account."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from django_webhooks import signing
from django_webhooks.exceptions import VerificationFailed


@dataclass
class Account:
    """What arrived."""

    #: Bodies by message id, of requests that were verified and accepted.
    accepted: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: How often each message id was accepted.
    times: Counter[str] = field(default_factory=Counter)
    #: Requests answered, by answer.
    answers: Counter[str] = field(default_factory=Counter)
    #: Requests whose signature did not hold.
    forged: int = 0


class Receiver:
    """An HTTP server on loopback in a thread; ``mode`` says how it answers."""

    def __init__(self, *, secret: str, tell: Callable[[str], None], name: str = "") -> None:
        self.secret, self.tell, self.name = secret, tell, name
        self.mode = "ok"
        self.account = Account()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                receiver.handle(self)

            def log_message(self, *args: Any) -> None:
                """Leave the telling to the story."""

            def setup(self) -> None:
                receiver.connections.append(self.request)
                super().setup()

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *args: Any) -> None:
                """Say nothing of connections that broke."""

        self.connections: list[socket.socket] = []
        self._make = lambda port: Server(("127.0.0.1", port), Handler)
        self.port = 0
        self.start()
        self.url = f"http://127.0.0.1:{self.port}/webhooks"

    def start(self) -> None:
        """Listen, on the same port as before."""
        self.server = self._make(self.port)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def kill(self) -> None:
        """Listen no more, and cut all connections."""
        self.close()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.connections.clear()

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        body = request.rfile.read(int(request.headers["content-length"]))
        headers = {name.lower(): value for name, value in request.headers.items()}
        event = json.loads(body)["type"]
        what = f"{self.name}{event:14} attempt {headers['webhook-attempt']}"
        try:
            signing.verify(secrets=[self.secret], headers=headers, body=body)
        except VerificationFailed as error:
            self.account.forged += 1
            self.answer(request, 401, what, str(error))
            return
        if self.mode == "reset":
            self.account.answers["connection reset"] += 1
            self.tell(f"    {what}  ✗ connection reset")
            # Close without the usual goodbye.
            linger = struct.pack("ii", 1, 0)
            request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            request.connection.close()
            request.close_connection = True
        elif self.mode == "busy":
            self.answer(request, 429, what, "asks for 1 s", headers={"Retry-After": "1"})
        elif self.mode == "refuse":
            self.answer(request, 422, what, "never again", headers={"webhook-no-retry": "1"})
        elif self.mode != "ok":
            self.answer(request, int(self.mode), what)
        else:
            self.account.accepted[headers["webhook-id"]] = json.loads(body)
            self.account.times[headers["webhook-id"]] += 1
            why = headers.get("webhook-retry-reason")
            self.answer(request, 204, what, f"after {why}" if why else "")

    def answer(
        self,
        request: BaseHTTPRequestHandler,
        status: int,
        what: str,
        why: str = "",
        *,
        headers: dict[str, str] | None = None,
    ) -> None:
        """Send a status without a body and tell of it."""
        self.account.answers[str(status)] += 1
        request.send_response(status)
        for name, value in (headers or {}).items():
            request.send_header(name, value)
        request.send_header("Content-Length", "0")
        request.end_headers()
        mark = "✓" if status < 300 else "✗"
        self.tell(f"    {what}  {mark} {status} {why}".rstrip())

    def wait_for(self, condition: Callable[[Account], bool], *, seconds: float) -> bool:
        """Wait until the account meets the condition; say whether it did."""
        ends = time.monotonic() + seconds
        while not condition(self.account):
            if time.monotonic() > ends:
                return False
            time.sleep(0.05)
        return True

    def close(self) -> None:
        """Stop listening."""
        self.server.shutdown()
        self.server.server_close()
