"""The client's side of the handshake: from the URL of a feed to a connection."""

from __future__ import annotations

import ssl
from urllib.parse import quote, urlencode, urlsplit

import attrs
import trio
from wsproto import ConnectionType
from wsproto.connection import Connection as Protocol
from wsproto.events import AcceptConnection, RejectConnection, RejectData, Request
from wsproto.handshake import H11Handshake
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from trio_graph_scheduler.graph import BadValue
from trio_graph_scheduler.graph.errors import shown_value
from trio_graph_scheduler.observe.feed.messages import Watch
from trio_graph_scheduler.observe.websocket.connection import Bounds, Connection
from trio_graph_scheduler.observe.websocket.gate import Refused, host_and_port, is_token, parameters
from trio_graph_scheduler.observe.websocket.queries import query_of, watch_of
from trio_graph_scheduler.observe.websocket.share import Share

LONGEST_BODY = 1_000
"""Characters of what a server says when it refuses, after which no more is read."""


@attrs.frozen
class Endpoint:
    """Where a feed is, what of it is watched, and the token that is shown there.

    `str()` of it has neither the token nor the query.
    """

    secure: bool
    host: str
    port: int
    path: str
    others: tuple[tuple[str, str], ...] = attrs.field(repr=False)
    token: str | None = attrs.field(repr=False)
    watch: Watch

    def __str__(self) -> str:
        return f"{'wss' if self.secure else 'ws'}://{host_and_port(self.host, self.port)}{self.path}"

    def target(self, watch: Watch) -> str:
        """Return the target of a request for this."""
        query = "&".join(filter(None, (urlencode(self.others, errors="surrogatepass"), query_of(watch))))
        return f"{self.path}?{query}" if query else self.path


def endpoint(url: str, token: str | None, watch: Watch | None) -> Endpoint:
    """Return where a URL leads.

    A token in it is taken out. What is watched is in it, unless it is given. Raises `BadValue`, which shows
    neither query nor password.
    """
    text = str(url)
    plain = text.partition("?")[0].rpartition("@")[2]
    rule = (
        "it must be like 'ws://127.0.0.1:8000/', as the server's address gives it, without user and password"
    )
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
        host.encode("idna")
    except ValueError:
        raise BadValue("the url of a feed", plain, rule) from None
    if parts.scheme not in ("ws", "wss") or not host or "@" in parts.netloc:
        raise BadValue("the url of a feed", plain, rule)
    query = parameters(text)
    token = token if token is not None else query.get("token", [None])[0]
    if token is not None and not is_token(token):
        raise BadValue("the token", "***", "it must be as the server has it: of letters, digits and -._~+/=")
    fields = {field.name for field in attrs.fields(Watch)} | {"token"}
    return Endpoint(
        secure=parts.scheme == "wss",
        host=host,
        port=port or (443 if parts.scheme == "wss" else 80),
        path=quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._"),
        others=tuple(
            (name, value) for name, values in query.items() if name not in fields for value in values
        ),
        token=token,
        watch=watch_of(text) if watch is None else watch,
    )


async def dial(where: Endpoint, watch: Watch, bounds: Bounds, context: ssl.SSLContext | None) -> Connection:
    """Connect to a feed. Raises `Refused`, or `OSError` if nobody answers as a server of websockets does."""
    try:
        with trio.fail_after(bounds.ping_timeout):
            stream = await _open(where, context)
            try:
                protocol = await _upgrade(stream, where, watch)
            except BaseException:
                await trio.aclose_forcefully(stream)
                raise
    except (RemoteProtocolError, LocalProtocolError, ValueError) as error:
        raise OSError(f"it does not speak websocket: {shown_value(str(error))}") from None
    except trio.TooSlowError:
        raise OSError(f"no answer within {bounds.ping_timeout:g} s") from None
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        raise OSError("the connection was lost") from None
    return Connection(stream, protocol, bounds, Share(1.0))


async def _open(
    where: Endpoint, context: ssl.SSLContext | None
) -> trio.SocketStream | trio.SSLStream[trio.SocketStream]:
    if where.secure:
        return await trio.open_ssl_over_tcp_stream(where.host, where.port, ssl_context=context)
    return await trio.open_tcp_stream(where.host, where.port)


async def _upgrade(stream: trio.abc.Stream, where: Endpoint, watch: Watch) -> Protocol:
    handshake = H11Handshake(ConnectionType.CLIENT)
    token = [] if where.token is None else [(b"Authorization", f"Bearer {where.token}".encode())]
    host = host_and_port(where.host, where.port)
    await stream.send_all(handshake.send(Request(host=host, target=where.target(watch), extra_headers=token)))
    refused = Refused(0, "")
    while True:
        for event in handshake.events():
            match event:
                case AcceptConnection() if handshake.connection is not None:
                    return handshake.connection
                case RejectConnection():
                    refused.status = event.status_code
                    if not event.has_body:
                        raise refused
                case RejectData():
                    refused.text += bytes(event.data).decode("utf-8", "replace")
                    if event.body_finished or len(refused.text) > LONGEST_BODY:
                        raise refused
        data = await stream.receive_some(4096)
        if not data:
            raise refused if refused.status else trio.BrokenResourceError
        handshake.receive_data(bytes(data))
