"""A graph that runs somewhere else, watched from here.

async with watch("ws://127.0.0.1:8000/") as remote:
    async for mirror in remote:
        print(len(mirror.tasks), sum(task.state == "SUCCEEDED" for task in mirror.tasks.values()))
"""

from __future__ import annotations

import random
import ssl
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import inf

import attrs
import trio

from trio_graph_scheduler.graph import BadValue, GraphError
from trio_graph_scheduler.graph.errors import shown_value
from trio_graph_scheduler.graph.values import is_seconds, is_whole
from trio_graph_scheduler.observe.feed.messages import (
    VERSION,
    Ask,
    Detail,
    Message,
    Problem,
    Snapshot,
    Types,
    Watch,
)
from trio_graph_scheduler.observe.feed.mirror import Mirror
from trio_graph_scheduler.observe.feed.wire import BadMessage, decode_message, encode
from trio_graph_scheduler.observe.websocket.connection import (
    BAD_DATA,
    CLOSING,
    NORMAL,
    Bounds,
    Closed,
    Connection,
    Violation,
)
from trio_graph_scheduler.observe.websocket.gate import Refused
from trio_graph_scheduler.observe.websocket.listening import Address

from .dialing import Endpoint, dial, endpoint

FIRST_DELAY = 0.2
"""Seconds after which one tries again to connect; from then on twice as long each time."""
LONGEST_DELAY = 30.0
"""Seconds between two attempts at most."""
MOST_DOUBLINGS = 10
"""As often is the delay doubled at most, before it is cut."""
FAULT_OF_SERVER = 500
"""HTTP statuses from here on may pass."""
MAY_PASS = (408, 425, 429)
"""So may these, of those that are the client's fault."""


class Unreachable(GraphError, ConnectionError):
    """There is no feed where it should be, or not any more."""

    def __init__(self, where: object, why: object) -> None:
        super().__init__(f"no connection to the feed at {where}: {shown_value(str(why))}")


class WatchRefused(GraphError, PermissionError):
    """The server lets nobody watch who asks like this; `status` is that of HTTP."""

    def __init__(self, where: object, refused: Refused) -> None:
        self.status = refused.status
        fix = {401: ". Give its token: watch(url, token=...)", 403: ". Is the token the right one?"}
        super().__init__(
            f"the feed at {where} refuses with status {self.status}: {shown_value(refused.text)}"
            f"{fix.get(self.status, '')}"
        )


class BadFeed(GraphError, RuntimeError):
    """What a server says is not the feed of a graph, as this version knows it, or more than was allowed."""

    def __init__(self, where: object, what: str) -> None:
        super().__init__(f"the feed at {where} cannot be watched: {what}")


class NoAnswer(GraphError, LookupError):
    """There is nothing to say of a task that was asked for."""

    def __init__(self, uid: int, why: str) -> None:
        self.uid = uid
        super().__init__(f"nothing is known of task {shown_value(uid)}: {why}")


@asynccontextmanager
async def watch(
    url: str | Address,
    *,
    token: str | None = None,
    watch: Watch | None = None,
    ssl_context: ssl.SSLContext | None = None,
    patience: float = inf,
    answer_within: float = 10.0,
    max_tasks: int = 100_000,
    max_message_size: int = 16 * 1024 * 1024,
) -> AsyncIterator[Remote]:
    """Watch a graph that runs somewhere else, in an `async with` block.

        async with watch(address, token="...", watch=Watch(states=("FAILED",))) as remote:
            ...

    It begins once all that is watched is known. When the connection is lost it goes on from there as soon as
    there is one again, which it tries at longer and longer intervals.

    - `url`: `ws://` or `wss://`. Its query may say what to watch, and have the token.
    - `ssl_context`: for `wss://`; None: the default one.
    - `patience`: for how many seconds without a connection it goes on trying.
    - `answer_within`: seconds in which a server must answer, when connecting and when pinged after 20 seconds
      of silence.
    - `max_tasks`, `max_message_size`: more than so many tasks, or characters, are not believed.

    Raises `Unreachable` if there is no connection at first, or for too long; `WatchRefused` if the server
    does not let one watch; `BadFeed` if it says what makes no sense; `BadValue` or `BadType`. These come out
    of the block as they are, as do the exceptions of its body, which is cancelled first if need be.
    """
    for name, value in (("patience", patience), ("answer_within", answer_within)):
        if value != inf and not (is_seconds(value) and value):
            raise BadValue(name, value, "it must be a number of seconds, more than 0")
    for name, value in (("max_tasks", max_tasks), ("max_message_size", max_message_size)):
        if not is_whole(value, 1):
            raise BadValue(name, value, "it must be a whole number, 1 or more")
    bounds = Bounds(
        message_size=max_message_size,
        ping_interval=20.0,
        ping_timeout=answer_within,
        send_timeout=answer_within,
    )
    line = _Line(endpoint(str(url), token, watch), bounds, ssl_context, patience, max_tasks)
    connection = await line.connect()
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(line.keep, connection, nursery.cancel_scope)
        await line.remote.newer(0)
        try:
            yield line.remote  # noqa: ASYNC119 - asynccontextmanager closes the generator
        except Exception as error:  # noqa: BLE001 - raised below, outside of the nursery, which would wrap it
            failure = error
        nursery.cancel_scope.cancel()
    failure = failure or line.failure
    if failure is not None:
        raise failure


