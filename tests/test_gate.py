"""Who may watch: decided by the headers and the target of a request."""

from __future__ import annotations

import re
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_graph_scheduler import BadType, BadValue
from trio_graph_scheduler.observe.feed.messages import Watch
from trio_graph_scheduler.observe.websocket.gate import Gate, Refused
from trio_graph_scheduler.observe.websocket.queries import query_of, watch_of

OWN = {"localhost:8000", "127.0.0.1:8000", "[::1]:8000"}
TOKEN = "a-Secret_token.~+/="  # noqa: S105 - of no server


def status(gate: Gate, target: str = "/", **headers: str | list[str]) -> int:
    """Return with which status a gate refuses a request, 0 if it does not."""
    listed = [
        (name.encode(), value.encode("latin-1"))
        for name, values in headers.items()
        for value in ([values] if isinstance(values, str) else values)
    ]
    try:
        gate.check(target, listed, OWN)
    except Refused as refused:
        leaked = TOKEN in refused.text + repr(refused)
        return -1 if leaked else refused.status
    return 0


# Hosts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["localhost:8000", "LocalHost:8000", "127.0.0.1:8000", "[::1]:8000"])
def test_own_hosts_are_let_in(host: str) -> None:
    """A request to one of the server's own hosts is let in, however that is written."""
    assert status(Gate(hosts=()), host=host) == 0


@pytest.mark.parametrize(
    "host",
    [
        "", "evil.example", "evil.example:8000", "localhost", "localhost:8001", "localhost:", ":8000", "8000",
        "localhost.evil.example:8000", "evil.example@localhost:8000", "localhost:8000.evil.example",
        "localhost:8000 ,evil", "127.0.0.2:8000", "[::1]", "[::1", "::1:8000", "\xff", "localhost:8000\x00",
    ],
)  # fmt: skip
def test_foreign_hosts_are_refused(host: str) -> None:
    """A request for any other host, name or port is refused: its page's name was made to lead here."""
    assert status(Gate(hosts=()), host=host) == 403


def test_one_host_is_needed() -> None:
    """Without a Host, or with two, a request is refused."""
    assert status(Gate(hosts=())) == 403
    assert status(Gate(hosts=()), host=["localhost:8000", "localhost:8000"]) == 403


def test_more_hosts_can_be_named() -> None:
    """Hosts that were named are let in: with a port only at that, without one at any."""
    gate = Gate(hosts=["Proxy.example", "tunnel.example:9000"])
    for host in ("proxy.example", "proxy.example:1", "tunnel.example:9000", "localhost:8000"):
        assert status(gate, host=host) == 0
    for host in ("tunnel.example", "tunnel.example:9001", "x.proxy.example"):
        assert status(gate, host=host) == 403
    assert status(Gate(hosts=["plain.example:80"]), host="plain.example") == 0


# Origins ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "origin",
    [
        "null", "http://evil.example", "http://localhost", "http://localhost:8001", "https://localhost:8001",
        "file://", "localhost:8000", "http://localhost:8000/", "http://localhost:8000.evil.example",
        "http://127.0.0.1:8000", "http://localhost:8000 http://evil.example", "ws://localhost:8000", "\xff",
    ],
)  # fmt: skip
def test_foreign_origins_are_refused(origin: str) -> None:
    """Pages of other origins are refused, `null` too, even those at another port or name of this computer."""
    assert status(Gate(hosts=()), host="localhost:8000", origin=origin) == 403


def test_own_and_named_origins_are_let_in() -> None:
    """Pages from the host that is asked are let in, as are those of origins that were named."""
    gate = Gate(hosts=["watch.example"], origins=["https://Board.example"])
    assert status(gate, host="localhost:8000", origin="http://localhost:8000") == 0
    assert status(gate, host="watch.example", origin="https://watch.example") == 0
    assert status(gate, host="localhost:8000", origin="https://board.example") == 0
    assert status(gate, host="localhost:8000", origin="http://board.example") == 403
    assert status(gate, host="localhost:8000", origin=["https://board.example"] * 2) == 403


def test_what_is_no_page_needs_no_origin() -> None:
    """Programs that say nothing of an origin are let in; where there is a token, with that only."""
    assert status(Gate(hosts=()), host="localhost:8000") == 0
    assert status(Gate(hosts=(), token=TOKEN), host="localhost:8000") == 401


# Tokens -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["/", "/any/path", "/?view=types"])
def test_the_token_comes_as_a_header_or_in_the_query(target: str) -> None:
    """The right token lets one in by either way, on every path."""
    gate = Gate(hosts=(), token=TOKEN)
    sign = "&" if "?" in target else "?"
    quoted = f"{target}{sign}token=a-Secret_token.~%2B/="
    assert status(gate, target, host="localhost:8000", authorization=f"Bearer {TOKEN}") == 0
    assert status(gate, target, host="localhost:8000", authorization=f"bearer  {TOKEN} ") == 0
    assert status(gate, quoted, host="localhost:8000") == 0


