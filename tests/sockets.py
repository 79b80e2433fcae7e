"""What the tests of websockets share: servers to connect to, and clients that do as they like."""

from __future__ import annotations

import struct
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import trio

from trio_graph_scheduler import TaskGraph
from trio_graph_scheduler.observe.feed.feed import Feed
from trio_graph_scheduler.observe.feed.messages import Message
from trio_graph_scheduler.observe.feed.wire import decode_message
from trio_graph_scheduler.observe.websocket.listening import Address
from trio_graph_scheduler.observe.websocket.server import serve_websocket

T = TypeVar("T")
PATIENCE = 60.0
"""Seconds after which a test is taken to hang: long, as computers may be busy."""


def on_sockets(main: Callable[..., Awaitable[T]], *args: object) -> T:
    """Run an async function on trio with a real clock."""

    async def bounded() -> T:
        with trio.fail_after(PATIENCE):
            return await main(*args)

    return trio.run(bounded)


@asynccontextmanager
async def served(graph: TaskGraph | Feed, **options: Any) -> AsyncIterator[Address]:
    """Serve a graph while the body runs, and give its address."""
    async with trio.open_nursery() as nursery:
        address: Address = await nursery.start(partial(serve_websocket, graph, **options))
        yield address
        nursery.cancel_scope.cancel()


async def start_server(
    nursery: trio.Nursery, graph: TaskGraph | Feed, **options: Any
) -> tuple[Address, trio.CancelScope]:
    """Serve a graph until the scope is cancelled, and give its address and that scope."""
    scope = trio.CancelScope()

    async def serve(task_status: trio.TaskStatus[Address]) -> None:  # noqa: ASYNC128 - the server does
        with scope:
            await serve_websocket(graph, task_status=task_status, **options)

    address: Address = await nursery.start(serve)
    return address, scope


def request(address: Address, target: str = "/", method: str = "GET", **headers: str) -> bytes:
    """Return a request for an upgrade; a header that is "" is left out."""
    lines = {
        "Host": f"{address.host}:{address.port}",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
    } | {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value)
    return f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode("latin-1")


def frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, mask: bool = True, length: int = -1
) -> bytes:
    """Return a frame as a client sends it, or as none may; its mask is zero."""
    length = len(payload) if length < 0 else length
    head = bytes([fin << 7 | rsv << 4 | opcode])
    flag = mask << 7
    if length < 126:
        head += bytes([flag | length])
    elif length < 65_536:
        head += struct.pack("!BH", flag | 126, length)
    else:
        head += struct.pack("!BQ", flag | 127, length)
    return head + bytes(4 * mask) + payload


class RawClient:
    """A client that sends bytes, whatever they are, and reads what comes."""

    def __init__(self, stream: trio.abc.HalfCloseableStream) -> None:
        self.stream = stream
        self._buffer = bytearray()

    async def send(self, data: bytes) -> None:
        """Send bytes, if they are still wanted."""
        with suppress(trio.BrokenResourceError):
            await self.stream.send_all(data)

    async def upgrade(self, address: Address, target: str = "/", **headers: str) -> None:
        """Do the handshake."""
        await self.send(request(address, target, **headers))
        head = await self.head()
        assert head.startswith(b"HTTP/1.1 101 "), head

    async def head(self) -> bytes:
        """Return the head of the response; b"" if there is none."""
        while b"\r\n\r\n" not in self._buffer and await self._more():
            pass
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        return bytes(head)

    async def status(self, data: bytes) -> int:
        """Send something, and return the status of the response, whose rest is read to its end."""
        await self.send(data)
        head = await self.head()
        while await self._more():
            pass
        return int(head.split()[1]) if head else 0

    async def frame(self) -> tuple[int, bytes] | None:
        """Return the next frame that comes, as opcode and payload; None at the end."""
        head = await self._take(2)
        if head is None:
            return None
        size = head[1]
        if size > 125:
            more = await self._take(2 if size == 126 else 8)
            if more is None:
                return None
            size = int.from_bytes(more, "big")
        payload = await self._take(size)
        return None if payload is None else (head[0] & 15, payload)

    async def message(self) -> Message:
        """Return the next message of the feed."""
        while True:
            got = await self.frame()
            assert got is not None
            if got[0] == 1:
                return decode_message(got[1])

    async def end(self) -> int:
        """Read on to the end, and return the code with which it was closed; 0 if there was none."""
        code = 0
        while (got := await self.frame()) is not None:
            if got[0] == 8:
                code = int.from_bytes(got[1][:2], "big")
        return code

    async def _take(self, size: int) -> bytes | None:
        while len(self._buffer) < size:
            if not await self._more():
                return None
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    async def _more(self) -> bool:
        try:
            data = await self.stream.receive_some()
        except trio.BrokenResourceError:
            return False
        self._buffer += data
        return bool(data)


@asynccontextmanager
async def raw(address: Address) -> AsyncIterator[RawClient]:
    """Connect to a server, without a handshake."""
    stream = await trio.open_tcp_stream(address.host, address.port)
    async with stream:
        yield RawClient(stream)


def resources() -> tuple[int, int, int]:
    """Return how many descriptors, threads and trio tasks there are."""
    return (
        len(list(Path("/proc/self/fd").iterdir())),
        threading.active_count(),
        trio.lowlevel.current_statistics().tasks_living,
    )
