"""A receiver on loopback that costs as little as it can: ``python -m benchmarks.receiver``.

Prints its ports, answers 204 to every POST and how many those were to a GET, and prints it when its
input ends. With ``--log`` it writes a line for each request: the moment by the machine's monotonic
clock, which all processes share, the ``webhook-id``, the number of its port, and how many requests
were not answered yet. A line of input changes how it answers from then on: ``ok``, ``500``,
``slow 5`` (seconds until the answer; of several numbers each port has its own), ``hang`` (never),
``every 4 503`` (each fourth request gets that status), or ``drip`` (a byte of the answer now and
then, never all of it).
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from typing import IO

ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"
FAILURE = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n"
#: Seconds between two bytes of an answer that drips.
DRIP = 0.2


class Manner:
    """How requests are answered, and what is known of them."""

    def __init__(self, name: str, log: IO[str] | None) -> None:
        self.name, self.log = name, log
        self.count = self.open = 0

    def note(self, head: bytes, port: int) -> None:
        """Count a request, and write its line."""
        self.count += 1
        self.open += 1
        if self.log is not None:
            at = head.find(b"webhook-id:")
            key = head[at + 11 :].split(b"\r\n", 1)[0].strip().decode() if at >= 0 else "-"
            self.log.write(f"{time.monotonic()} {key} {port} {self.open}\n")


class Receiver(asyncio.Protocol):
    """Read requests with a Content-Length, answer each."""

    def __init__(self, manner: Manner, port: int) -> None:
        self.manner, self.port = manner, port
        self.unanswered = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin with an empty buffer."""
        self.transport, self.buffer = transport, b""

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer for what is not answered."""
        self.manner.open -= self.unanswered
        self.unanswered = 0

    def data_received(self, data: bytes) -> None:
        """Answer every request that is complete."""
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end].lower()
            if head.startswith(b"get "):
                self.buffer = self.buffer[end + 4 :]
                self.transport.write(_told(self.manner.count))
                continue
            at = head.index(b"content-length:") + 15
            length = int(head[at:].split(b"\r\n", 1)[0])
            if len(self.buffer) < end + 4 + length:
                return
            self.buffer = self.buffer[end + 4 + length :]
            self.manner.note(head, self.port)
            self.unanswered += 1
            self._begin_answer()

    def _begin_answer(self) -> None:
        match self.manner.name.split():
            case ["ok"]:
                self._answer(ANSWER)
            case ["500"]:
                self._answer(FAILURE)
            case ["every", count, status]:
                is_refused = self.manner.count % int(count) == 0
                self._answer(_refusal(int(status)) if is_refused else ANSWER)
            case ["slow", *delays]:
                seconds = float(delays[self.port % len(delays)])
                asyncio.get_running_loop().call_later(seconds, self._answer, ANSWER)
            case ["drip"]:
                self._drip(0)

    def _answer(self, answer: bytes) -> None:
        if self.unanswered and not self.transport.is_closing():
            self.transport.write(answer)
            self.unanswered -= 1
            self.manner.open -= 1

    def _drip(self, sent: int) -> None:
        head = b"HTTP/1.1 204 No Content\r\nx-drip: "
        if not self.transport.is_closing():
            self.transport.write(head[sent : sent + 1] or b"x")
            asyncio.get_running_loop().call_later(DRIP, self._drip, sent + 1)


def _refusal(status: int) -> bytes:
    return b"HTTP/1.1 %d No\r\ncontent-length: 0\r\n\r\n" % status


def options() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--ports", type=int, default=1)
    parser.add_argument("--manner", default="ok")
    parser.add_argument("--log", type=argparse.FileType("w", bufsize=1))
    return parser.parse_args()


def _told(count: int) -> bytes:
    body = b"%d" % count
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)


async def main() -> None:
    """Serve until standard input ends."""
    given = options()
    manner = Manner(given.manner, given.log)
    loop = asyncio.get_running_loop()
    servers = [
        await loop.create_server(lambda port=port: Receiver(manner, port), "127.0.0.1", 0)
        for port in range(given.ports)
    ]
    print(*(server.sockets[0].getsockname()[1] for server in servers), flush=True)
    ended = asyncio.Event()
    loop.add_reader(sys.stdin, lambda: _read(manner, ended))
    await ended.wait()
    print(manner.count, flush=True)
    for server in servers:
        server.close()


def _read(manner: Manner, ended: asyncio.Event) -> None:
    line = sys.stdin.readline()
    manner.name = line.strip() or manner.name
    if not line:
        ended.set()


if __name__ == "__main__":
    asyncio.run(main())
