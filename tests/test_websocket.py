"""The feed as a websocket: who is let in, what is told, and what no client can do."""

from __future__ import annotations

import gc
import json
import logging
import resource
import socket
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from functools import partial
from math import inf
from typing import Any

import attrs
import pytest
import trio
import trio_websocket
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, lockstep_stream_pair, memory_stream_pair
from websockets.exceptions import InvalidStatus
from websockets.sync import client as foreign
from wsproto import ConnectionType
from wsproto.connection import Connection as Protocol

from tests.sockets import RawClient, frame, on_sockets, raw, request, resources, served, start_server
from tests.support import examples, nothing
from trio_graph_scheduler import (
    BadType,
    BadValue,
    TaskGraph,
    TaskType,
    execute_graph,
)
from trio_graph_scheduler.observe.feed.feed import Feed
from trio_graph_scheduler.observe.feed.messages import (
    Ask,
    Changes,
    Detail,
    Problem,
    Snapshot,
    Types,
    Watch,
)  # fmt: skip
from trio_graph_scheduler.observe.feed.mirror import Mirror
from trio_graph_scheduler.observe.feed.wire import decode_message, encode
from trio_graph_scheduler.observe.websocket.connection import Bounds, Closed, Connection
from trio_graph_scheduler.observe.websocket.listening import Address, NeedsToken
from trio_graph_scheduler.observe.websocket.server import SPARE, Limits, serve_websocket
from trio_graph_scheduler.observe.websocket.share import Share

TOKEN = "the-token-of-the-tests"  # noqa: S105 - of no server


def small_graph(tasks: int = 3) -> TaskGraph:
    """Return a graph of a few tasks, which has not run."""
    graph = TaskGraph(name="small")
    for number in range(tasks):
        graph.add(nothing, name=f"task {number}")
    return graph


async def works(address: Address) -> None:
    """Check that a client is served as it should be."""
    async with raw(address) as client:
        await client.upgrade(address)
        assert isinstance(await client.message(), Snapshot)


# Addresses --------------------------------------------------------------------------------------------------


def test_it_is_bound_to_loopback_at_a_free_port() -> None:
    """Without further ado it listens on 127.0.0.1 at a port that is free, and says where."""

    async def main() -> None:
        async with served(small_graph()) as address, served(small_graph()) as other:
            assert address.host == "127.0.0.1"
            assert address.bound == ("127.0.0.1",)
            assert address.port != other.port
            assert str(address) == address.url == f"ws://127.0.0.1:{address.port}/"
            await works(address)

    on_sockets(main)


class Resolver(trio.abc.HostnameResolver):
    """Knows that `several` is two addresses of this computer."""

    async def getaddrinfo(self, host: Any, port: Any, *_: object) -> Any:
        """Return both addresses."""
        await trio.lowlevel.checkpoint()
        assert host in (b"several", "several")
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in ("127.0.0.1", "127.0.0.2")
        ]

    async def getnameinfo(self, *_: object) -> Any:
        """Is not needed."""
        raise NotImplementedError


