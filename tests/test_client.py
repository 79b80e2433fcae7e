"""A graph that runs somewhere else, watched from here: mirrors, lost connections, servers that misbehave."""

from __future__ import annotations

import gc
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from itertools import pairwise
from math import inf
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock, memory_stream_pair
from wsproto import ConnectionType
from wsproto.connection import Connection as Protocol

from tests.sockets import on_sockets, resources, served, start_server
from tests.support import fail, nothing
from trio_graph_scheduler import BadValue, TaskGraph, current_graph, execute_graph
from trio_graph_scheduler.observe.client import remote as client_module
from trio_graph_scheduler.observe.client.remote import (
    BadFeed,
    NoAnswer,
    Remote,
    Unreachable,
    WatchRefused,
    watch,
)  # fmt: skip
from trio_graph_scheduler.observe.feed.feed import Feed
from trio_graph_scheduler.observe.feed.messages import (
    VERSION,
    Ask,
    Changes,
    End,
    GraphView,
    Message,
    Problem,
    Snapshot,
    TaskView,
    Types,
    Watch,
)  # fmt: skip
from trio_graph_scheduler.observe.feed.mirror import Mirror
from trio_graph_scheduler.observe.feed.wire import decode_request, encode
from trio_graph_scheduler.observe.websocket.connection import Bounds, Closed, Connection
from trio_graph_scheduler.observe.websocket.handshake import Handshake
from trio_graph_scheduler.observe.websocket.listening import Address
from trio_graph_scheduler.observe.websocket.server import Limits
from trio_graph_scheduler.observe.websocket.share import Share

TOKEN = "the-token-of-the-tests"  # noqa: S105 - of no server
QUICK = Limits(share=1.0)
BOUNDS = Bounds(message_size=1_000, ping_interval=20, ping_timeout=10, send_timeout=5)


def agrees(mirror: Mirror, graph: TaskGraph) -> bool:
    """Return whether a mirror knows all tasks of a graph as they are."""
    known = {uid: (task.name, task.state, task.trial) for uid, task in mirror.tasks.items()}
    return known == {task.uid: (task.name, str(task.state), task.trial_number) for task in graph}


async def grow(depth: int) -> None:
    """Add two tasks that do the same, one of which fails in the end."""
    await trio.sleep(0.001)
    if depth:
        for _ in range(2):
            current_graph().add(grow, depth - 1)
    else:
        current_graph().add(fail)


async def settled(remote: Remote) -> Mirror:
    """Wait until the run is over, and return the last state."""
    while not remote.over:
        await remote.changed()
    return remote.mirror


# Watching ---------------------------------------------------------------------------------------------------


def test_a_mirror_is_like_the_graph() -> None:
    """It begins with the whole state, follows what changes, and ends with how the graph ended."""

    async def main() -> None:
        graph = TaskGraph(name="far away")
        graph.add(grow, 6)
        async with served(graph, interval=0.001, limits=QUICK) as address, watch(address) as remote:
            assert remote.connected
            assert remote.mirror.graph is not None
            assert remote.mirror.graph.name == "far away"
            assert agrees(remote.mirror, graph)
            await execute_graph(graph, raise_failures=False)
            assert agrees(await settled(remote), graph)
            assert remote.over
            assert not await remote.changed()
        async with served(graph) as address, watch(str(address)) as remote:
            assert agrees(await settled(remote), graph)

    on_sockets(main)


def test_what_is_watched_is_said_in_the_url_or_beside_it() -> None:
    """What to watch is taken from `watch=`, and without that from the URL."""

    async def main() -> None:
        graph = TaskGraph()
        for _ in range(3):
            graph.add(nothing)
        graph[2].cancel()
        async with served(graph) as address:
            async with watch(f"{address}?states=CANCELLED") as remote:
                assert list(remote.mirror.tasks) == [2]
            async with watch(f"{address}?states=CANCELLED", watch=Watch(states=("READY",))) as remote:
                assert list(remote.mirror.tasks) == [1, 3]
            async with watch(address, watch=Watch(view="types")) as remote:
                assert [kind.states for kind in remote.mirror.types or ()] == [{"READY": 2, "CANCELLED": 1}]

    on_sockets(main)


