"""The feed of a graph as a websocket, for observers outside of the program.

    async with trio.open_nursery() as nursery:
        address = await nursery.start(serve_websocket, graph)
        print("watch it at", address)
        await execute_graph(graph)
        nursery.cancel_scope.cancel()

Whatever clients do, the server, the graph and the other clients go on: each of them has a place, a pace and
bounds. `docs/protocol.md` says what is said.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence

import attrs
import trio
from wsproto.connection import Connection as Protocol

from trio_graph_scheduler.graph import BadType, BadValue, GraphError, TaskGraph
from trio_graph_scheduler.graph.values import is_seconds, is_whole
from trio_graph_scheduler.observe.feed import Feed, FeedSession
from trio_graph_scheduler.observe.feed.messages import Ask, Message, Problem, Watch
from trio_graph_scheduler.observe.feed.wire import decode_request, encode

from .connection import CLOSING, GOING_AWAY, INTERNAL, NORMAL, Bounds, Closed, Connection, linger
from .gate import Gate, Refused, host_and_port
from .handshake import Handshake, response
from .listening import Address, Turnstile, address_of, listen
from .queries import watch_of
from .share import Share

SPARE = 8
"""Connections beyond the limit that are open for as long as it takes to tell them so."""
logger = logging.getLogger(__name__)


@attrs.frozen(kw_only=True)
class Limits:
    """What a server allows its clients. Times are in seconds.

    - `clients`: how many may be connected, those included that have not said yet what they want. Others are
      told "503 Service Unavailable".
    - `share`: the part of the time of trio's loop, between 0 and 1, that may go into answering all of them.
      If they want more, they are told later.
    - `message_size`: characters of a request.
    - `handshake_timeout`: how long a client may take to say what it wants.
    - `ping_interval`: a client is pinged after such a silence, and taken for dead if it does not answer
      within `ping_timeout`.
    - `send_timeout`: a client that takes longer to read 64 KiB is closed with code 1013, and if it reads
      nothing for twice as long, without any.

    Raises `BadValue`.
    """

    clients: int = 100
    share: float = 0.1
    message_size: int = 65_536
    handshake_timeout: float = 5.0
    ping_interval: float = 20.0
    ping_timeout: float = 20.0
    send_timeout: float = 10.0

    def __attrs_post_init__(self) -> None:
        for name in ("clients", "message_size"):
            if not is_whole(getattr(self, name), 1):
                raise BadValue(name, getattr(self, name), "it must be a whole number, 1 or more")
        for name in ("handshake_timeout", "ping_interval", "ping_timeout", "send_timeout"):
            if not is_seconds(getattr(self, name)) or not getattr(self, name):
                raise BadValue(name, getattr(self, name), "it must be a number of seconds, more than 0")
        if not is_seconds(self.share) or not 0 < self.share <= 1:
            raise BadValue("share", self.share, "it must be a part of the time: more than 0, at most 1")


async def serve_websocket(
    graph: TaskGraph | Feed,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    token: str | None = None,
    hosts: Iterable[str] = (),
    origins: Iterable[str] = (),
    interval: float = 0.05,
    limits: Limits | None = None,
    task_status: trio.TaskStatus[Address] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Tell observers about a graph over websockets, until cancelled.

        address = await nursery.start(partial(serve_websocket, graph, token="..."))

    It goes on after the run: who comes then is told how it ended.

    - `graph`: a graph, or a `Feed` of it where that has options.
    - `host`, `port`: where to listen. Port 0: one that is free. A name may stand for several addresses.
    - `token`, `hosts`, `origins`: who is let in, as `Gate` has it; `hosts` are names beside `host` and
      the addresses themselves, such as the one of a proxy.
    - `interval`: seconds between two messages to a client, at least.

    `nursery.start` returns the `Address`; its `str()` is the URL. Raises `NeedsToken` if there is none, and
    other computers could connect; `BadValue` or `BadType`; `OSError` if it cannot listen there. When it is
    cancelled all clients are told what there is still to tell, if that goes at once, and closed with code
    1001, which takes three seconds at most.
    """
    if not isinstance(graph, TaskGraph | Feed):
        raise BadType("the graph to serve", graph, "it must be a TaskGraph, or a Feed of one: Feed(graph)")
    feed = graph if isinstance(graph, Feed) else Feed(graph)
    feed.session(interval=interval).close()  # refuses an interval that cannot be
    gate = Gate(hosts=hosts, origins=origins, token=token)
    limits = limits or Limits()
    listeners = await listen(host, port, protected=token is not None)
    address = address_of(listeners)
    own = {host.lower(), "localhost", "127.0.0.1", "::1", *address.bound}
    server = _Server(
        feed, gate, frozenset(host_and_port(name, address.port) for name in own), interval, limits
    )
    task_status.started(address)
    await server.run(listeners)


# One server -------------------------------------------------------------------------------------------------