def test_a_name_stands_for_all_its_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host with several addresses is served at all of them, at one port that is free at each."""
    ports: list[int] = []
    really_open = trio.open_tcp_listeners

    async def open_listeners(port: int, *, host: str) -> Any:
        ports.append(port)
        if len(ports) == 2:
            raise OSError("somebody else has this one at the other address")
        return await really_open(port, host=host)

    monkeypatch.setattr(trio, "open_tcp_listeners", open_listeners)

    async def main() -> None:
        trio.socket.set_custom_hostname_resolver(Resolver())
        async with served(small_graph(), host="several") as address:
            assert address.bound == ("127.0.0.1", "127.0.0.2")
            for host in address.bound:
                here = attrs.evolve(address, host=host)
                for name in (host, "several"):
                    async with raw(here) as client:
                        await client.upgrade(here, Host=f"{name}:{address.port}")
        assert ports[0] == ports[2] == 0
        assert ports[1] != ports[3] == address.port

    on_sockets(main)


def test_off_loopback_it_needs_a_token() -> None:
    """To be reached from elsewhere without a token is refused, says what to do, and leaves nothing."""

    async def main() -> None:
        before = resources()
        for host in ("0.0.0.0", "::"):  # noqa: S104 - that is the point
            with pytest.raises(NeedsToken, match="token="), suppress(OSError):
                await serve_websocket(small_graph(), host=host)
        assert resources() == before
        async with served(small_graph(), host="0.0.0.0", token=TOKEN) as address:  # noqa: S104 - see above
            assert address.host == "127.0.0.1"
            assert address.bound == ("0.0.0.0",)  # noqa: S104 - see above
            async with raw(address) as client:
                await client.upgrade(address, f"/?token={TOKEN}")
            async with raw(address) as client:
                assert await client.status(request(address)) == 401

    on_sockets(main)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"interval": -1}, BadValue),
        ({"interval": "often"}, BadValue),
        ({"origins": ["null"]}, BadValue),
        ({"hosts": "name"}, BadType),
        ({"token": ""}, BadValue),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_opened(
    options: dict[str, Any], error: type[Exception]
) -> None:
    """Options that make no sense are errors at once."""

    async def main() -> None:
        before = resources()
        with pytest.raises(error):
            await serve_websocket(small_graph(), **options)
        with pytest.raises(BadType, match="TaskGraph"):
            await serve_websocket("graph")  # type: ignore[arg-type]  # that is the point
        assert resources() == before

    on_sockets(main)


@pytest.mark.parametrize("field", [field.name for field in attrs.fields(Limits)])
@pytest.mark.parametrize("value", [0, -1, None, "1", True, inf])
def test_limits_that_cannot_be(field: str, value: object) -> None:
    """Every limit is a number above 0 of its kind, or an error that names it."""
    with pytest.raises(BadValue, match=field):
        Limits(**{field: value})  # type: ignore[arg-type]  # that is the point


# Who is let in ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Authorization": "Bearer wrong"}, 403),
        ({"Authorization": ""}, 401),
        ({"Host": ""}, 400),
    ],
)
def test_strangers_are_refused_before_the_upgrade(headers: dict[str, str], status: int) -> None:
    """A wrong or missing Host, Origin or token is refused, whatever the path and the method."""
    headers = {"Authorization": f"Bearer {TOKEN}"} | headers

    async def main() -> None:
        async with served(small_graph(), token=TOKEN) as address:
            for method in ("GET", "POST", "OPTIONS", "BREW"):
                for target in ("/", "/watch/x?view=types", "*", "http://localhost/"):
                    async with raw(address) as client:
                        assert await client.status(request(address, target, method, **headers)) == status

    on_sockets(main)


@pytest.mark.parametrize(
    ("wrong", "status"),
    [
        ({"method": "POST"}, 405),
        ({"Upgrade": ""}, 426),
        ({"Connection": "close"}, 426),
        ({"Sec-WebSocket-Version": "8"}, 426),
        ({"Sec-WebSocket-Key": ""}, 426),
        ({"target": "/?view=nonsense"}, 400),
        ({"target": "/?states=nonsense"}, 400),
        ({"target": "/?groups=nonsense"}, 400),
        ({"target": "/?section=nonsense"}, 400),
        ({"target": "/?types=%ff"}, 400),
        ({"Host": "\xff"}, 403),
        ({"Origin": "http://127.0.0.1"}, 403),
        ({"Connection": "\xff"}, 426),
        ({"Sec-WebSocket-Protocol": "\xff"}, 426),
        ({"Sec-WebSocket-Extensions": "\xff"}, 426),
        ({"Sec-WebSocket-Key": "\xff"}, 101),
    ],
)
def test_what_is_no_upgrade_is_told_so(wrong: dict[str, str], status: int) -> None:
    """A request that cannot be granted gets a status that says why, and the server goes on."""

    async def main() -> None:
        async with served(small_graph()) as address:
            async with raw(address) as client:
                await client.send(request(address, **wrong))
                assert int((await client.head()).split()[1]) == status
            await works(address)

    on_sockets(main)


def test_pages_of_ones_own_are_let_in() -> None:
    """Pages of the server's own origin, and of those that were named, are let in."""

    async def main() -> None:
        async with served(
            small_graph(), origins=["https://board.example"], hosts=["proxy.example"]
        ) as address:
            own = f"http://127.0.0.1:{address.port}"
            for headers in (
                {"Origin": own},
                {"Origin": "https://board.example"},
                {"Host": "proxy.example", "Origin": "https://proxy.example"},
            ):
                async with raw(address) as client:
                    await client.upgrade(address, **headers)

    on_sockets(main)