def test_changes_are_waited_for() -> None:
    """`changed` waits for the next change; iterating gives the state at once, and misses no last one."""

    async def main() -> None:
        graph = TaskGraph()
        graph.add(nothing)
        async with served(graph, interval=0.001) as address, watch(address) as remote:
            states = aiter(remote)
            assert (await anext(states)).tasks[1].state == "READY"
            async with trio.open_nursery() as nursery:

                async def cancel() -> None:
                    graph[1].cancel()

                nursery.start_soon(cancel)
                while remote.mirror.tasks[1].state == "READY":
                    assert await remote.changed()
            assert (await anext(states)).tasks[1].state == "CANCELLED"

    on_sockets(main)


def test_tasks_are_asked_for() -> None:
    """`detail` tells all of a task, in whatever order one asks; a task that is not there is an error."""

    async def main() -> None:
        graph = TaskGraph()
        for _ in range(20):
            graph.add(nothing)
        async with (
            served(graph, limits=QUICK) as address,
            watch(address, watch=Watch(view="types")) as remote,
        ):

            async def ask(uid: int) -> None:
                assert (await remote.detail(uid)).task.uid == uid

            async with trio.open_nursery() as nursery:
                for uid in range(1, 21):
                    nursery.start_soon(ask, uid)
                with pytest.raises(NoAnswer, match="99"):
                    await remote.detail(99)
            with trio.move_on_after(0):
                await remote.detail(3)
            await ask(4)
            await execute_graph(graph)
            await settled(remote)
            with pytest.raises(NoAnswer, match="over"):
                await remote.detail(5)

    on_sockets(main)


# Lost connections -------------------------------------------------------------------------------------------


@asynccontextmanager
async def cutter(
    address: Address, most: int, context: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[str, list[int]]]:
    """Pass connections on to a server, and cut each after so many bytes from there; give URL and counts."""
    counts: list[int] = []

    async def handle(near: trio.abc.Stream) -> None:
        far = await trio.open_tcp_stream(address.host, address.port)
        place = len(counts)
        counts.append(0)
        async with far, trio.open_nursery() as nursery:

            async def upwards() -> None:
                async for data in near:
                    await far.send_all(data)

            nursery.start_soon(upwards)
            while counts[place] < most and (data := await far.receive_some(most // 4)):
                counts[place] += len(data)
                await near.send_all(data)
            nursery.cancel_scope.cancel()

    async def forgiving(near: trio.SocketStream) -> None:
        try:
            await handle(near if context is None else trio.SSLStream(near, context, server_side=True))
        except* trio.BrokenResourceError:
            pass

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, forgiving, 0, host="127.0.0.1"))
        yield f"ws://127.0.0.1:{listeners[0].socket.getsockname()[1]}/", counts
        nursery.cancel_scope.cancel()