class Remote:
    """What is known here of a graph that runs somewhere else.

    - `mirror`: its state as a whole, as far as it was told. When all begins anew, as after the server was
      restarted, it is another object, so look it up each time.
    - `connected`: whether there is a connection at the moment.
    """

    def __init__(self, line: _Line) -> None:
        self.mirror = Mirror()
        self.connected = False
        self._line = line
        # How often the mirror has changed, and who waits for that.
        self._version = 0
        self._waiting = trio.lowlevel.ParkingLot()

    def __repr__(self) -> str:
        state = "over" if self.over else "connected" if self.connected else "not connected"
        return f"<Remote at {self._line.where}, {state}>"

    @property
    def over(self) -> bool:
        """Whether the run is over, and all has been told."""
        return self.mirror.over

    async def changed(self) -> bool:
        """Wait until the mirror changes; False if it never will, as the run is over. Always checkpoints.

        What changes while nobody waits is missed; `async for mirror in remote` misses nothing.
        """
        return await self.newer(self._version) is not None

    def __aiter__(self) -> AsyncIterator[Mirror]:
        """Give the mirror now, and whenever it has changed since; states in between may be left out."""
        return _States(self)

    async def detail(self, uid: int) -> Detail:
        """Return all that the server shows of a task; wait for a connection if there is none.

        Raises `NoAnswer` if there is no such task, or the run is over, with which the server stops answering.
        """
        return await self._line.ask(uid)

    def take(self, mirror: Mirror) -> None:
        """Let this be the state now; for whoever keeps the connection."""
        self.mirror = mirror
        self._version += 1
        self._waiting.unpark_all()

    async def newer(self, version: int) -> int | None:
        """Wait for a later version of the mirror, and return it; None if there will be none."""
        await trio.lowlevel.checkpoint()
        while self._version == version:
            if self.over:
                return None
            await self._waiting.park()
        return self._version