def test_the_token_is_never_logged(caplog: pytest.LogCaptureFixture) -> None:
    """No log has the token, at whatever level, be it right or wrong, in the URL or a header."""
    caplog.set_level(logging.DEBUG)

    async def main() -> None:
        async with served(small_graph(), token=TOKEN, limits=Limits(clients=1)) as address:
            async with raw(address) as client:
                await client.upgrade(address, f"/?token={TOKEN}")
                async with raw(address) as other:
                    assert await other.status(request(address, f"/?token={TOKEN}")) == 503
                await client.send(frame(2, TOKEN.encode()))
                await client.end()
            for sent in (
                request(address, f"/?token={TOKEN}x"),
                request(address, Authorization=f"Bearer {TOKEN}x"),
                request(address, f"/?token={TOKEN}&view=nonsense"),
                request(address, f"/?token={TOKEN}", Upgrade=""),
            ):
                async with raw(address) as client:
                    await client.send(sent)
                    response = await client.head()
                    assert response
                    assert TOKEN.encode() not in response

    on_sockets(main)
    assert TOKEN not in caplog.text


# What is told -----------------------------------------------------------------------------------------------


def test_the_url_says_what_is_watched() -> None:
    """The stream begins at once, with what the query of the URL asks for; fields may be repeated."""
    graph = TaskGraph(worker_loops={"other": 1})
    for name in "abc":
        graph.add(TaskType(nothing, name=name, group="other" if name == "a" else None))

    async def first(address: Address, target: str) -> Any:
        async with raw(address) as client:
            await client.upgrade(address, target)
            return await client.message()

    async def main() -> None:
        async with served(graph) as address:
            for target, names in (
                ("/", "abc"),
                ("/?types=a&types=b", "ab"),
                ("/?types=a&types=b&groups=default", "b"),
                ("/?states=READY&states=FAILED", "abc"),
                ("/?states=FAILED", ""),
                ("/any/path?section=2", "b"),
            ):
                snapshot = await first(address, target)
                assert [task.type for task in snapshot.tasks] == list(names), target
            types = await first(address, "/?view=types&types=a")
            assert isinstance(types, Types)
            assert [kind.name for kind in types.types] == ["a"]

    on_sockets(main)


def test_it_tells_until_the_end() -> None:
    """Clients are told of every task until the run is over, then closed with 1000; so are late-comers."""
    graph = small_graph(30)

    async def follow(address: Address, begun: trio.Event) -> None:
        mirror = Mirror()
        async with raw(address) as client:
            await client.upgrade(address)
            while not mirror.over:
                mirror.apply(await client.message())
                begun.set()
            assert await client.end() == 1000
        assert {uid: task.state for uid, task in mirror.tasks.items()} == {
            task.uid: str(task.state) for task in graph
        }
        assert {task.state for task in mirror.tasks.values()} == {"SUCCEEDED"}

    async def main() -> None:
        async with served(graph, interval=0.001) as address:
            async with trio.open_nursery() as nursery:
                for begun in (trio.Event(), trio.Event()):
                    nursery.start_soon(follow, address, begun)
                    await begun.wait()
                await execute_graph(graph)
            await follow(address, trio.Event())

    on_sockets(main)


def test_a_stopped_server_says_so() -> None:
    """When the server is cancelled while the graph runs, clients are closed with 1001."""

    async def main() -> None:
        async with trio.open_nursery() as nursery, AsyncExitStack() as stack:
            address, scope = await start_server(nursery, small_graph())
            clients = [await stack.enter_async_context(raw(address)) for _ in range(3)]
            for client in clients:
                await client.upgrade(address)
            await clients[0].message()
            scope.cancel()
            assert [await client.end() for client in clients] == [1001] * 3

    on_sockets(main)


@pytest.mark.parametrize("view", ["tasks", "types"])
def test_what_there_is_to_tell_is_told_when_it_stops(view: str) -> None:
    """A server that is cancelled right after the run tells how that ended, and closes with 1000."""

    async def main() -> None:
        graph = small_graph(1_000)
        mirror = Mirror()
        async with trio.open_nursery() as nursery:
            options = {"interval": 3600, "limits": Limits(share=1.0)}
            address, scope = await start_server(nursery, graph, **options)
            async with raw(address) as client:
                await client.upgrade(address, f"/?view={view}")
                while not mirror.complete:
                    mirror.apply(await client.message())
                await execute_graph(graph)
                scope.cancel()
                while not mirror.over:
                    mirror.apply(await client.message())
                assert await client.end() == 1000
        states = [task.state for task in mirror.tasks.values()]
        assert states == ([] if view == "types" else ["SUCCEEDED"] * 1_000)

    on_sockets(main)