def test_no_gap_when_connections_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often the connection is cut, the mirror comes to be as the graph is."""
    monkeypatch.setattr(client_module, "FIRST_DELAY", 0.002)

    async def main() -> None:
        graph = TaskGraph()
        graph.add(grow, 8)
        feed = Feed(graph)
        options = {"interval": 0.001, "limits": QUICK, "hosts": ["127.0.0.1"]}
        async with served(feed, **options) as address, cutter(address, 70_000) as (url, counts):
            async with watch(url) as remote:
                await execute_graph(graph, raise_failures=False)
                assert agrees(await settled(remote), graph)
            assert len(counts) > 3

    on_sockets(main)


def test_another_server_at_the_same_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """When another server takes its place all begins anew, and the old state holds until the new is whole."""
    monkeypatch.setattr(client_module, "FIRST_DELAY", 0.002)

    async def main() -> None:
        first, second = TaskGraph(name="first"), TaskGraph(name="second")
        for _ in range(450):
            first.add(nothing)
            second.add(nothing)
        second.add(nothing)
        async with trio.open_nursery() as nursery:
            address, scope = await start_server(nursery, first, limits=QUICK)
            async with watch(address) as remote:
                assert agrees(remote.mirror, first)
                scope.cancel()
                while remote.connected:  # noqa: ASYNC110 - it is not told
                    await trio.sleep(0.001)
                assert agrees(remote.mirror, first)
                asked: list[int] = []

                async def ask() -> None:
                    asked.append((await remote.detail(451)).task.uid)

                nursery.start_soon(ask)
                _, scope = await start_server(nursery, second, limits=QUICK, port=address.port)
                assert await remote.changed()
                assert agrees(remote.mirror, second)
                while not asked:  # noqa: ASYNC110 - the server is at work
                    await trio.sleep(0.001)
                assert asked == [451]
            scope.cancel()

    on_sockets(main)


def test_it_tries_again_at_longer_and_longer_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Delays double from 0.2 s to 30 s, each less a random part of up to a half, until patience is over."""
    times: list[float] = []

    async def no_answer(*_: object) -> Connection:
        times.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        if len(times) == 1:
            ours, theirs = memory_stream_pair()
            await theirs.send_eof()
            return accepted(ours)
        raise OSError("nobody there")

    monkeypatch.setattr(client_module, "dial", no_answer)

    async def main() -> None:
        with pytest.raises(Unreachable, match="nobody there"):
            async with watch("ws://localhost", patience=500):
                raise AssertionError("there is no state yet")

    trio.run(main, clock=MockClock(autojump_threshold=0))
    delays = [later - earlier for earlier, later in pairwise(times)]
    assert sum(delays) == pytest.approx(500)
    for number, delay in enumerate(delays[:-1]):
        full = min(30, 0.2 * 2**number)
        assert full / 2 <= delay <= full
    assert len(delays) > 20


def test_without_a_server_it_says_so() -> None:
    """No server at first is an error at once; one that has gone for too long ends the block."""

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            address, scope = await start_server(nursery, TaskGraph())
            with pytest.raises(Unreachable, match=f"{address.port}"):
                async with watch(address, patience=0.01):
                    scope.cancel()
                    await trio.sleep_forever()
            with pytest.raises(Unreachable, match=f"{address.port}"):
                async with watch(address):
                    raise AssertionError
        graph = TaskGraph()
        async with served(graph, limits=Limits(clients=1)) as address, watch(address):
            with pytest.raises(Unreachable, match="503"):
                async with watch(address):
                    raise AssertionError

    on_sockets(main)


# Errors -----------------------------------------------------------------------------------------------------


