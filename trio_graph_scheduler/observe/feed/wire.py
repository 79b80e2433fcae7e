"""Messages as JSON texts, which `docs/protocol.md` shows.

An object each, whose `kind` says which it is. Fields that are not known are ignored, so that a newer side may
say more.
"""

from __future__ import annotations

import json
from typing import Any

from cattrs import BaseValidationError, transform_error
from cattrs.preconf.json import JsonConverter, make_converter
from cattrs.strategies import configure_tagged_union

from trio_graph_scheduler.graph import GraphError
from trio_graph_scheduler.graph.errors import shown_value

from .messages import Message, Request


class BadMessage(GraphError, ValueError):
    """A text is not a message."""

    def __init__(self, text: str, what: str) -> None:
        self.text = text
        super().__init__(f"{shown_value(text)} is no message: {what}")


def encode(message: Message | Request) -> str:
    """Return a message as JSON, in ASCII."""
    data = _REQUESTS.unstructure(message, Request) if isinstance(message, Request) else None
    return json.dumps(data or _MESSAGES.unstructure(message, Message), separators=(",", ":"), allow_nan=False)


def decode_message(text: str | bytes) -> Message:
    """Return the message of the feed in a JSON text. Raises `BadMessage`."""
    return _decoded(text, _MESSAGES, Message)  # type: ignore[no-any-return]  # it is one


def decode_request(text: str | bytes) -> Request:
    """Return the request of a client in a JSON text. Raises `BadMessage`."""
    return _decoded(text, _REQUESTS, Request)  # type: ignore[no-any-return]  # it is one


def _decoded(text: str | bytes, converter: JsonConverter, kinds: Any) -> Any:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadMessage(str(text), f"no JSON ({error})") from None
    if not isinstance(data, dict):
        raise BadMessage(str(text), "it must be a JSON object")
    try:
        return converter.structure(data, kinds)
    except BaseValidationError as error:
        raise BadMessage(str(text), "; ".join(transform_error(error))) from None
    except (KeyError, ValueError, TypeError) as error:
        raise BadMessage(str(text), f"its kind is unknown ({error})") from None


def _converter(kinds: Any) -> JsonConverter:
    converter = make_converter()
    # JSON has these types itself, so that a value of another one is a mistake, which is not to be guessed at.
    for kind in (str, int, bool):
        converter.register_structure_hook(kind, _strictly)
    converter.register_structure_hook(float, lambda value, _: _strictly_float(value))
    configure_tagged_union(
        kinds, converter, tag_name="kind", tag_generator=lambda kind: kind.__name__.lower()
    )
    return converter


def _strictly(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise TypeError(f"it must be {kind.__name__}, and is {shown_value(value)}")
    return value


def _strictly_float(value: Any) -> float:
    return float(value) if type(value) is int else _strictly(value, float)


_MESSAGES = _converter(Message)
_REQUESTS = _converter(Request)