def test_a_client_may_watch_something_else() -> None:
    """`watch` takes the place of what was watched, `ask` is answered in between, as often as one likes."""

    async def main() -> None:
        graph = small_graph()
        async with served(graph) as address, raw(address) as client:
            await client.upgrade(address)
            assert isinstance(await client.message(), Snapshot)
            for _ in range(3):
                await client.send(frame(1, encode(Ask(uid=2)).encode()))
                detail = await client.message()
                assert isinstance(detail, Detail)
                assert detail.task.uid == 2
            await client.send(frame(1, encode(Watch(view="types")).encode()))
            assert isinstance(await client.message(), Types)
            await client.send(frame(1, encode(Watch(section=3)).encode()))
            snapshot = await client.message()
            assert isinstance(snapshot, Snapshot)
            assert [task.uid for task in snapshot.tasks] == [3]
            graph[3].cancel()
            changes = await client.message()
            assert isinstance(changes, Changes)
            assert [task.state for task in changes.tasks] == ["CANCELLED"]

    on_sockets(main)


@pytest.mark.parametrize(
    "text",
    [
        "", "no json", "[]", "{}", "null", '{"kind":"nonsense"}', '{"kind":"ask"}',
        '{"kind":"ask","uid":"1"}',
        '{"kind":"ask","uid":0}', '{"kind":"ask","uid":-1}', '{"kind":"ask","uid":99}', '{"kind":"end"}',
        '{"kind":"watch","states":["nonsense"]}', '{"kind":"watch","groups":["nonsense"]}',
        '{"kind":"watch","view":3}', '{"kind":"watch","view":"nonsense"}', "[" * 60_000,
        '{"a":' * 10_000, '{"kind":"ask","uid":' + "9" * 5_000 + "}", '{"kind":"ask","uid":1e999}',
        '{"kind":"ask","uid":NaN}', '"\\ud800"', '{"kind":"ask","uid":1,"uid":"x"}',
    ],
)  # fmt: skip
def test_a_bad_request_is_a_problem_and_nothing_more(text: str) -> None:
    """What cannot be answered gets a `Problem` of bounded length, and what was watched goes on."""

    async def main() -> None:
        graph = small_graph()
        async with served(graph) as address, raw(address) as client:
            await client.upgrade(address)
            assert isinstance(await client.message(), Snapshot)
            await client.send(frame(1, text.encode()))
            problem = await client.message()
            assert isinstance(problem, Problem)
            assert len(problem.text) < 2_000
            graph[1].cancel()
            assert isinstance(await client.message(), Changes)

    on_sockets(main)


def test_resuming_leaves_no_gap() -> None:
    """With the number that was heard last only what came later is told; with another feed all of it."""

    async def main() -> None:
        graph = small_graph()
        async with served(graph) as address:
            async with raw(address) as client:
                await client.upgrade(address)
                heard = await client.message()
                assert isinstance(heard, Snapshot)
            graph[2].cancel()
            async with raw(address) as client:
                await client.upgrade(address, f"/?feed={heard.graph.feed}&number={heard.number}")
                changes = await client.message()
                assert isinstance(changes, Changes)
                assert [task.uid for task in changes.tasks] == [2]
            async with raw(address) as client:
                await client.upgrade(address, f"/?feed=another&number={heard.number}")
                assert isinstance(await client.message(), Snapshot)

    on_sockets(main)


# Clients that are not ours ----------------------------------------------------------------------------------


