"""`docs/protocol.md` shows every message, with every field, as it is on the wire."""

from __future__ import annotations

import json
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from trio_graph_scheduler.graph import TaskState
from trio_graph_scheduler.observe.feed import messages
from trio_graph_scheduler.observe.feed.wire import decode_message, decode_request, encode

TEXT = (Path(__file__).parents[1] / "docs" / "protocol.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```json\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
MESSAGES = typing.get_args(messages.Message)
REQUESTS = typing.get_args(messages.Request)


def decoded(example: str) -> Any:
    """Return the message of an example."""
    requests = [kind.__name__.lower() for kind in REQUESTS]
    return decode_request(example) if json.loads(example)["kind"] in requests else decode_message(example)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: json.loads(example)["kind"])
def test_examples_are_what_is_sent(example: str) -> None:
    """Each is a message, and that message is written as the example, field by field."""
    assert json.loads(encode(decoded(example))) == json.loads(example)


def test_every_message_is_shown_once() -> None:
    """All of the protocol is on the page, each message under a heading."""
    kinds = [type(decoded(example)) for example in EXAMPLES]
    assert len(kinds) == len(set(kinds))
    assert set(kinds) == {*MESSAGES, *REQUESTS}
    assert sorted(re.findall(r"^### (\w+)$", TEXT, re.MULTILINE)) == sorted(
        kind.__name__.lower() for kind in kinds
    )


def shown_fields(value: Any) -> Iterator[tuple[type, str, object]]:
    """Yield the class, name and value of all fields of a message, and of what is in it."""
    if attrs.has(type(value)):
        for field in attrs.fields(type(value)):
            inner = getattr(value, field.name)
            yield type(value), field.name, inner
            for item in inner if isinstance(inner, tuple) else (inner,):
                yield from shown_fields(item)


def test_every_field_has_a_value_somewhere() -> None:
    """There is an example of what is in it, other than nothing."""
    found = {
        (kind, field)
        for example in EXAMPLES
        for kind, field, value in shown_fields(decoded(example))
        if value is not None and value != ()
    }
    classes = {kind for kind, _ in found}
    nothing = {(messages.Detail, "result"), (messages.TaskView, "reason"), (messages.Watch, "section")}
    nothing |= {(messages.Watch, "groups")}
    assert {(kind, field.name) for kind in classes for field in attrs.fields(kind)} - found == nothing
    defined = {kind for kind in vars(messages).values() if isinstance(kind, type) and attrs.has(kind)}
    assert classes == defined


def test_states_and_fields_of_tasks_are_listed() -> None:
    """The table has each field of a task, and names each state."""
    table = "".join(re.findall(r"^\|.*$", TEXT, re.MULTILINE))
    assert set(re.findall(r"`([A-Z]+)`", table)) == {state.value for state in TaskState}
    listed = set(re.findall(r"`([a-z_]+)`", table))
    assert listed == {field.name for field in attrs.fields(messages.TaskView)}
    assert f"version {messages.VERSION}" in TEXT
