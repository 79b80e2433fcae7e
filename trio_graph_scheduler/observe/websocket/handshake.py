"""The server's side of the handshake: the head of a request is read, and answered with an upgrade or not.

The head is read here, not by wsproto, which looks at nothing but upgrades, and knows no bounds but h11's.
"""

from __future__ import annotations

from http import HTTPStatus

import h11
import trio
from wsproto import ConnectionType
from wsproto.connection import Connection as Protocol
from wsproto.events import AcceptConnection
from wsproto.handshake import H11Handshake
from wsproto.utilities import RemoteProtocolError

from .gate import Refused
from .share import Share

LARGEST_HEAD = 16_384
"""Bytes of the head of a request."""

_MORE_HEADERS = {
    405: "Allow: GET\r\n",
    401: "WWW-Authenticate: Bearer\r\n",
    426: "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
    503: "Retry-After: 1\r\n",
}


class Handshake:
    """The request of a client, once `read` has read it: its `target` and `headers`."""

    def __init__(self, stream: trio.abc.ReceiveStream, share: Share) -> None:
        self._stream = stream
        self._share = share
        self._parser = h11.Connection(h11.SERVER, max_incomplete_event_size=LARGEST_HEAD)
        self.target = ""
        self.headers: list[tuple[bytes, bytes]] = []

    async def read(self) -> None:
        """Read the head of a request. Raises `Refused`, or `trio.BrokenResourceError` if none comes."""
        while True:
            await self._share.turn()
            with self._share.spending():
                try:
                    event = self._parser.next_event()
                except h11.RemoteProtocolError as error:
                    raise Refused(error.error_status_hint, "this is no HTTP request") from None
            if isinstance(event, h11.Request):
                self._request = event
                self.target = event.target.decode("ascii")
                self.headers = list(event.headers)
                return
            if event is not h11.NEED_DATA:
                raise trio.BrokenResourceError
            self._parser.receive_data(bytes(await self._stream.receive_some(4096)))

    def upgrade(self) -> tuple[Protocol, bytes]:
        """Return what speaks the protocol from here on, and the answer that says so. Raises `Refused`."""
        if self._request.method != b"GET":
            raise Refused(405, "here is nothing but a websocket, which is asked for with GET")
        try:
            handshake = H11Handshake(ConnectionType.SERVER)
            handshake.initiate_upgrade_connection(self.headers, self._request.target)
            answer = handshake.send(AcceptConnection())
        except (RemoteProtocolError, h11.LocalProtocolError, ValueError) as error:
            raise Refused(426, f"here is nothing but a websocket: {error}") from None
        trailing = bytes(self._parser.trailing_data[0])  # some clients do not wait for the answer
        return Protocol(ConnectionType.SERVER, trailing_data=trailing), answer


def response(refusal: Refused) -> bytes:
    """Return the HTTP response that says so."""
    body = refusal.text.encode("utf-8", "backslashreplace")
    return (
        f"HTTP/1.1 {refusal.status} {HTTPStatus(refusal.status).phrase}\r\n"
        f"{_MORE_HEADERS.get(refusal.status, '')}"
        "Content-Type: text/plain; charset=utf-8\r\n"
        "X-Content-Type-Options: nosniff\r\n"
        f"Content-Length: {len(body)}\r\n"
        "Connection: close\r\n\r\n"
    ).encode("ascii") + body