def test_the_client_of_websockets() -> None:
    """A client by others, in a thread, is told all there is, asks, and is closed with 1000."""
    graph = small_graph(10)

    def follow(address: Address, ready: Callable[[], None]) -> tuple[Mirror, int | None]:
        mirror = Mirror()
        with foreign.connect(
            f"{address}?view=tasks", additional_headers={"Authorization": f"Bearer {TOKEN}"}
        ) as it:
            mirror.apply(decode_message(it.recv()))
            it.send(json.dumps({"kind": "ask", "uid": 1}))
            assert isinstance(decode_message(it.recv()), Detail)
            it.ping().wait()
            ready()
            for message in it:
                mirror.apply(decode_message(message))
            return mirror, it.close_code

    def refused(address: Address) -> int:
        with pytest.raises(InvalidStatus) as raised, foreign.connect(str(address)):
            pass
        return raised.value.response.status_code

    async def main() -> None:
        async with served(graph, token=TOKEN, interval=0.001) as address, trio.open_nursery() as nursery:
            asked = trio.Event()
            ready = partial(trio.from_thread.run_sync, asked.set)

            async def client() -> None:
                mirror, code = await trio.to_thread.run_sync(follow, address, ready)
                assert mirror.over
                assert [task.state for task in mirror.tasks.values()] == ["SUCCEEDED"] * 10
                assert code == 1000

            assert await trio.to_thread.run_sync(refused, address) == 401
            nursery.start_soon(client)
            await asked.wait()
            await execute_graph(graph)

    on_sockets(main)


def test_the_client_of_trio_websocket() -> None:
    """Another one, on trio, is served as well."""

    async def main() -> None:
        async with served(small_graph()) as address, trio_websocket.open_websocket_url(str(address)) as it:
            assert isinstance(decode_message(await it.get_message()), Snapshot)
            await it.ping()
            await it.send_message(encode(Ask(uid=1)))
            assert isinstance(decode_message(await it.get_message()), Detail)

    on_sockets(main)


# Clients that misbehave -------------------------------------------------------------------------------------

