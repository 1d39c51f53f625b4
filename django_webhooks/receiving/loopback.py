"""The HTTP server of a listener, on loopback: reads, answers, and fails as it is told."""

from __future__ import annotations

import contextlib
import logging
import socket
import socketserver
import struct
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from .failures import RESET, TIMEOUT, Failure
from .message import CREDENTIALS
from .observed_request import Arrival, claimed_id

if TYPE_CHECKING:
    from .listener import Listener

logger = logging.getLogger("django_webhooks.receiving")

HOST = "127.0.0.1"
#: Connections at once; one more is hung up on.
MAX_CONNECTIONS = 200
#: Seconds: for one request in all, without a byte, and before a simulated time-out ends.
DEADLINE, SILENCE, HOLD = 30.0, 10.0, 120.0


class Server(ThreadingHTTPServer):
    """Listens for one listener, with a thread for each connection."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], listener: Listener) -> None:
        #: When each connection is hung up on.
        self.ends: dict[socket.socket, float] = {}
        self.listener = listener
        super().__init__(address, Handler)
        if listener.tls is not None:
            # The handshake is for the thread of the connection.
            self.socket = listener.tls.wrap_socket(
                self.socket, server_side=True, do_handshake_on_connect=False
            )

    def server_bind(self) -> None:
        """Bind without asking the resolver for a name of this host, as HTTPServer does."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, self.server_address[1]

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Take no more connections than there may be."""
        return len(self.ends) < MAX_CONNECTIONS

    def service_actions(self) -> None:
        """Hang up where a request takes too long."""
        now = time.monotonic()
        self.hang_up(one for one, ends in list(self.ends.items()) if ends < now)

    def hang_up(self, connections: Iterable[socket.socket] | None = None) -> None:
        """End connections, whatever they wait for; all of them unless some are named."""
        for one in list(self.ends) if connections is None else connections:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of connections that broke."""
        error = sys.exception()
        if not isinstance(error, OSError):
            logger.error("The listener failed at a request.", exc_info=error)


class Handler(BaseHTTPRequestHandler):
    """Reads requests of one connection, has them judged, and answers or fails."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = SILENCE
    server: Server

    def setup(self) -> None:
        """Let the time of the connection begin."""
        self.server.ends[self.request] = time.monotonic() + DEADLINE
        super().setup()

    def finish(self) -> None:
        """Forget the connection."""
        self.server.ends.pop(self.request, None)
        with contextlib.suppress(OSError):
            super().finish()

    def do_POST(self) -> None:
        """Verify, tell, answer."""
        listener = self.server.listener
        if self.server.ends[self.request] < time.monotonic():
            # Hung up on half-way, which looks like the end of the headers.
            self.close_connection = True
            return
        with listener.answering():
            failure = self._receive(listener)
        if failure is TIMEOUT:
            self._wait()
        self.server.ends[self.request] = time.monotonic() + DEADLINE

    def do_GET(self) -> None:
        """Answer a health check."""
        self._send(204)

    do_HEAD = do_GET

    def do_PUT(self) -> None:
        """Refuse what is no POST."""
        refusal = "Webhooks are sent by POST."
        self.server.listener.told(
            Arrival(method=self.command, path=self.path, refusal=refusal, answer="405")
        )
        self.close_connection = True
        self._send(405, {"Allow": "POST"})

    do_PATCH = do_DELETE = do_OPTIONS = do_PUT

    def _receive(self, listener: Listener) -> Failure | None:
        headers = self._headers()
        hidden = CREDENTIALS | set(listener.scheme.credential_headers)
        arrival = Arrival(
            method=self.command,
            path=self.path,
            headers={name: value for name, value in headers.items() if name not in hidden},
            message_id=claimed_id(headers),
        )
        status, refusal = self._length(headers, listener.max_bytes)
        if refusal:
            self.close_connection = True
            listener.told(replace(arrival, refusal=refusal, answer=str(status)))
            self._send(status)
            return None
        body = self.rfile.read(int(headers["content-length"]))
        if len(body) < int(headers["content-length"]):
            # Its sender is gone, and nothing was received.
            self.close_connection = True
            return None
        arrival, failure = listener.judge(replace(arrival, body=body), headers)
        listener.told(arrival)
        self._answer(int(arrival.answer) if failure is None else 0, failure)
        return failure

    def _headers(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for name, value in self.headers.items():
            key = name.lower()
            # Several of one name are joined, as the servers of sites do.
            found[key] = f"{found[key]},{value}" if key in found else value
        return found

    def _length(self, headers: dict[str, str], limit: int) -> tuple[int, str]:
        length = headers.get("content-length", "")
        if "transfer-encoding" in headers or not length:
            return 411, "Chunks are not taken here; send a Content-Length."
        if not (length.isascii() and length.isdigit() and len(length) < 20):
            return 400, "The Content-Length is no number."
        if int(length) > limit:
            return 413, f"More than {limit:,} bytes are not taken."
        return 0, ""

    def _answer(self, status: int, failure: Failure | None) -> None:
        if failure is None:
            self._send(status)
        elif failure is RESET:
            # Close without the usual goodbye.
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()
            self.close_connection = True
        elif failure is not TIMEOUT:
            self._send(failure.status, dict(failure.headers))

    def _wait(self) -> None:
        # Until the sender leaves, or the listener stops.
        self.close_connection = True
        self.server.ends[self.request] = time.monotonic() + HOLD
        self.connection.settimeout(HOLD)
        with contextlib.suppress(OSError):
            self.rfile.read(1)

    def _send(self, status: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", "0")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()

    def version_string(self) -> str:
        """Say what this is, and not which Python."""
        return "django-webhooks"

    def log_message(self, *args: Any) -> None:
        """Leave the telling to ``told``."""
