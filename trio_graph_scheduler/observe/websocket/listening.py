"""Listening: at which addresses, and for how many connections at a time."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address

import attrs
import trio

from trio_graph_scheduler.graph import GraphError
from trio_graph_scheduler.graph.errors import shown

from .gate import host_and_port
from .share import Share

ACCEPTING = 0.0005
"""Seconds that accepting a connection is taken to cost."""


class NeedsToken(GraphError, ValueError):
    """A server is to be reached from other computers, and anyone could watch."""

    def __init__(self, host: str) -> None:
        self.host = host
        super().__init__(
            f"{shown(host)} is reached from other computers, so that anyone could watch. Give the server a"
            " token: serve_websocket(graph, host=..., token=secrets.token_urlsafe()), or leave out host="
        )


@attrs.frozen
class Address:
    """Where a server is reached from this computer; as a string it is the URL.

    `bound` are all hosts that it is bound to, at the same port.
    """

    host: str
    port: int
    bound: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        """The URL of its websocket."""
        return f"ws://{host_and_port(self.host, self.port)}/"

    def __str__(self) -> str:
        return self.url


async def listen(host: str, port: int, *, protected: bool) -> list[trio.SocketListener]:
    """Listen at all addresses of a host, at the same port.

    Raises `OSError`, and `NeedsToken` if other computers could connect and nothing is `protected`.
    """
    listeners = await trio.open_tcp_listeners(port, host=host)
    while len({listener.socket.getsockname()[1] for listener in listeners}) > 1:
        chosen = listeners[0].socket.getsockname()[1]
        await _close(listeners)
        try:
            listeners = await trio.open_tcp_listeners(chosen, host=host)
        except OSError:  # somebody else has this one at another of the addresses
            listeners = await trio.open_tcp_listeners(port, host=host)
    if not protected and not all(ip_address(name).is_loopback for name in _names(listeners)):
        await _close(listeners)
        raise NeedsToken(host)
    return listeners


def address_of(listeners: Sequence[trio.SocketListener]) -> Address:
    """Return where listeners are reached from this computer."""
    names = _names(listeners)
    first = ip_address(names[0])
    loopback = "127.0.0.1" if first.version == 4 else "::1"  # noqa: PLR2004 - of the protocol
    port = listeners[0].socket.getsockname()[1]
    return Address(loopback if first.is_unspecified else names[0], port, names)


def _names(listeners: Sequence[trio.SocketListener]) -> tuple[str, ...]:
    return tuple(listener.socket.getsockname()[0] for listener in listeners)


async def _close(listeners: Sequence[trio.SocketListener]) -> None:  # noqa: ASYNC910 - there are some
    for listener in listeners:
        await listener.aclose()


class Turnstile(trio.abc.Listener[trio.SocketStream]):
    """A listener that accepts connections only as long as there are places for them."""

    def __init__(self, listener: trio.SocketListener, places: trio.Semaphore, share: Share) -> None:
        self._listener = listener
        self._places = places
        self._share = share

    async def accept(self) -> trio.SocketStream:
        """Accept a connection, which has a place then."""
        await self._places.acquire()
        try:
            await self._share.turn()
            stream = await self._listener.accept()
        except BaseException:
            self._places.release()
            raise
        self._share.spend(ACCEPTING)
        return stream

    async def aclose(self) -> None:
        """Stop listening."""
        await self._listener.aclose()
