"""Websocket clients for `observers`, in a process of their own: `python -m benchmarks.clients PORT COUNT`.

They speak just enough of the protocol to read, so that they take little from the other core. Of several
clients the last one never reads. A line says that all are connected; when the standard input is closed
another one says how many messages each of the others has got.
"""

from __future__ import annotations

import sys
from functools import partial

import trio

REQUEST = (
    "GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
END_OF_HEAD = b"\r\n\r\n"
SHORT, LONG = 126, 127
"""What stands in place of a length of up to 2, and 8 bytes."""


class Frames:
    """Counts the frames in a stream of bytes."""

    def __init__(self) -> None:
        self.count = 0
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        """Take more bytes of the stream."""
        self._buffer += data
        while (size := self._size()) is not None and len(self._buffer) >= size:
            del self._buffer[:size]
            self.count += 1

    def _size(self) -> int | None:
        """Return the size of the frame that the buffer begins with, if that is known."""
        buffer = self._buffer
        if len(buffer) < 2:  # noqa: PLR2004 - the shortest head of a frame
            return None
        extra = {SHORT: 2, LONG: 8}.get(buffer[1], 0)
        if len(buffer) < 2 + extra:
            return None
        return 2 + extra + (int.from_bytes(buffer[2 : 2 + extra]) if extra else buffer[1])


async def client(
    port: int, frames: Frames, *, reads: bool, task_status: trio.TaskStatus = trio.TASK_STATUS_IGNORED
) -> None:
    """Connect, and read until the server closes; or only until it has answered."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        await stream.send_all(REQUEST.format(port=port).encode())
        head = b""
        while END_OF_HEAD not in head:
            more = await stream.receive_some()
            if not more:
                raise ConnectionError(f"the server does not let us in: {head!r}")
            head += more
        frames.feed(head.partition(END_OF_HEAD)[2])
        task_status.started()
        if not reads:
            await trio.sleep_forever()
        async for data in stream:
            frames.feed(bytes(data))


async def main(port: int, count: int) -> None:
    """Let so many clients read until nobody listens to us."""
    counted = [Frames() for _ in range(count)]
    async with trio.open_nursery() as nursery:
        for number, frames in enumerate(counted, 1):
            await nursery.start(partial(client, port, frames, reads=number == 1 or number < count))
        print("connected", flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)
        print(*[frames.count for frames in counted[: max(1, count - 1)]], flush=True)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]), int(sys.argv[2]))