@pytest.mark.parametrize("target", ["/", "/any/path", "/?view=types", "/?tokens=x", "/?%ff=1"])
def test_without_a_token_it_is_401(target: str) -> None:
    """A request without a token, or with no telling which, is refused with 401 on every path."""
    gate = Gate(hosts=(), token=TOKEN)
    assert status(gate, target, host="localhost:8000") == 401
    assert status(gate, target, host="localhost:8000", authorization=f"Basic {TOKEN}") == 401
    assert status(gate, target, host="localhost:8000", authorization=[f"Bearer {TOKEN}"] * 2) == 401
    assert status(gate, f"/?token={TOKEN}&token={TOKEN}", host="localhost:8000") == 401


@pytest.mark.parametrize("wrong", ["", "x", TOKEN[:-1], TOKEN + "=", TOKEN.upper(), "a" * 10_000, "\xe4"])
def test_a_wrong_token_is_403(wrong: str) -> None:
    """A token that is wrong, of whatever length, is refused with 403, by either way."""
    gate = Gate(hosts=(), token=TOKEN)
    assert status(gate, host="localhost:8000", authorization=f"Bearer {wrong}") == 403
    assert status(gate, f"/?token={wrong}", host="localhost:8000") == 403


def test_tokens_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a token is right is left to `hmac.compare_digest`, as bytes."""
    compared: list[tuple[bytes, bytes]] = []

    def compare(first: bytes, second: bytes) -> bool:
        compared.append((first, second))
        return True

    monkeypatch.setattr("hmac.compare_digest", compare)
    assert status(Gate(hosts=(), token=TOKEN), host="localhost:8000", authorization="Bearer x") == 0
    assert compared == [(b"x", TOKEN.encode())]


def test_the_host_comes_first() -> None:
    """A page that leads here by a foreign name does not learn whether there is a token."""
    assert status(Gate(hosts=(), token=TOKEN), host="evil.example") == 403


def test_gates_that_cannot_be() -> None:
    """What is no host, origin or token is refused when the gate is made; the token is not in the message."""
    for bad in ("localhost", 3, [3]):
        with pytest.raises(BadType, match="hosts"):
            Gate(hosts=bad)  # type: ignore[arg-type]  # that is the point
    for origin in ("null", "example.com", "https://example.com/", "https://", "http://["):
        with pytest.raises(BadValue, match=re.escape(origin)):
            Gate(hosts=(), origins=[origin])
    for token in ("", "with space", "line\nbreak", "\xe4", 3):
        with pytest.raises(BadValue, match="token") as raised:
            Gate(hosts=(), token=token)  # type: ignore[arg-type]  # that is the point
        assert not token or str(token) not in str(raised.value)
    assert TOKEN not in repr(Gate(hosts=(), token=TOKEN))


# What is watched --------------------------------------------------------------------------------------------

NAMES = st.lists(st.text(), max_size=3).map(tuple)
WATCHES = st.builds(
    Watch,
    view=st.sampled_from(["tasks", "types"]),
    types=NAMES,
    states=NAMES,
    groups=NAMES,
    section=st.none() | st.integers(0, 10**18 - 1),
    feed=st.none() | st.text(min_size=1),
    number=st.none() | st.integers(0, 10**18 - 1),
)


@given(WATCHES)
def test_what_is_watched_survives_a_url(watch: Watch) -> None:
    """Whatever can be watched can be said in the query of a URL, be its names as they may."""
    query = query_of(watch)
    assert query.isascii()
    assert watch_of(f"/?{query}") == watch


@pytest.mark.parametrize(
    "query",
    [
        "section=x", "section=-1", "section=", "number=1e3", "section=1&section=2", "view=a&view=b",
        "feed=a&feed=b", "types=%ff", "number=" + "9" * 5_000, "&".join(["types=x"] * 2_000),
    ],
)  # fmt: skip
def test_a_query_that_makes_no_sense_is_refused(query: str) -> None:
    """A value too many, no number or no text is an error that names the field or the query."""
    with pytest.raises(BadValue, match=r"section|number|view|feed|query"):
        watch_of(f"/?{query}")


def test_other_parameters_are_left_alone() -> None:
    """A token or a parameter of somebody else's in the query does not matter."""
    assert watch_of("/path?token=x&states=FAILED&states=RUNNING&q=#types=a") == Watch(
        states=("FAILED", "RUNNING")
    )


def test_every_way_to_be_refused_is_refused_alone() -> None:
    """Host, Origin and token must all be right: any of them that is wrong is enough to be refused."""
    gate = Gate(hosts=(), token=TOKEN)
    ways = product(
        ["localhost:8000", "evil.example:8000"], ["http://localhost:8000", "null"], [TOKEN, "wrong"]
    )
    refused = [status(gate, host=h, origin=o, authorization=f"Bearer {t}") for h, o, t in ways]
    assert refused == [0] + [403] * 7