BOMB = b"\xec\xc1\x01\x01\x00\x00\x00\x80\x90\xfe\xaf\xee\x08\x0a" * 1_000


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        pytest.param(frame(1, b"{}", mask=False), 1002, id="unmasked"),
        pytest.param(frame(1, BOMB, rsv=4), 1002, id="compressed"),
        pytest.param(frame(1, b"{}", rsv=1), 1002, id="reserved bit"),
        pytest.param(frame(3, b"{}"), 1002, id="unknown opcode"),
        pytest.param(frame(9, b"x" * 126), 1002, id="long ping"),
        pytest.param(frame(9, b"x", fin=False), 1002, id="fragmented ping"),
        pytest.param(frame(0, b"{}"), 1002, id="continues nothing"),
        pytest.param(frame(1, b"{", fin=False) + frame(1, b"}"), 1002, id="begins twice"),
        pytest.param(frame(1, b"\xff\xfe"), 1007, id="no text"),
        pytest.param(frame(1, b"\xed\xa0\x80"), 1007, id="a surrogate"),
        pytest.param(frame(1, b"\xc3", fin=False) + frame(0, b"\x28"), 1007, id="no text in two parts"),
        pytest.param(frame(1, b"\xc3"), 1007, id="half a character"),
        pytest.param(frame(2, b"{}"), 1003, id="binary"),
        pytest.param(frame(1, b"x" * 1_001), 1009, id="too large"),
        pytest.param(frame(1, b"x" * 9_000, length=2**62), 1009, id="an endless one"),
        pytest.param(frame(1, b"x", length=2**63), 1002, id="an impossible one"),
        pytest.param(frame(1, b"x", fin=False) + frame(0, b"x", fin=False) * 600, 1009, id="in small parts"),
        pytest.param(frame(1, fin=False) + frame(0, fin=False) * 2_000, 1009, id="in empty parts"),
        pytest.param(frame(8, b"\x03"), 1002, id="half a code"),
        pytest.param(frame(8, b"\x03\xed"), 1002, id="a code that is none"),
        pytest.param(frame(8, b"\x03\xe8\xff"), 1007, id="a reason that is no text"),
        pytest.param(frame(8, b"\x03\xe9bye"), 1001, id="well behaved"),
        pytest.param(frame(8), 0, id="without a code"),
        pytest.param(frame(9, b"hello") * 100 + frame(8, b"\x0f\xa0"), 4000, id="after pings"),
    ],
)
def test_protocol_errors_are_closed_with_a_code(
    sent: bytes, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever is against the protocol is closed with its code, concerns nobody else, and is not logged."""

    async def main() -> None:
        limits = Limits(message_size=1_000, share=1.0)
        async with served(small_graph(), limits=limits) as address, raw(address) as bystander:
            await bystander.upgrade(address)
            await bystander.message()
            async with raw(address) as client:
                await client.upgrade(address)
                await client.message()
                await client.send(sent)
                assert await client.end() == code
            await bystander.send(frame(1, encode(Ask(uid=1)).encode()))
            assert isinstance(await bystander.message(), Detail)

    on_sockets(main)
    assert not caplog.records


def test_fragments_make_a_message() -> None:
    """A request may come in parts, with pings between, byte by byte, and before the upgrade is answered."""
    text = encode(Ask(uid=1)).encode()
    parts = frame(1, text[:5], fin=False) + frame(9, b"x") + frame(0, fin=False) + frame(0, text[5:])

    async def main() -> None:
        async with served(small_graph()) as address:
            async with raw(address) as client:
                await client.upgrade(address)
                for byte in parts:
                    await client.send(bytes([byte]))
                assert (await client.frame() or (0,))[0] in (1, 10)
                while not isinstance(await client.message(), Detail):
                    pass
            async with raw(address) as client:
                await client.send(request(address) + parts)
                assert (await client.head()).startswith(b"HTTP/1.1 101")
                while not isinstance(await client.message(), Detail):
                    pass

    on_sockets(main)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        pytest.param(b"garbage\r\n\r\n", 400, id="garbage"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(600), 400, id="tls"),
        pytest.param(bytes(range(256)) * 4, 400, id="bytes"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400, id="two hosts"),
        pytest.param(b"GET / HTTP/9.9\r\n\r\n", 403, id="version"),
        pytest.param(b"GET /" + b"x" * 100_000, 431, id="a long target"),
        pytest.param(b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 20_000, 431, id="many headers"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 403, id="http/2"),
    ],
)
def test_what_is_no_request_is_refused_at_once(
    sent: bytes, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """What is no HTTP, or too long, is refused without waiting for more; nothing is logged."""

    async def main() -> None:
        async with served(small_graph(), limits=Limits(handshake_timeout=3600)) as address:
            async with raw(address) as client:
                await client.send(sent)
                assert await client.status(b"") == status
            await works(address)

    on_sockets(main)
    assert not caplog.records


def test_half_open_handshakes_are_given_up() -> None:
    """Who says nothing, or says it too slowly, is told so when the time for it is over, and closed."""

    async def main() -> None:
        async with served(small_graph(), limits=Limits(handshake_timeout=0.05)) as address:
            async with raw(address) as silent, raw(address) as slow:
                await slow.send(request(address)[:20])
                assert await silent.status(b"") == 408
                assert await slow.status(b"") == 408
            async with raw(address) as gone:
                await gone.stream.send_eof()
                assert not await gone.head()

    on_sockets(main)


def test_there_is_room_for_so_many_clients(caplog: pytest.LogCaptureFixture) -> None:
    """Clients beyond the limit, those included that have said nothing yet, get 503, until somebody leaves."""

    async def main() -> None:
        limits = Limits(clients=2, handshake_timeout=3600)
        async with served(small_graph(), limits=limits) as address, raw(address) as first:
            await first.upgrade(address)
            async with raw(address), raw(address) as third:
                assert await third.status(request(address)) == 503
            while True:
                async with raw(address) as third:
                    await third.send(request(address))
                    if b" 101 " in await third.head():
                        break
            assert isinstance(await first.message(), Snapshot)

    on_sockets(main)
    assert not caplog.records


def test_a_thousand_connections(caplog: pytest.LogCaptureFixture) -> None:
    """Hundreds of silent connections take a few descriptors of the server; who was there is served on."""
    wanted = min(1_000, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 3)

    async def main() -> None:
        graph = small_graph(100)
        limits = Limits(clients=5, handshake_timeout=3600)
        async with served(graph, limits=limits) as address, raw(address) as client:
            await client.upgrade(address)
            await client.message()
            before = resources()[0]
            sockets: list[trio.socket.SocketType] = []
            for _ in range(wanted):
                one = trio.socket.socket()
                with trio.move_on_after(0.5 if sockets else 5):
                    await one.connect((address.host, address.port))
                sockets.append(one)
                if not len(sockets) % 50:
                    own = resources()[0] - before - len(sockets)
                    assert own <= limits.clients + SPARE
            await execute_graph(graph)
            assert await client.end() == 1000
            for one in sockets:
                one.close()

    on_sockets(main)
    assert not caplog.records


def test_a_client_that_never_reads_is_given_up() -> None:
    """It keeps nobody from being served, and its place comes free when it has not read for long enough."""

    async def main() -> None:
        graph = TaskGraph()
        for number in range(5_000):
            graph.add(nothing, name=f"{number} " + "x" * 300)
        limits = Limits(clients=2, send_timeout=0.05, share=1.0)
        async with served(graph, limits=limits) as address:
            stuck = trio.socket.socket()
            stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_048)
            await stuck.connect((address.host, address.port))
            client = RawClient(trio.SocketStream(stuck))
            await client.upgrade(address)
            async with raw(address) as reader:
                await reader.upgrade(address)
                mirror = Mirror()
                while not mirror.complete:
                    mirror.apply(await reader.message())
                while True:
                    async with raw(address) as third:
                        await third.send(request(address))
                        if b" 101 " in await third.head():
                            break
            await execute_graph(graph)
            assert await client.end() in (0, 1013)
            await client.stream.aclose()

    on_sockets(main)


def test_a_flood_of_requests_is_answered_in_turn() -> None:
    """Who asks without reading has one answer under way and is read no further; others are served."""

    async def main() -> None:
        graph = small_graph()
        async with served(graph, limits=Limits(share=0.5)) as address, raw(address) as client:
            await client.upgrade(address)
            flood = frame(1, encode(Ask(uid=1)).encode()) * 1_000
            with trio.move_on_after(0.3):
                while True:
                    await client.stream.send_all(flood)
            await works(address)
            await execute_graph(graph)

    on_sockets(main)


def test_what_fails_here_concerns_one_client(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """If the feed itself fails, that client is closed with 1011; it is logged once in full; others go on."""

    async def main() -> None:
        graph = small_graph()
        feed = Feed(graph)
        monkeypatch.setattr(feed, "detail", lambda _: 1 / 0)
        async with served(feed) as address, raw(address) as bystander:
            await bystander.upgrade(address)
            for _ in range(3):
                async with raw(address) as client:
                    await client.upgrade(address)
                    await client.send(frame(1, encode(Ask(uid=1)).encode()))
                    assert await client.end() == 1011
            await execute_graph(graph)
            assert await bystander.end() == 1000

    on_sockets(main)
    assert [
        record.exc_info is not None for record in caplog.records if record.levelno >= logging.WARNING
    ] == [True]


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(st.binary(max_size=40) | st.builds(frame, st.integers(0, 15), st.binary(max_size=20))))
def test_no_bytes_break_a_connection(chunks: list[bytes]) -> None:
    """Whatever bytes come, a connection gives texts or closes with a code; nothing else is raised."""

    async def main() -> None:
        ours, theirs = memory_stream_pair()
        it = connection(ours)
        for chunk in chunks:
            await theirs.send_all(chunk)
        await theirs.send_eof()
        with pytest.raises(Closed):
            while True:
                assert isinstance(await it.receive(), str)

    trio.run(main, clock=MockClock(autojump_threshold=0))


# Time -------------------------------------------------------------------------------------------------------

BOUNDS = Bounds(message_size=1_000, ping_interval=20, ping_timeout=10, send_timeout=5)


def connection(stream: trio.abc.Stream) -> Connection:
    """Return a server's end of a websocket whose handshake is done."""
    return Connection(stream, Protocol(ConnectionType.SERVER), BOUNDS, Share(1.0))


def timed(main: Callable[[Connection, RawClient], Awaitable[None]]) -> float:
    """Run with two ends of a connection on a mock clock, and return how long it took."""

    async def bounded() -> float:
        ours, theirs = lockstep_stream_pair()
        began = trio.current_time()
        await main(connection(ours), RawClient(theirs))
        return trio.current_time() - began

    return trio.run(bounded, clock=MockClock(autojump_threshold=0))


def test_a_silent_client_is_asked_and_given_up() -> None:
    """After 20 s of silence there is a ping; after 10 s more without a sign of life it is over."""

    async def main(it: Connection, client: RawClient) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.end)
            with pytest.raises(Closed) as raised:
                await it.receive()
            assert raised.value.code == 1011
            nursery.cancel_scope.cancel()

    assert timed(main) == 30


