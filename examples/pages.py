"""Addresses and pages: the part of the examples that only computes.

resolve("http://Museum.example/tower/", "../lens.html#beam")  # "http://museum.example/lens.html"
parse("http://museum.example/", b"<p>See <a href=lens.html>the lens</a>")  # a Page with its words and links
"""

from __future__ import annotations

import codecs
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote, urljoin, urlsplit

import httpx2
from bs4 import BeautifulSoup, ParserRejectedMarkup
from bs4.dammit import EncodingDetector

WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)*")
HOST = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?|[0-9a-f]*:[0-9a-f:.]+")
SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):", re.IGNORECASE)
ESCAPE = re.compile(r"%([0-9a-f]{2})", re.IGNORECASE)
UNRESERVED = re.compile(r"[a-z0-9._~-]", re.IGNORECASE | re.ASCII)
LINKS = {"a": "href", "area": "href", "frame": "src", "iframe": "src"}
REFRESH = re.compile(r"[\s\d.]*[;,]\s*(?:url\s*=\s*)?[\"']?([^\"']+)", re.IGNORECASE)
BYTE_ORDER_MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


@dataclass(frozen=True)
class Page:
    """What an HTML page says and where it leads."""

    words: Counter[str]
    links: tuple[str, ...]
    """Addresses on any host, normalised, each once, in the order of the page."""
    bad_links: dict[str, str]
    """What is written as a link and is no address, each with what is wrong with it."""
    remarks: tuple[str, ...]
    """What its author may want to know."""


def normalise(address: str) -> str:
    """Return the one form of an absolute address that all its spellings share.

    The fragment is dropped: it names a place on a page, not another page. Raises `ValueError` if this is no
    address that can be fetched.
    """
    try:
        # urllib writes the scheme in lower case; httpx2 does so with the host, drops ".." and default ports,
        # and escapes what must be.
        url = urlsplit(str(httpx2.URL(urlsplit(address).geturl())))
    except httpx2.InvalidURL as error:
        raise ValueError(str(error)) from error
    if url.scheme not in {"http", "https"}:
        raise ValueError("it does not begin with http:// or https://")
    if not HOST.fullmatch(url.hostname or ""):
        raise ValueError(f"no host is called {unquote(url.hostname or '')!r}")
    if url.port == 0:  # if it is too high .port raises
        raise ValueError("there is no port 0")
    path, query = (ESCAPE.sub(_one_escape, part) for part in (url.path or "/", url.query))
    return url._replace(path=path, query=query, fragment="").geturl()


def resolve(base: str, href: str) -> str | None:
    """Return the address that a link on a page leads to, or None for links of other kinds, such as mailto:.

    Raises `ValueError` for bad syntax.
    """
    href = re.sub(r"[\t\r\n]", "", href).strip()  # browsers do so too
    scheme = SCHEME.match(href)
    if scheme is not None and scheme[1].lower() not in {"http", "https"}:
        return None
    return normalise(urljoin(base, href))


def host_of(address: str) -> str:
    """Return the host of a normalised address, with the port unless it is the default one."""
    return urlsplit(address).netloc.rpartition("@")[2]


def parse(address: str, body: bytes, charset: str | None = None) -> Page | None:
    """Read an HTML page; return None if it cannot be one. `charset` is the encoding that the server names."""
    decoded = _decode(body, charset)
    if decoded is None:
        return None
    text, remarks = decoded
    try:
        soup = BeautifulSoup(text, "html.parser")
    except ParserRejectedMarkup:
        return None
    words = Counter(word.lower() for word in WORD.findall(soup.get_text(" ")))
    if not words:
        remarks.append("no words on it")

    base = _base(soup, address)
    links: dict[str, None] = {}
    bad_links: dict[str, str] = {}
    for href in dict.fromkeys(href.partition("#")[0] for href in _hrefs(soup)):
        try:
            link = resolve(base, href)
        except ValueError as error:
            bad_links[href] = str(error)
        else:
            if link is not None:
                links[link] = None
    return Page(words, tuple(links), bad_links, tuple(remarks))


def _base(soup: BeautifulSoup, address: str) -> str:
    """Return the address that links are relative to."""
    tag = soup.find("base", href=True)
    try:
        return (tag and resolve(address, str(tag["href"]))) or address
    except ValueError:
        return address  # what browsers do


def _hrefs(soup: BeautifulSoup) -> Iterator[str]:
    """Yield what is written as a link to another page."""
    for tag in soup.find_all(list(LINKS)):
        href = tag.get(LINKS[tag.name])
        if href is not None:
            yield str(href)
    for tag in soup.find_all("meta", content=True):
        forward = REFRESH.match(str(tag["content"]))
        if forward is not None and str(tag.get("http-equiv")).lower() == "refresh":
            yield forward[1]


def _decode(body: bytes, charset: str | None) -> tuple[str, list[str]] | None:
    """Return the text and what is to be said of its encoding; None for binary data.

    Declarations are often wrong, but what decodes as UTF-8 by chance is hardly ever anything else.
    """
    inside = EncodingDetector.find_declared_encoding(body, is_html=True)
    marked = [encoding for mark, encoding in BYTE_ORDER_MARKS.items() if body.startswith(mark)]
    # Only UTF-16 and ISO-2022 write other letters in ASCII's bytes, and then these two are among them.
    likely = [] if b"\0" in body or b"\x1b" in body else ["utf-8"]
    for encoding in marked or filter(None, [*likely, charset, inside, "utf-8", "windows-1252", "latin-1"]):
        try:
            text = body.decode(encoding).removeprefix("\ufeff")
        except (LookupError, ValueError):  # no such encoding, or not this one
            continue
        if "\0" not in text:
            declared = charset or inside
            if body.isascii() or (declared and _same_encoding(declared, encoding)):
                return text, []
            said = f"declared as {declared!r}" if declared else "no charset declared"
            return text, [f"{said}, read as {encoding}"]
    return None


def _same_encoding(one: str, other: str) -> bool:
    try:
        return codecs.lookup(one) == codecs.lookup(other)
    except (LookupError, ValueError):
        return False


def _one_escape(escape: re.Match[str]) -> str:
    """Return an escape in its one form: plain where no escape is needed, else in capitals."""
    character = chr(int(escape[1], 16))
    return character if UNRESERVED.match(character) else escape[0].upper()