def test_a_refusal_is_final(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A token that is wrong or missing is an error, at once or later; it is never shown."""
    monkeypatch.setattr(client_module, "FIRST_DELAY", 0.002)
    caplog.set_level(logging.DEBUG)
    errors: list[str] = []

    async def main() -> None:
        graph = TaskGraph()
        async with trio.open_nursery() as nursery:
            address, scope = await start_server(nursery, graph, token=TOKEN)
            for token, status in ((None, 401), (TOKEN + "x", 403)):
                with pytest.raises(WatchRefused) as raised:
                    async with watch(address, token=token):
                        raise AssertionError
                assert raised.value.status == status
                errors.append(repr(raised.value))
            with pytest.raises(WatchRefused) as raised:
                async with watch(f"{address}?token={TOKEN}x"):
                    raise AssertionError
            errors.append(repr(raised.value))
            with pytest.raises(WatchRefused, match="nonsense") as raised:
                async with watch(f"{address}?token={TOKEN}&groups=nonsense"):
                    raise AssertionError
            assert raised.value.status == 400
            errors.append(repr(raised.value))
            with pytest.raises(WatchRefused) as raised:
                async with watch(f"{address}?token={TOKEN}") as remote:
                    errors.append(repr(remote))
                    scope.cancel()
                    _, scope = await start_server(nursery, graph, token=TOKEN[1:], port=address.port)
                    await trio.sleep_forever()
            errors.append(repr(raised.value))
            scope.cancel()

    on_sockets(main)
    assert len(errors) == 6
    assert not [error for error in errors if TOKEN in error]
    assert TOKEN not in caplog.text


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("http://localhost/", "url"), ("localhost", "url"), ("", "url"), ("ws://", "url"), ("ws://[", "url"),
        ("ws://localhost:x/", "url"), ("ws://localhost:99999/", "url"), ("ws://user:Pass@localhost/", "url"),
        ("ws://" + "x" * 100 + "/", "url"), ("ws://localhost/?section=x", "section"),
        ("ws://localhost/?types=%ff", "query"), ("ws://localhost/?token=with%20space", "token"),
    ],
)  # fmt: skip
def test_urls_that_cannot_be(url: str, rule: str) -> None:
    """A URL that leads nowhere is an error that says how one is; secrets in it are not shown."""

    async def main() -> None:
        with pytest.raises(BadValue, match=rule) as raised:
            async with watch(url):
                raise AssertionError
        assert "Pass" not in str(raised.value)
        assert "with space" not in str(raised.value)

    on_sockets(main)


@pytest.mark.parametrize(
    "option", [{"patience": 0}, {"answer_within": -1}, {"max_tasks": 0}, {"max_message_size": inf}]
)
def test_options_that_cannot_be(option: dict[str, Any]) -> None:
    """Options out of their range are errors that name them."""

    async def main() -> None:
        with pytest.raises(BadValue, match=next(iter(option))):
            async with watch("ws://localhost/", **option):
                raise AssertionError

    on_sockets(main)


def test_errors_of_the_body_come_out_as_they_are() -> None:
    """An exception of the body is not wrapped, and a cancellation ends it cleanly; nothing is left."""

    async def main() -> None:
        graph = TaskGraph()
        async with served(graph, limits=QUICK) as address:
            before = resources()
            for one in range(60):
                if one == 1:
                    before = resources()
                error = KeyError(one)
                with pytest.raises(KeyError) as raised:
                    async with watch(address):
                        raise error
                assert raised.value is error
                with trio.CancelScope() as scope:
                    async with watch(address):
                        scope.cancel()
                        await trio.sleep_forever()
                assert scope.cancelled_caught
            gc.collect()
            while resources() != before:  # noqa: ASYNC110 - the server is at work
                await trio.sleep(0.001)

    on_sockets(main)


# Through TLS ------------------------------------------------------------------------------------------------

CERTIFICATE = """\
-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIKsqmK1CdN4mxlRoPRKVn3GHaFkz2SbShGKaRW807vD6oAoGCCqGSM49
AwEHoUQDQgAEn6ZezhZDXfibeJnxeYyL6jxsj1w4TUH5sQNu79KMVZfmMVzfbxRe
M8WaWx4Az+GosRJ3v1US7jgdlRTg3QFjDw==
-----END EC PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBmzCCAUGgAwIBAgIUZpcu2nNqP9LrFdng336C8Ay7z7wwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMTE1NDk0MVoYDzIxMjYxMDI4
MTU0OTQxWjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAASfpl7OFkNd+Jt4mfF5jIvqPGyPXDhNQfmxA27v0oxVl+YxXN9vFF4z
xZpbHgDP4aixEne/VRLuOB2VFODdAWMPo28wbTAdBgNVHQ4EFgQUCqc8ewfuh4zx
r7ar8C8CcFbP66kwHwYDVR0jBBgwFoAUCqc8ewfuh4zxr7ar8C8CcFbP66kwDwYD
VR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwCgYIKoZI
zj0EAwIDSAAwRQIgTJnD9QUl0JfnFCWYNXfOHMo1Lbn7Apns3oFyceyQFlQCIQDJ
Dp1HzNH+7+5zorwu9yyTlTCQhzPN76ukWSOEyg7ozA==
-----END CERTIFICATE-----
"""
"""Of no authority, for localhost, until 2126; with its key, which is of no use anywhere else."""


def test_through_tls(tmp_path: Path) -> None:
    """A feed behind a proxy that speaks TLS is watched by `wss://`, if its certificate is trusted."""
    file = tmp_path / "certificate.pem"
    file.write_text(CERTIFICATE)
    proxys = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    proxys.load_cert_chain(file)

    async def main() -> None:
        graph = TaskGraph()
        graph.add(grow, 2)
        async with (
            served(graph, hosts=["localhost"], interval=0.001) as address,
            cutter(address, 2**30, proxys) as (plain, _),
        ):
            url = plain.replace("ws://127.0.0.1", "wss://localhost")
            with pytest.raises(Unreachable):
                async with watch(url):
                    raise AssertionError
            trusting = ssl.create_default_context(cafile=file)
            async with watch(url, ssl_context=trusting) as remote:
                await execute_graph(graph, raise_failures=False)
                assert agrees(await settled(remote), graph)

    on_sockets(main)


# Servers that misbehave -------------------------------------------------------------------------------------

GRAPH = GraphView("feed", "name", 1, "running", ())
TASK = TaskView(
    1, "name", "type", "group", "READY", None, (), False, 0, None, None, None, None, None, None, None
)  # fmt: skip
WHOLE = Snapshot(number=1, time=0.0, graph=GRAPH, first=True, last=True, tasks=(TASK,))


def accepted(stream: trio.abc.Stream) -> Connection:
    """Return the client's end of a connection that is there already."""
    return Connection(stream, Protocol(ConnectionType.CLIENT), BOUNDS, Share(1.0))


@asynccontextmanager
async def liar(says: Callable[[trio.SocketStream], Awaitable[None]]) -> AsyncIterator[str]:
    """Serve whoever comes with what it says, and give the URL."""

    async def handle(stream: trio.SocketStream) -> None:
        try:
            async with stream:
                await says(stream)
        except (trio.BrokenResourceError, Closed):
            pass

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, handle, 0, host="127.0.0.1"))
        yield f"ws://127.0.0.1:{listeners[0].socket.getsockname()[1]}/"
        nursery.cancel_scope.cancel()


