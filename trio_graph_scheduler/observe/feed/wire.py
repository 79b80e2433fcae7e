"""Messages as JSON texts, which `docs/protocol.md` shows.

An object each, whose `kind` says which it is. Fields that are not known are ignored, so that a newer side may
say more.
"""

from __future__ import annotations

import json
import math
from typing import Any, get_args, get_origin

from cattrs import BaseValidationError, transform_error
from cattrs.preconf.json import JsonConverter, make_converter
from cattrs.strategies import configure_tagged_union

from trio_graph_scheduler.graph import GraphError
from trio_graph_scheduler.graph.errors import shown_value
from trio_graph_scheduler.observe.safe_text import printable

from .messages import Message, Request

LONGEST_EXPLANATION = 300
"""Characters of what is said about a text that is no message: much may be wrong with it."""


class BadMessage(GraphError, ValueError):
    """A text is not a message."""

    def __init__(self, text: str | bytes, what: str) -> None:
        self.text = text
        super().__init__(f"{shown_value(text)} is no message: {printable(what[:LONGEST_EXPLANATION])}")


def encode(message: Message | Request) -> str:
    """Return a message as JSON, in ASCII."""
    if isinstance(message, Request):
        data = _REQUESTS.unstructure(message, Request)
    else:
        data = _MESSAGES.unstructure(message, Message)
    return json.dumps(data, separators=(",", ":"), allow_nan=False)


def decode_message(text: str | bytes) -> Message:
    """Return the message of the feed in a JSON text. Raises `BadMessage`."""
    return _decoded(text, _MESSAGES, Message)  # type: ignore[no-any-return]  # it is one


def decode_request(text: str | bytes) -> Request:
    """Return the request of a client in a JSON text. Raises `BadMessage`."""
    return _decoded(text, _REQUESTS, Request)  # type: ignore[no-any-return]  # it is one


def _decoded(text: str | bytes, converter: JsonConverter, kinds: Any) -> Any:
    try:
        json_text = text if isinstance(text, str) else text.decode()
        data = json.loads(json_text, object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise BadMessage(text, f"no JSON ({error})") from None
    if not isinstance(data, dict):
        raise BadMessage(text, "it must be a JSON object")
    try:
        return converter.structure(data, kinds)
    except BaseValidationError as error:
        raise BadMessage(text, "; ".join(transform_error(error))) from None
    except (KeyError, TypeError):
        raise BadMessage(text, f"its kind is {shown_value(data.get('kind'))}, which is unknown") from None


def _without_duplicates(items: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(items)
    if len(data) < len(items):
        raise ValueError("a key comes twice in one object")
    return data


def _converter(kinds: Any) -> JsonConverter:
    converter = make_converter()
    # JSON has these types itself, so that a value of another one is a mistake, which is not to be guessed at.
    for kind in (str, int, bool):
        converter.register_structure_hook(kind, _strictly)
    converter.register_structure_hook(float, lambda value, _: _strictly_float(value))
    converter.register_structure_hook_func(
        _is_tuple, lambda value, kind: _strictly_tuple(value, kind, converter)
    )
    configure_tagged_union(
        kinds, converter, tag_name="kind", tag_generator=lambda kind: kind.__name__.lower()
    )
    return converter


def _strictly(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise TypeError(f"it must be {kind.__name__}, and is {shown_value(value)}")
    return value


def _strictly_float(value: Any) -> float:
    number: float = float(value) if type(value) is int else _strictly(value, float)
    if not math.isfinite(number):
        raise ValueError(f"it must be a finite number, and is {number}")
    return number


def _is_tuple(kind: Any) -> bool:
    return get_origin(kind) is tuple


def _strictly_tuple(value: Any, kind: Any, converter: JsonConverter) -> tuple[Any, ...]:
    kinds = get_args(kind)
    items = _strictly(value, list)
    if kinds[-1] is ...:
        return tuple(converter.structure(items, list[kinds[0]]))  # type: ignore[valid-type]  # known at run time
    return tuple(converter.structure(item, each) for item, each in zip(items, kinds, strict=True))


_MESSAGES = _converter(Message)
_REQUESTS = _converter(Request)