def test_a_client_that_answers_pings_stays() -> None:
    """Whoever answers pings stays, however little else it says."""

    async def main(it: Connection, client: RawClient) -> None:
        async def answer() -> None:
            for _ in range(5):
                assert await client.frame() == (9, b"")
                await trio.sleep(9)
                await client.send(frame(10))
            await client.send(frame(1, b"hello"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer)
            assert await it.receive() == "hello"

    assert timed(main) == 5 * 29


@pytest.mark.parametrize(("delay", "code"), [(4, None), (6, 1013), (11, 0)])
def test_a_slow_reader_is_closed(delay: float, code: int | None) -> None:
    """Who reads within 5 s is served; later it is closed with 1013; after 10 s it is given up without."""

    async def main(it: Connection, client: RawClient) -> None:
        async def send() -> None:
            if code is None:
                await it.send("x" * 100_000)
            else:
                with pytest.raises(Closed) as raised:
                    await it.send("x" * 100_000)
                assert raised.value.code == 1013
                await it.close(1013)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await trio.sleep(delay)
            if code is None:
                assert await client.frame() == (1, b"x" * 100_000)
            else:
                assert await client.end() == code

    timed(main)


def test_closing_takes_a_second_at_most() -> None:
    """A client that does not close its side, or does not even read, cannot hold anybody up for long."""

    async def main(it: Connection, _: RawClient) -> None:
        await it.close(1000)

    async def reading(it: Connection, client: RawClient) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(it.close, 1000)
            assert await client.end() == 1000

    assert timed(main) == 1
    assert timed(reading) == 1


def test_what_is_being_sent_is_sent_to_its_end() -> None:
    """A send that is cancelled goes on while it can, as nothing could follow a part of a frame."""

    async def main(it: Connection, client: RawClient) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(it.send, "hello")
            await trio.sleep(0.5)
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await trio.sleep(3)
                assert await client.frame() == (1, b"hello")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(it.close, 1000)
            assert await client.end() == 1000
            await client.stream.aclose()

    assert timed(main) == 3.5


def test_a_send_that_was_cut_is_the_last() -> None:
    """In a hurry a send has a second; after one that did not come to its end nothing more is sent."""

    async def main(it: Connection, client: RawClient) -> None:
        async def send() -> None:
            with pytest.raises(Closed):
                await it.send("hello")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await trio.sleep(0.5)
            it.hurry()
        with pytest.raises(Closed):
            await it.send("again")
        await it.close(1000)
        assert await client.end() == 0

    assert timed(main) == 1.5


def test_all_clients_share_their_time() -> None:
    """Turns come so far apart that what is spent in them is no more than the share of all the time."""

    async def main() -> None:
        began = trio.current_time()
        share = Share(0.25)
        turns: list[float] = []

        async def one() -> None:
            await share.turn()
            turns.append(trio.current_time() - began)
            share.spend(1.0)

        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(one)
                await trio.sleep(0.5)
        # One second in the first three, and those who have waited together spend three in the next nine.
        assert turns == [0, 3, 3, 3]
        await share.turn()
        assert trio.current_time() - began == 12
        await trio.sleep(100)
        await share.turn()
        assert trio.current_time() - began == 112

    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_whatever_is_done_for_clients_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections, requests, frames and messages all count for the share: one pays for what one causes."""
    spent: list[float] = []
    monkeypatch.setattr(Share, "spend", lambda _, seconds: spent.append(seconds))

    async def main() -> None:
        async with served(small_graph()) as address, raw(address) as client:
            counts = [len(spent)]
            await client.upgrade(address)
            counts.append(len(spent))
            await client.message()
            counts.append(len(spent))
            await client.send(frame(10))
            while len(spent) == counts[-1]:  # noqa: ASYNC110 - the server is at work
                await trio.sleep(0.001)
            counts.append(len(spent))
            await client.send(frame(1, b"{}"))
            await client.message()
            counts.append(len(spent))
            assert counts == sorted(set(counts))

    on_sockets(main)


# What is left -----------------------------------------------------------------------------------------------


def test_nothing_is_left_of_clients() -> None:
    """After 200 clients, polite, rude and refused ones, there are no more tasks, threads and descriptors."""

    async def main() -> None:
        graph = small_graph()
        before = resources()
        async with served(graph, limits=Limits(share=1.0)) as address:
            for one in range(200):
                if not one:
                    before = resources()
                async with raw(address) as client:
                    if one % 4 == 0:
                        assert await client.status(request(address, Host="evil.example")) == 403
                    elif one % 4 == 1:
                        await client.upgrade(address)
                    elif one % 4 == 2:
                        await client.upgrade(address)
                        await client.send(frame(8))
                        await client.end()
            gc.collect()
            while resources() != before:  # noqa: ASYNC110 - the server is at work
                await trio.sleep(0.001)

    on_sockets(main)
