"""One end of a websocket over a stream, after its handshake, be it the server's or the client's.

What may be said when is wsproto's business; this does the waiting, and keeps to bounds.
"""

from __future__ import annotations

from contextlib import suppress
from math import inf

import attrs
import trio
from wsproto.connection import Connection as Protocol
from wsproto.connection import ConnectionState
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, TextMessage

from .share import Share

PIECE = 65_536
"""Bytes that are sent or received in one go at most."""
CLOSING = 1.0
"""Seconds that closing may take."""

NORMAL = 1000
GOING_AWAY = 1001
UNSUPPORTED = 1003
ABNORMAL = 1006
BAD_DATA = 1007
TOO_LARGE = 1009
INTERNAL = 1011
TOO_SLOW = 1013

_GONE = (trio.BrokenResourceError, trio.ClosedResourceError)


class Closed(Exception):
    """A connection is over, or is to be closed, with this code."""

    def __init__(self, code: int, reason: str = "") -> None:
        self.code, self.reason = code, reason
        super().__init__(f"closed with code {code}" + (f" ({reason})" if reason else ""))


class Violation(Closed):
    """The other end does what it must not do."""


@attrs.frozen(kw_only=True)
class Bounds:
    """What one end puts up with from the other; times are in seconds.

    - `message_size`: characters of a message that comes in, of which each fragment counts one more.
    - `ping_interval`: after such a silence it is asked for a sign of life.
    - `ping_timeout`: after such a silence again it is taken for dead.
    - `send_timeout`: whoever takes longer for 64 KiB is too slow, and after twice as long is given up.
    """

    message_size: int
    ping_interval: float
    ping_timeout: float
    send_timeout: float


class Connection:
    """One end of a websocket.

    One task may receive at a time; any number may send. What is being sent is sent to its end, even if that
    is cancelled, as nothing could follow a part of it; `hurry` limits how long that takes.
    """

    def __init__(self, stream: trio.abc.Stream, protocol: Protocol, bounds: Bounds, share: Share) -> None:
        self._stream = stream
        self._protocol = protocol
        self._bounds = bounds
        self._share = share
        self._sending = trio.StrictFIFOLock()
        # What is being sent has so much time; `latest` is until when anything may be.
        self._scope = trio.CancelScope(shield=True)
        self._latest = inf
        # Whether only a part of something was sent.
        self._cut = False
        # The message that is coming in, and its size.
        self._parts: list[str] = []
        self._size = 0

    async def send(self, text: str) -> None:
        """Send a message. Raises `Closed`; always checkpoints."""
        await self._send_event(TextMessage(data=text))

    async def receive(self) -> str:
        """Return the next message; always checkpoint. Raises `Closed`, with the code to close it with."""
        while True:
            await self._share.turn()
            with self._share.spending():
                event = next(self._protocol.events(), None)
            match event:
                case None:
                    await self._read()
                case TextMessage():
                    self._parts.append(event.data)
                    self._size += len(event.data) + 1
                    if self._size > self._bounds.message_size:
                        raise Violation(
                            TOO_LARGE, f"messages have at most {self._bounds.message_size} characters"
                        )
                    if event.message_finished:
                        text = "".join(self._parts)
                        self._parts, self._size = [], 0
                        return text
                case BytesMessage():
                    raise Violation(UNSUPPORTED, "messages are texts")
                case Ping():
                    await self._send_event(event.response())
                case CloseConnection():  # which wsproto also gives for what it cannot make sense of
                    kind = Violation if self._protocol.state is ConnectionState.OPEN else Closed
                    raise kind(event.code, event.reason or "")

    def hurry(self) -> None:
        """Allow one more second, from now on, for all that is being sent and will be."""
        self._latest = trio.current_time() + CLOSING
        self._scope.deadline = min(self._scope.deadline, self._latest)

    async def close(self, code: int, reason: str = "") -> None:
        """Say that it is over, and why, if that goes; and close the stream, after a second at most.

        Nobody may send or receive meanwhile. Always checkpoints; the stream is closed in any case.
        """
        self.hurry()
        try:
            if code != ABNORMAL and not self._cut:
                with trio.move_on_after(CLOSING), suppress(Closed, *_GONE):
                    await self._say_goodbye(code, reason)
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSING):
                await trio.aclose_forcefully(self._stream)

    # Receiving ----------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        data = await self._receive_some()
        if not data:
            raise Closed(ABNORMAL)
        with self._share.spending():
            self._protocol.receive_data(data)

    async def _receive_some(self) -> bytes:
        try:
            with trio.move_on_after(self._bounds.ping_interval):
                return bytes(await self._stream.receive_some(PIECE))
            await self._send_event(Ping())
            with trio.move_on_after(self._bounds.ping_timeout):
                return bytes(await self._stream.receive_some(PIECE))
        except _GONE:
            raise Closed(ABNORMAL) from None
        raise Closed(INTERNAL, "no sign of life")

    # Sending ------------------------------------------------------------------------------------------------

    async def _send_event(self, event: Event) -> None:
        if self._sending.locked():
            await self._sending.acquire()
        else:
            self._sending.acquire_nowait()  # and without a checkpoint, for there is one in sending
        try:
            if self._cut or self._protocol.state is not ConnectionState.OPEN:
                raise Closed(ABNORMAL)
            await self._send(self._protocol.send(event))
        finally:
            self._sending.release()

    async def _send(self, data: bytes) -> None:  # noqa: ASYNC910 - there is something to send
        slow = False
        self._cut = True
        view = memoryview(data)
        for start in range(0, len(view), PIECE):
            began = trio.current_time()
            deadline = min(began + 2 * self._bounds.send_timeout, self._latest)
            with trio.CancelScope(shield=True, deadline=deadline) as self._scope:
                try:
                    await self._stream.send_all(view[start : start + PIECE])
                except _GONE:
                    raise Closed(ABNORMAL) from None
            if self._scope.cancelled_caught:
                raise Closed(TOO_SLOW)
            slow |= trio.current_time() - began > self._bounds.send_timeout
        self._cut = False
        if slow:
            raise Closed(TOO_SLOW, "messages are not read fast enough")

    async def _say_goodbye(self, code: int, reason: str) -> None:
        if self._protocol.state in (ConnectionState.OPEN, ConnectionState.REMOTE_CLOSING):
            await self._send(self._protocol.send(CloseConnection(code=code, reason=reason)))
        await linger(self._stream, self._share)


async def linger(stream: trio.abc.Stream, share: Share) -> None:
    """Wait for the other end to close a stream; were it closed at once, what was said last might be lost."""
    if isinstance(stream, trio.abc.HalfCloseableStream):
        await stream.send_eof()
    while await stream.receive_some(PIECE):
        await share.turn()