async def upgraded(stream: trio.SocketStream) -> Connection:
    """Do the handshake as a server does."""
    handshake = Handshake(stream, Share(1.0))
    await handshake.read()
    protocol, answer = handshake.upgrade()
    await stream.send_all(answer)
    return Connection(stream, protocol, BOUNDS, Share(1.0))


LIES: dict[str, tuple[list[Message | str], str]] = {
    "a newer version": ([attrs.evolve(WHOLE, version=VERSION + 1)], "version"),
    "a newer version of types": (
        [Types(version=99, number=1, time=0.0, graph=GRAPH, types=())], "version 99"
    ),
    "no JSON": (["{"], "JSON"),
    "no message": (['{"kind":"nonsense"}'], "kind"),
    "wrong fields": (['{"kind":"end","number":"x","time":0.0}'], "number"),
    "too large": (["x" * 100_001], "characters"),
    "too many tasks": (
        [
            attrs.evolve(WHOLE, first=not start, last=False,
                         tasks=tuple(attrs.evolve(TASK, uid=uid) for uid in range(start, start + 100)))
            for start in range(0, 1_100, 100)
        ],
        "max_tasks",
    ),
    "more tasks without end": (
        [WHOLE, *(
            Changes(number=2, time=0.0, graph=GRAPH, gone=(),
                    tasks=tuple(attrs.evolve(TASK, uid=uid) for uid in range(start, start + 100)))
            for start in range(0, 1_100, 100)
        )],
        "max_tasks",
    ),
    "an answer to nothing": ([WHOLE, Problem(text="?")], "nobody"),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_what_makes_no_sense_is_not_watched(lie: str) -> None:
    """A server that says what is no feed, or more than is allowed, ends the block with an error."""
    messages, why = LIES[lie]

    async def says(stream: trio.SocketStream) -> None:
        it = await upgraded(stream)
        for message in messages:
            await it.send(message if isinstance(message, str) else encode(message))
        await it.receive()

    async def main() -> None:
        async with liar(says) as url:
            with pytest.raises(BadFeed, match=why) as raised:
                async with watch(url, max_tasks=1_000, max_message_size=100_000):
                    await trio.sleep_forever()
            assert len(str(raised.value)) < 2_000

    on_sockets(main)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 101 OK\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Accept: no\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: \xff\r\nConnection: \xff\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-",
        b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 503 Later\r\nContent-Length: 5\r\n\r\nlater",
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 50_000,
    ],
)
def test_what_is_no_server_of_websockets_is_unreachable(answer: bytes) -> None:
    """A server that does not speak websocket, or hangs up, is an error at once, not after some timeout."""

    async def says(stream: trio.SocketStream) -> None:
        await stream.send_all(answer)
        await stream.send_eof()
        await stream.receive_some()

    async def main() -> None:
        async with liar(says) as url:
            with pytest.raises(Unreachable):
                async with watch(url):
                    raise AssertionError

    on_sockets(main)


