"""Messages as JSON: what is encoded is decoded, and nothing else is."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import examples
from trio_graph_scheduler.observe.feed.messages import (
    Ask,
    Changes,
    Detail,
    End,
    GraphView,
    GroupView,
    Message,
    Problem,
    Request,
    Snapshot,
    TaskView,
    TrialView,
    Types,
    TypeView,
    Watch,
)
from trio_graph_scheduler.observe.feed.wire import BadMessage, decode_message, decode_request, encode

# Names may be any string, lone surrogates included.
texts = st.text(st.characters(), max_size=8)
numbers = st.floats(allow_nan=False, allow_infinity=False)
st.register_type_strategy(str, texts)
st.register_type_strategy(float, numbers)

GRAPH = GraphView("feed", "graph", 1, "running", (GroupView("default", 10, 1, 0, 0, paused=False),))
TASK = TaskView(
    1, "a", "a", "g", "READY", None, (2,), False, 0, None, None, None, (1.0, None), None, None, None
)
SNAPSHOT = Snapshot(number=1, time=0.0, graph=GRAPH, first=True, last=True, tasks=(TASK,))
FIGURES = Types(number=1, time=0.0, graph=GRAPH, types=(TypeView("a", "g", {"READY": 1}, 0.0, None),))


@settings(max_examples=examples(150), deadline=None)
@given(st.one_of([st.from_type(kind) for kind in get_args(Message)]))
def test_messages_come_back_as_they_were(message: Any) -> None:
    """Every message, whatever is in its fields, is the same after it was a text, which is ASCII."""
    text = encode(message)
    assert text.isascii()
    assert decode_message(text) == decode_message(text.encode()) == message
    assert json.loads(text)["kind"] == type(message).__name__.lower()


@settings(max_examples=examples(100), deadline=None)
@given(st.one_of([st.from_type(kind) for kind in get_args(Request)]))
def test_requests_come_back_as_they_were(request: Any) -> None:
    """And so is every request."""
    assert decode_request(encode(request)) == request


def test_all_kinds_are_tried() -> None:
    """The tests above are about each kind of message there is."""
    assert set(get_args(Message)) == {Snapshot, Changes, Types, Detail, End, Problem}
    assert set(get_args(Request)) == {Watch, Ask}
    assert TrialView(1, "RUNNING", 0.0, 0.0, None, None, None).number == 1


def test_a_request_may_leave_out_what_has_a_default() -> None:
    """What is not said is as if `Watch` had been made without it."""
    assert decode_request('{"kind": "watch"}') == Watch()
    assert decode_request('{"kind": "watch", "states": ["FAILED"]}') == Watch(states=("FAILED",))


def test_fields_that_are_not_known_are_ignored() -> None:
    """A newer side may say more, at any depth."""
    data = json.loads(encode(SNAPSHOT))
    data["new"] = {"a": [1]}
    data["tasks"][0]["new"] = data["graph"]["new"] = None
    assert decode_message(json.dumps(data)) == SNAPSHOT
    assert decode_request('{"kind": "ask", "uid": 1, "new": [[]]}') == Ask(uid=1)


def changed(message: Message, *path: Any) -> str:
    """Return the JSON of a message with the value at a path replaced; the last item is the new value."""
    *before, key, value = path
    data = place = json.loads(encode(message))
    for step in before:
        place = place[step]
    place[key] = value
    return json.dumps(data)


BAD_MESSAGES = [
    (SNAPSHOT, "tasks", "abc"),
    (SNAPSHOT, "tasks", {}),
    (SNAPSHOT, "tasks", None),
    (SNAPSHOT, "tasks", 0, []),
    (SNAPSHOT, "tasks", 0, "uid", True),
    (SNAPSHOT, "tasks", 0, "uid", "1"),
    (SNAPSHOT, "tasks", 0, "uid", 1.0),
    (SNAPSHOT, "tasks", 0, "name", None),
    (SNAPSHOT, "tasks", 0, "name", 5),
    (SNAPSHOT, "tasks", 0, "predecessors", ""),
    (SNAPSHOT, "tasks", 0, "predecessors", {}),
    (SNAPSHOT, "tasks", 0, "predecessors", [1, "2"]),
    (SNAPSHOT, "tasks", 0, "more_predecessors", 0),
    (SNAPSHOT, "tasks", 0, "progress", [1]),
    (SNAPSHOT, "tasks", 0, "progress", [1, 2, 3]),
    (SNAPSHOT, "tasks", 0, "progress", [None, 2]),
    (SNAPSHOT, "tasks", 0, "progress", "12"),
    (SNAPSHOT, "tasks", 0, "began", 10**400),
    (SNAPSHOT, "tasks", 0, "began", float("nan")),
    (SNAPSHOT, "time", float("inf")),
    (SNAPSHOT, "time", "0"),
    (SNAPSHOT, "graph", []),
    (SNAPSHOT, "graph", None),
    (SNAPSHOT, "graph", "phase", "later"),
    (SNAPSHOT, "graph", "phase", []),
    (SNAPSHOT, "graph", "phase", "x" * 100_000),
    (FIGURES, "types", 0, "states", []),
    (FIGURES, "types", 0, "states", [["READY", 1]]),
    (FIGURES, "types", 0, "states", {"READY": "1"}),
    (FIGURES, "types", 0, "states", {"\x1b[31m" * 1000: None}),
    (FIGURES, "kind", "figures"),
    (FIGURES, "kind", []),
    (FIGURES, "kind", None),
    (FIGURES, "kind", "x" * 100_000),
]


@pytest.mark.parametrize("bad", BAD_MESSAGES, ids=lambda bad: "-".join(str(part)[:20] for part in bad[1:]))
def test_values_of_wrong_types_are_refused(bad: tuple[Any, ...]) -> None:
    """Nothing is guessed at: a string is no number and no list, and true is not 1."""
    refused(decode_message, changed(*bad))


BAD_REQUESTS: dict[str, str | bytes] = {
    "nothing": "",
    "no bytes": b"",
    "no object": "[]",
    "null": "null",
    "a number": "1",
    "no kind": "{}",
    "unknown kind": '{"kind": "Watch"}',
    "a message": encode(SNAPSHOT),
    "letters": '{"kind": "watch", "types": "abc"}',
    "a type": '{"kind": "watch", "types": [1]}',
    "no section": '{"kind": "watch", "section": true}',
    "no view": '{"kind": "watch", "view": "all"}',
    "terminal": '{"kind": "watch", "view": "\\u001b[31m\\n"}',
    "left out": '{"kind": "ask"}',
    "twice": '{"kind": "ask", "uid": 1, "uid": 2}',
    "twice within": '{"kind": "ask", "uid": 1, "new": {"a": 1, "a": 1}}',
    "much is wrong": json.dumps({"kind": "watch", "types": [1] * 10_000}),
    "deep": '{"kind": "watch", "new": ' + "[" * 100_000 + "]" * 100_000 + "}",
    "deep, not closed": "[" * 100_000,
    "a huge number": '{"kind": "ask", "uid": ' + "1" * 10_000 + "}",
    "infinity": '{"kind": "ask", "uid": Infinity}',
    "not closed": '{"kind": "ask", "uid": 1',
    "two": '{"kind": "ask", "uid": 1}{"kind": "ask", "uid": 1}',
    "a mark": '\ufeff{"kind": "ask", "uid": 1}',
    "no UTF-8": b'{"kind": "ask", "uid": 1, "new": "\xff"}',
    "UTF-16": '{"kind": "ask", "uid": 1}'.encode("utf-16"),
    "UTF-32": '{"kind": "ask", "uid": 1}'.encode("utf-32-le"),
    "a surrogate": b'{"kind": "ask", "uid": 1, "new": "\xed\xa0\x80"}',
    "large": '{"kind": "' + "x" * 1_000_000 + '"}',
}


@pytest.mark.parametrize("text", BAD_REQUESTS.values(), ids=BAD_REQUESTS.keys())
def test_texts_that_are_no_requests_are_refused(text: str | bytes) -> None:
    """Whatever comes, the answer is a `BadMessage`."""
    refused(decode_request, text)


def refused(decode: Callable[[str | bytes], object], text: str | bytes) -> None:
    """Verify that a text is refused with few words, which a terminal may print."""
    with pytest.raises(BadMessage) as caught:
        decode(text)
    assert caught.value.text == text
    assert len(str(caught.value)) < 4_000
    assert str(caught.value).isprintable()


def test_lone_surrogates_in_strings_are_as_good_as_any_name() -> None:
    """Names of tasks may have them, so they come through as escapes."""
    assert decode_request('{"kind": "watch", "types": ["\\ud800"]}') == Watch(types=("\ud800",))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
KEYS = ["kind", "tasks", "graph", "types", "time", "number", "first", "last", "gone", "version", "text"]


@settings(max_examples=examples(200), deadline=None)
@given(
    kind=st.sampled_from(["snapshot", "changes", "types", "detail", "end", "problem", "watch", "ask"]),
    rest=st.dictionaries(st.sampled_from(KEYS), json_values),
)
def test_no_object_raises_anything_else(kind: str, rest: dict[str, object]) -> None:
    """An object with any values is a message or a `BadMessage`."""
    for decode in (decode_message, decode_request):
        try:
            message = decode(json.dumps({"kind": kind, **rest}))
        except BadMessage:
            continue
        assert decode(encode(message)) == message


@settings(max_examples=examples(100), deadline=None)
@given(st.binary(max_size=30) | st.text(max_size=30))
def test_no_text_raises_anything_else(text: str | bytes) -> None:
    """So is any text, and any bytes."""
    for decode in (decode_message, decode_request):
        with pytest.raises(BadMessage):
            decode(text)


def test_what_json_does_not_have_is_not_written() -> None:
    """A number that is none is a mistake of the feed, and is not sent."""
    with pytest.raises(ValueError, match="JSON"):
        encode(End(number=1, time=float("nan")))