class _States(AsyncIterator[Mirror]):
    """The states of a remote graph, as they come."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self._version = -1

    async def __anext__(self) -> Mirror:
        version = await self._remote.newer(self._version)
        if version is None:
            raise StopAsyncIteration
        self._version = version
        return self._remote.mirror


@attrs.define(eq=False)
class _Question:
    """A task that was asked for, over which connection, and what was answered."""

    uid: int
    asked: Connection | None = None
    answer: Detail | NoAnswer | None = None
    answered: trio.Event = attrs.field(factory=trio.Event)


class _Line:
    """The connection to a feed, which is made again when it is lost; it keeps the `remote` up to date."""

    def __init__(
        self, where: Endpoint, bounds: Bounds, context: ssl.SSLContext | None, patience: float, most: int
    ) -> None:
        self.where = where
        self.remote = Remote(self)
        # Why it cannot go on.
        self.failure: GraphError | None = None
        self._bounds = bounds
        self._context = context
        self._patience = patience
        self._most = most
        self._connection: Connection | None = None
        # How many attempts to connect there have been since something was heard.
        self._attempts = 0
        # The state that messages are applied to: the mirror of the remote, or what will be in its place once
        # it is whole.
        self._coming = self.remote.mirror
        # What has not been answered, in the order in which answers come.
        self._questions: deque[_Question] = deque()

    async def connect(self) -> Connection:
        """Return a connection. Raises `Unreachable` or `WatchRefused`."""
        watch = self.remote.mirror.resumed(self.where.watch)
        try:
            return await dial(self.where, watch, self._bounds, self._context)
        except Refused as refused:
            if refused.status >= FAULT_OF_SERVER or refused.status in MAY_PASS:
                raise Unreachable(self.where, f"status {refused.status}: {refused.text}") from None
            raise WatchRefused(self.where, refused) from None
        except OSError as error:
            raise Unreachable(self.where, error) from None

    async def keep(self, connection: Connection, scope: trio.CancelScope) -> None:  # noqa: ASYNC910 - the whole of a trio task
        """Listen until the run is over, and on to the next connection; cancel the scope if that cannot be."""
        try:
            while not await self._listen(connection):
                connection = await self._connect_again()
        except (Unreachable, WatchRefused, BadFeed) as error:
            self.failure = error
            scope.cancel()
        for question in self._questions:
            self._answer(question, NoAnswer(question.uid, "the run is over"))

    async def ask(self, uid: int) -> Detail:
        """Return the answer to a question. Raises `NoAnswer`."""
        if self.remote.over:
            await trio.lowlevel.checkpoint()
            raise NoAnswer(uid, "the run is over, and the server has closed the connection")
        question = _Question(uid)
        self._questions.append(question)
        await self._put(question)
        await question.answered.wait()
        if isinstance(question.answer, Detail):
            return question.answer
        raise question.answer or NoAnswer(uid, "nobody knows why")

    async def _listen(self, connection: Connection) -> bool:
        """Take in what the server says, until it closes, or the run is over (True)."""
        remote = self.remote
        self._connection, self._coming, remote.connected = connection, remote.mirror, True
        end = Closed(NORMAL)
        try:
            for question in tuple(self._questions):
                await self._put(question)
            while not remote.over:
                self._apply(decode_message(await connection.receive()))
        except (Violation, BadMessage) as error:
            end = error if isinstance(error, Violation) else Closed(BAD_DATA)
            raise BadFeed(self.where, str(error)) from None
        except Closed as closed:
            end = closed
        finally:
            self._connection, remote.connected = None, False
            connection.hurry()
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 3 * CLOSING):
                await connection.close(end.code, end.reason)
        return remote.over

    async def _connect_again(self) -> Connection:
        give_up_at = trio.current_time() + self._patience
        while True:
            delay = min(LONGEST_DELAY, FIRST_DELAY * 2**self._attempts) * random.uniform(0.5, 1)  # noqa: S311 - nothing secret about it
            self._attempts = min(self._attempts + 1, MOST_DOUBLINGS)
            await trio.sleep_until(min(trio.current_time() + delay, give_up_at))
            try:
                return await self.connect()
            except Unreachable:
                if trio.current_time() >= give_up_at:
                    raise

    def _apply(self, message: Message) -> None:
        if isinstance(message, Snapshot | Types) and message.version != VERSION:
            raise BadFeed(
                self.where,
                f"it speaks version {message.version} of the protocol, and this is version {VERSION}",
            )
        self._attempts = 0
        if isinstance(message, Detail | Problem):
            self._take_answer(message)
            return
        if isinstance(message, Snapshot) and message.first:
            self._coming = Mirror()
        self._coming.apply(message)
        if len(self._coming.tasks) > self._most:
            raise BadFeed(self.where, f"it has more than max_tasks={self._most} tasks to watch")
        if self._coming.complete or self._coming.over:
            self.remote.take(self._coming)

    async def _put(self, question: _Question) -> None:  # noqa: ASYNC910 - its callers wait for more
        """Ask, unless it was asked over this connection already; without one it is asked over the next."""
        connection = self._connection
        if connection is not None and question.asked is not connection:
            question.asked = connection
            try:
                await connection.send(encode(Ask(uid=question.uid)))
            except Closed:
                pass
            except trio.Cancelled:  # nothing was sent, so there will be no answer
                self._questions.remove(question)
                raise

    def _take_answer(self, message: Detail | Problem) -> None:
        if not self._questions or (
            isinstance(message, Detail) and message.task.uid != self._questions[0].uid
        ):
            raise BadFeed(self.where, "it answers what nobody has asked")
        question = self._questions.popleft()
        if isinstance(message, Detail):
            self._answer(question, message)
        else:
            self._answer(question, NoAnswer(question.uid, message.text))

    @staticmethod
    def _answer(question: _Question, answer: Detail | NoAnswer) -> None:
        question.answer = answer
        question.answered.set()