@pytest.mark.parametrize("status", [204, 301, 400, 404, 426])
def test_other_refusals_are_final_too(status: int) -> None:
    """A server that answers something else, with a text however long, refuses; not more of that is read."""

    async def says(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(f"HTTP/1.1 {status} \x1b[31m\r\nConnection: close\r\n\r\n".encode())
        while status not in (204, 404):
            await stream.send_all(b"\x1b[31m <script>" * 1_000)

    async def main() -> None:
        async with liar(says) as url:
            with pytest.raises(WatchRefused) as raised:
                async with watch(url):
                    raise AssertionError
            assert raised.value.status == status
            assert str(raised.value).isprintable()
            assert len(str(raised.value)) < 2_000

    on_sockets(main)


def test_a_server_that_says_nothing_is_given_up() -> None:
    """A server that does not answer in time is not there."""

    async def says(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await trio.sleep_forever()

    async def main() -> None:
        async with liar(says) as url:
            with pytest.raises(Unreachable, match="within"):
                async with watch(url, answer_within=0.02):
                    raise AssertionError

    on_sockets(main)


def test_a_question_at_the_end_gets_no_answer() -> None:
    """Who asks when the run ends is told that there will be no answer, instead of waiting for it."""

    async def says(stream: trio.SocketStream) -> None:
        it = await upgraded(stream)
        await it.send(encode(WHOLE))
        assert decode_request(await it.receive()) == Ask(uid=1)
        await it.send(encode(End(number=1, time=0.0)))
        await it.receive()

    async def main() -> None:
        async with liar(says) as url, watch(url) as remote:
            with pytest.raises(NoAnswer, match="over"):
                await remote.detail(1)

    on_sockets(main)


def test_a_server_that_closes_early_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Closed before the end, with whatever code, it goes on from what it has heard, until there is an end."""
    monkeypatch.setattr(client_module, "FIRST_DELAY", 0.001)
    targets: list[str] = []

    async def says(stream: trio.SocketStream) -> None:
        handshake = Handshake(stream, Share(1.0))
        await handshake.read()
        targets.append(handshake.target)
        protocol, answer = handshake.upgrade()
        await stream.send_all(answer)
        it = Connection(stream, protocol, BOUNDS, Share(1.0))
        if len(targets) == 1:
            await it.send(encode(WHOLE))
        if len(targets) == 5:
            await it.send(encode(End(number=1, time=0.0)))
        await it.close(999 + len(targets))

    async def main() -> None:
        async with liar(says) as url, watch(f"{url}path?other=1&number=7") as remote:
            assert (await settled(remote)).tasks == {1: TASK}

    on_sockets(main)
    assert targets[0] == "/path?other=1"
    assert targets[1:] == ["/path?other=1&feed=feed&number=1"] * 4
