"""A receiver on loopback that costs as little as it can: ``python -m benchmarks.receiver``.

Prints its port, answers 204 to every POST and how many those were to a GET, and prints it when its
input ends.
"""

from __future__ import annotations

import asyncio
import sys

ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"


class Receiver(asyncio.Protocol):
    """Read requests with a Content-Length, answer each."""

    count = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin with an empty buffer."""
        self.transport, self.buffer = transport, b""

    def data_received(self, data: bytes) -> None:
        """Answer every request that is complete."""
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end].lower()
            if head.startswith(b"get "):
                self.buffer = self.buffer[end + 4 :]
                self.transport.write(_told(Receiver.count))
                continue
            at = head.index(b"content-length:") + 15
            length = int(head[at:].split(b"\r\n", 1)[0])
            if len(self.buffer) < end + 4 + length:
                return
            self.buffer = self.buffer[end + 4 + length :]
            Receiver.count += 1
            self.transport.write(ANSWER)


def _told(count: int) -> bytes:
    body = b"%d" % count
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)


async def main() -> None:
    """Serve until standard input ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Receiver, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    print(Receiver.count, flush=True)
    server.close()


if __name__ == "__main__":
    asyncio.run(main())
