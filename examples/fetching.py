"""One request: what comes of it, and whether it is worth making again.

async with httpx2.AsyncClient(timeout=None) as client:
    answer = await fetch(client, "http://museum.example/")  # a Document
    answer = await fetch(client, "http://museum.example/shop")  # Broken("HTTP 404 Not Found")
"""

from __future__ import annotations

from dataclasses import dataclass

import httpx2
import trio

from findings import Broken, NotAPage, Redirect
from pages import resolve
from trio_graph_scheduler import TrialTimeout, TryAgain

HTML = {"text/html", "application/xhtml+xml"}
MOST_BYTES = 5_000_000
LONGEST_PAUSE = 30
"""A server may ask to be left alone for so many seconds. If it asks for more it is not asked again at all."""


@dataclass(frozen=True)
class Document:
    """An HTML page as it came, with the encoding that the server named."""

    body: bytes
    charset: str | None


TRANSIENT = (httpx2.TransportError, TrialTimeout, TryAgain)
"""The failures that may be over when one asks again."""
NO_ANSWER = (httpx2.HTTPError, *TRANSIENT)
"""All failures that are the server's, or the network's."""


async def fetch(client: httpx2.AsyncClient, address: str) -> Document | Redirect | NotAPage | Broken:
    """Ask for an address. Raises one of `NO_ANSWER` where the server gives none, or none yet."""
    try:
        async with client.stream("GET", address) as response:
            return await _read(response, address)
    except httpx2.InvalidURL as error:  # httpx2 looks where a redirect leads
        return Broken(f"redirects to no web address: {error}")


async def _read(response: httpx2.Response, address: str) -> Document | Redirect | NotAPage | Broken:
    """Read an answer as far as it is of use: pages only, and not without end."""
    if response.has_redirect_location:
        location = response.headers["location"]
        try:
            target = resolve(address, location)
        except ValueError as error:
            return Broken(f"redirects to {location!r}: {error}")
        return Broken(f"redirects to no web address: {location!r}") if target is None else Redirect(target)
    if not response.is_success:
        return _refusal(response)
    kind = response.headers.get("content-type", "text/html").partition(";")[0].strip().lower()
    if kind not in HTML:
        return NotAPage(kind)
    body = bytearray()
    with trio.CancelScope() as enough:  # a `break` would leave the generators inside of httpx2 unfinished
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > MOST_BYTES:
                enough.cancel()
    if enough.cancelled_caught:
        return NotAPage(f"{kind}, of more than {MOST_BYTES:,} bytes")
    return Document(bytes(body), response.charset_encoding)


def _refusal(response: httpx2.Response) -> Broken:
    """Return why the server refuses, unless it may think better of it: then raise that."""
    refusal = f"HTTP {response.status_code} {response.reason_phrase}".rstrip()
    if response.status_code != httpx2.codes.TOO_MANY_REQUESTS and not response.is_server_error:
        return Broken(refusal)
    pause = response.headers.get("retry-after", "")  # seconds; or a date, which is left to our own patience
    if not pause.isdecimal():
        raise TryAgain(reason=refusal)
    if float(pause) > LONGEST_PAUSE:
        return Broken(f"{refusal}, and to be left alone for {pause} seconds")
    raise TryAgain(after=float(pause), reason=refusal)
