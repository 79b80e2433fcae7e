"""The gate: which HTTP requests are let in, from their headers and their target alone.

What is served tells what a program does. So neither a web page of someone else's may read it through the
browser of whoever watches, nor a stranger from the network.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Collection, Iterable, Sequence
from urllib.parse import parse_qs

from trio_graph_scheduler.graph import BadType, BadValue

Headers = Sequence[tuple[bytes, bytes]]
"""Names and values, as h11 has them; names are in lower case."""

MOST_PARAMETERS = 1_000
"""Parameters in the query of a target."""


ORIGIN = re.compile(r"https?://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]+)?")


class Refused(Exception):
    """A request is not let in: an HTTP status, and for people why."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(status, text)
        self.status, self.text = status, text


class Gate:
    """Decides whether a request is let in.

        gate = Gate(hosts=("localhost:8000", "127.0.0.1:8000"), token="...")
        gate.check(target, headers)

    - `hosts`: under which the server is reached, as `name:port`, or `name` for any port. All others are
      refused. So a page whose name was made to lead here (DNS rebinding) reads nothing.
    - `origins`: of web pages that may ask, such as `"https://example.com"`, beside those that come from one
      of the hosts itself. Browsers say from where a page is, and those of all others are refused. Whoever
      says nothing is no web page, and is let in: any program may say what it likes, so nothing would be won.
    - `token`: what a request must have, as `Authorization: Bearer ...`, or as `?token=...`, since pages
      cannot set the headers of a websocket. It is in no message and no repr. None: whoever reaches the
      server is let in, which on a loopback address is every program on this computer.

    Raises `BadValue` or `BadType`.
    """

    def __init__(
        self, *, hosts: Iterable[str], origins: Iterable[str] = (), token: str | None = None
    ) -> None:
        self._hosts = frozenset(host.lower() for host in _texts("hosts", hosts))
        self._origins = frozenset(origin.lower() for origin in _texts("origins", origins))
        for origin in self._origins:
            if not ORIGIN.fullmatch(origin):
                raise BadValue("an origin", origin, 'it must be like "https://example.com" or with a port')
        if token is not None and not is_token(token):
            raise BadValue("the token", "***", "it must be of letters, digits and -._~+/=: token_urlsafe()")
        self._token = None if token is None else token.encode()

    def check(self, target: str, headers: Headers, own: Collection[str] = ()) -> None:
        """Let a request in, or raise `Refused`.

        `own` are more hosts, in lower case: those at which the server itself knows that it is reached.
        """
        host = _only(headers, b"host")
        if not host or not self._is_host(host, own):
            raise Refused(403, "the Host of this request is not one of this server's")
        origin = _only(headers, b"origin")
        if origin is None or origin not in {"", f"http://{host}", f"https://{host}"} | self._origins:
            raise Refused(403, "pages of this Origin may not ask this server")
        if self._token is not None:
            given = _token_of(target, headers)
            if given is None:
                raise Refused(401, "this server wants a token: 'Authorization: Bearer ...', or '?token=...'")
            if not hmac.compare_digest(given, self._token):
                raise Refused(403, "this is not the token of this server")

    def _is_host(self, host: str, own: Collection[str]) -> bool:
        name, port = (host, "80") if host.endswith("]") or ":" not in host else host.rsplit(":", 1)
        full = f"{name}:{port}"
        return full in own or full in self._hosts or name in self._hosts


def is_token(token: object) -> bool:
    """Return whether this may be a token: a text that needs no escaping in headers."""
    return (
        isinstance(token, str)
        and bool(token)
        and all(char.isascii() and (char.isalnum() or char in "-._~+/=") for char in token)
    )


def parameters(target: str) -> dict[str, list[str]]:
    """Return the parameters in the query of a target. Raises `BadValue`."""
    query = target.partition("#")[0].partition("?")[2]
    try:
        return parse_qs(query, keep_blank_values=True, errors="surrogatepass", max_num_fields=MOST_PARAMETERS)
    except ValueError:
        rule = f"it must be UTF-8, percent-encoded, of at most {MOST_PARAMETERS} parameters"
        raise BadValue("the query of the URL", "...", rule) from None


def host_and_port(host: str, port: int) -> str:
    """Return a host with a port as URLs have it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _token_of(target: str, headers: Headers) -> bytes | None:
    said = [value for name, value in headers if name == b"authorization"]
    if said:
        scheme, _, credentials = said[0].partition(b" ")
        return credentials.strip() if scheme.lower() == b"bearer" and len(said) == 1 else None
    try:
        tokens = parameters(target).get("token", [])
    except BadValue:
        return None
    return tokens[0].encode("utf-8", "surrogatepass") if len(tokens) == 1 else None


def _only(headers: Headers, wanted: bytes) -> str | None:
    """Return the value of a header in lower case, "" if it is not there; None if there are several of it."""
    values = [value for name, value in headers if name == wanted] or [b""]
    return values[0].decode("latin-1").strip().lower() if len(values) == 1 else None


def _texts(thing: str, texts: Iterable[str]) -> list[str]:
    if isinstance(texts, str) or not isinstance(texts, Iterable):
        raise BadType(thing, texts, f'it must be several texts: {thing}=("this",)')
    listed = list(texts)
    if not all(isinstance(text, str) for text in listed):
        raise BadType(thing, texts, f'it must be texts: {thing}=("this",)')
    return listed
