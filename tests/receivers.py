"""Receivers on loopback: one that answers by script, and one that speaks raw bytes."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Answer:
    """What to answer, and after how many seconds."""

    status: int = 204
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    delay: float = 0.0
    #: Waits, before the delay, for what has to happen first.
    gate: Callable[[], object] | None = None
    #: Hang up instead of answering, although what came was taken.
    is_cut: bool = False
    #: Seconds between two bytes of the answer.
    drip: float = 0.0

    @property
    def takes(self) -> bool:
        """Whether what came is taken, whatever the sender learns of it."""
        return 200 <= self.status < 300


@dataclass
class Request:
    """What came."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    at: float = field(default_factory=time.monotonic)
    #: What was meant to be answered.
    answer: Answer = field(default_factory=Answer)
    #: What was answered, once it was.
    status: int | None = None
    answered_at: float = 0.0


class Receiver:
    """Answers each request by the next answer, or by the last; keeps what came."""

    def __init__(
        self, answers: Sequence[Answer | int] = (204,), *, tls: ssl.SSLContext | None = None
    ) -> None:
        self.answers = [one if isinstance(one, Answer) else Answer(one) for one in answers]
        self.requests: list[Request] = []
        #: What a GET is answered.
        self.health, self.document = 204, b""
        self.connections = 0
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            timeout = 60

            def setup(self) -> None:
                receiver.connections += 1
                receiver._sockets.append(self.request)
                super().setup()

            def do_POST(self) -> None:
                receiver.handle(self)

            def do_GET(self) -> None:
                receiver.probed(self)

            def log_message(self, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *args: Any) -> None:
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        if tls is not None:
            self.server.socket = tls.wrap_socket(
                self.server.socket, server_side=True, do_handshake_on_connect=False
            )
        scheme = "http" if tls is None else "https"
        self.port = self.server.server_port
        self.url = f"{scheme}://127.0.0.1:{self.port}/hook"
        self._thread = threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self._thread.start()

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        length = int(request.headers["content-length"])
        body = request.rfile.read(length)
        if len(body) < length:  # Its sender was killed; nothing was received.
            request.close_connection = True
            return
        found = {name.lower(): value for name, value in request.headers.items()}
        with self._lock:
            answer = self.answers[min(len(self.requests), len(self.answers) - 1)]
            received = Request(path=request.path, headers=found, body=body, answer=answer)
            self.requests.append(received)
        if answer.gate is not None:
            answer.gate()
        time.sleep(answer.delay)
        if answer.is_cut:
            request.close_connection = True
            return
        if answer.drip:
            for byte in b"HTTP/1.1 204 No Content\r\n\r\n":
                request.wfile.write(bytes([byte]))
                time.sleep(answer.drip)
            return
        # Before it leaves: who has it may look here, or send the next request, at once.
        received.status, received.answered_at = answer.status, time.monotonic()
        try:
            request.send_response(answer.status)
            for name, value in answer.headers.items():
                request.send_header(name, value)
            if answer.status >= 200 and answer.status != 204:
                request.send_header("Content-Length", str(len(answer.body)))
            request.end_headers()
            request.wfile.write(answer.body)
        except OSError:
            received.status, received.answered_at = None, 0.0
            raise

    def probed(self, request: BaseHTTPRequestHandler) -> None:
        """Answer a health check."""
        request.send_response(self.health)
        request.send_header("Content-Length", str(len(self.document)))
        request.end_headers()
        request.wfile.write(self.document)

    @property
    def ids(self) -> list[str]:
        """The message ids, in the order in which they came."""
        return [request.headers["webhook-id"] for request in self.requests]

    def close(self) -> None:
        """Stop listening, and hang up."""
        self.server.shutdown()
        self.server.server_close()
        for connection in self._sockets:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)


@contextmanager
def receiving(*answers: Answer | int) -> Iterator[Receiver]:
    """Run a receiver."""
    receiver = Receiver(answers or (204,))
    try:
        yield receiver
    finally:
        receiver.close()


@contextmanager
def speaking(
    speak: Callable[[socket.socket], None], *, tls: ssl.SSLContext | None = None
) -> Iterator[str]:
    """Run a server that calls ``speak`` with each connection, and yield its host and port."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.05)
    ending = threading.Event()
    threads: list[threading.Thread] = []
    connections: list[socket.socket] = []

    def serve(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            connection.settimeout(60)
            if tls is not None:
                with tls.wrap_socket(
                    connection, server_side=True, do_handshake_on_connect=False
                ) as wrapped:
                    connections.append(wrapped)
                    wrapped.do_handshake()
                    speak(wrapped)
            else:
                speak(connection)

    def accept() -> None:
        while not ending.is_set():
            with contextlib.suppress(TimeoutError):
                connection, _ = listener.accept()
                connections.append(connection)
                threads.append(threading.Thread(target=serve, args=(connection,), daemon=True))
                threads[-1].start()

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        ending.set()
        accepting.join(60)
        listener.close()
        for connection in connections:
            # Who still waits to read waits no longer.
            with contextlib.suppress(OSError):
                # Below TLS, which may be in use by its thread.
                socket.socket.shutdown(connection, socket.SHUT_RDWR)
        for thread in threads:
            thread.join(6)


def read_request(connection: socket.socket) -> bytes:
    """Read one request with a Content-Length, whole."""
    data = b""
    while b"\r\n\r\n" not in data:
        if not (more := connection.recv(65_536)):
            return data
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    while len(body) < length:
        body += connection.recv(65_536)
    return head + b"\r\n\r\n" + body


def dripping(head: bytes, drop: bytes, *, every: float = 0.1) -> Callable[[socket.socket], None]:
    """Send ``head``, then ``drop`` again and again."""

    def speak(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(head)
        for _ in range(60):
            connection.sendall(drop)
            time.sleep(every)

    return speak


def saying(answer: bytes, *, then_wait: float = 0.0) -> Callable[[socket.socket], None]:
    """Read a request, send these bytes, wait (until the sender leaves), and close."""

    def speak(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(answer)
        if then_wait:
            connection.settimeout(then_wait)
            connection.recv(1)

    return speak