class _Server:
    """What all clients of one server share."""

    def __init__(self, feed: Feed, gate: Gate, own: frozenset[str], interval: float, limits: Limits) -> None:
        self.feed = feed
        self.share = Share(limits.share)
        self._interval = interval
        self._gate = gate
        # The hosts under which it is reached, as far as it knows; others have the gate's word.
        self._own = own
        self._limits = limits
        self._bounds = Bounds(
            message_size=limits.message_size,
            ping_interval=limits.ping_interval,
            ping_timeout=limits.ping_timeout,
            send_timeout=limits.send_timeout,
        )
        self._connections = 0
        self._places = trio.Semaphore(limits.clients + SPARE)
        # The last message that was told, and as which text: several clients may be told the same.
        self._told: tuple[Message | None, str] = (None, "")
        # The kinds of errors that have been logged.
        self._failures: set[type[Exception]] = set()

    async def run(self, listeners: Sequence[trio.SocketListener]) -> None:
        """Serve whoever comes, until cancelled."""
        turnstiles = [Turnstile(listener, self._places, self.share) for listener in listeners]
        await trio.serve_listeners(self._serve, turnstiles)

    def session(self, watch: Watch) -> FeedSession:
        """Return what is told to somebody who watches this. Raises `GraphError`."""
        return _FrugalSession(self.feed, watch, self._interval, self.share)

    def encoded(self, message: Message) -> str:
        """Return a message as a text."""
        if self._told[0] is not message:
            self._told = message, encode(message)
        return self._told[1]

    def note(self, error: Exception) -> None:
        """Log what went wrong here, which concerns one client only; the first time of each kind in full."""
        if type(error) in self._failures:
            logger.debug("A client of the feed could not be served: %r", error)
        else:
            self._failures.add(type(error))
            logger.error("A client of the feed could not be served; all else goes on", exc_info=error)

    async def _serve(self, stream: trio.SocketStream) -> None:  # noqa: ASYNC910 - the whole of a trio task
        self._connections += 1
        try:
            await self._welcome(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # it has gone
        except Exception as error:  # noqa: BLE001 - a client must not take the server down
            self.note(error)
        finally:
            self._connections -= 1
            self._places.release()  # trio closes the stream

    async def _welcome(self, stream: trio.SocketStream) -> None:
        """Find out what a client wants, and tell it, or why not."""
        try:
            session, protocol, answer = await self._granted(stream)
        except Refused as refused:
            with trio.move_on_after(CLOSING):
                await stream.send_all(response(refused))
                await linger(stream, self.share)
            return
        with session:
            await stream.send_all(answer)  # so short that it never has to wait
            await _Client(self, Connection(stream, protocol, self._bounds, self.share), session).serve()

    async def _granted(self, stream: trio.SocketStream) -> tuple[FeedSession, Protocol, bytes]:
        """Return what a client asked for, and the answer that grants it. Raises `Refused`."""
        if self._connections > self._limits.clients:
            raise Refused(503, "there are too many clients; try again later")
        request = Handshake(stream, self.share)
        with trio.move_on_after(self._limits.handshake_timeout) as scope:
            await request.read()
        if scope.cancelled_caught:
            raise Refused(408, "no request came in time")
        here = host_and_port(*stream.socket.getsockname()[:2])
        self._gate.check(request.target, request.headers, self._own | {here})
        protocol, answer = request.upgrade()
        try:
            return self.session(watch_of(request.target)), protocol, answer
        except GraphError as error:
            raise Refused(400, str(error)) from None


# One client -------------------------------------------------------------------------------------------------


class _FrugalSession(FeedSession):
    """A session whose work counts for the share of all clients."""

    def __init__(self, feed: Feed, watch: Watch, interval: float, share: Share) -> None:
        super().__init__(feed, watch, interval)
        self._share = share

    def poll(self) -> Message | None:
        with self._share.spending():
            return super().poll()


class _Client:
    """One client whose handshake is done."""

    def __init__(self, server: _Server, connection: Connection, session: FeedSession) -> None:
        self._server = server
        self._connection = connection
        self._session = session
        # How it ended; None if it is the server that stops.
        self._end: Closed | None = None

    async def serve(self) -> None:
        """Tell the client what it wants to know, until one of us closes."""
        try:
            async with trio.open_nursery() as nursery:
                for work in (self._listen, self._tell):
                    nursery.start_soon(self._until_closed, work, nursery.cancel_scope)
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 3 * CLOSING):
                if self._end is None:
                    with trio.move_on_after(CLOSING) as scope:
                        await self._until_closed(self._tell_the_rest, scope)
                self._session.close()
                end = self._end or Closed(GOING_AWAY, "the server stops")
                await self._connection.close(end.code, end.reason)

    async def _until_closed(self, work: Callable[[], Awaitable[None]], scope: trio.CancelScope) -> None:  # noqa: ASYNC910 - most of a trio task
        try:
            await work()
        except Closed as closed:
            self._end = self._end or closed
        except Exception as error:  # noqa: BLE001 - whatever goes wrong concerns this client only
            self._server.note(error)
            self._end = self._end or Closed(INTERNAL, "something went wrong here")
        finally:
            self._connection.hurry()
        scope.cancel()

    async def _tell(self) -> None:
        """Tell what the session says, or the one that has taken its place, until the run is over."""
        told = None
        while told is not self._session:
            told = self._session
            async for message in told:
                await self._send(message)
        raise Closed(NORMAL, "the run is over")

    async def _tell_the_rest(self) -> None:
        """Tell what there is still to tell, without waiting for more."""
        while True:
            try:
                message = self._session.poll()
            except StopIteration:
                raise Closed(NORMAL, "the run is over") from None
            if message is None:
                raise Closed(GOING_AWAY, "the server stops")
            await self._send(message)

    async def _listen(self) -> None:
        """Answer requests, one after another."""
        while True:
            text = await self._connection.receive()
            with self._server.share.spending():
                answer = self._answer(text)
            if answer is not None:
                await self._send(answer)

    def _answer(self, text: str) -> Message | None:
        try:
            request = decode_request(text)
            if isinstance(request, Ask):
                return self._server.feed.detail(request.uid)
            session = self._server.session(request)
        except GraphError as error:
            return Problem(text=str(error))
        self._session.close()
        self._session = session
        return None

    async def _send(self, message: Message) -> None:
        with self._server.share.spending():
            text = self._server.encoded(message)
        await self._connection.send(text)
        await self._server.share.turn()
