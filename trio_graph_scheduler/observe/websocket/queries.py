"""What is watched, as the query of a URL."""

from __future__ import annotations

from urllib.parse import urlencode

import attrs

from trio_graph_scheduler.graph import BadValue
from trio_graph_scheduler.observe.feed.messages import Watch

from .gate import parameters


def query_of(watch: Watch) -> str:
    """Return what is to be watched, as the query of a URL."""
    fields = attrs.asdict(watch, filter=lambda field, value: value != field.default)
    return urlencode(
        [
            (name, one)
            for name, value in fields.items()
            for one in (value if isinstance(value, tuple | list) else [value])
        ],
        errors="surrogatepass",
    )


def watch_of(target: str) -> Watch:
    """Return what is to be watched, from the target of a request.

    Fields of several names are repeated: `?states=FAILED&states=RUNNING`. Other parameters are left alone.
    Raises `BadValue` if a field of one value has several, or a number is none.
    """
    query = parameters(target)
    fields: dict[str, object] = {name: tuple(query.get(name, ())) for name in ("types", "states", "groups")}
    for name in ("view", "feed", "section", "number"):
        values = query.get(name, [])
        if len(values) > 1:
            raise BadValue(f"{name} in the URL", values, "it must be given once")
        if values:
            fields[name] = _whole(name, values[0]) if name in ("section", "number") else values[0]
    return Watch(**fields)  # type: ignore[arg-type]  # `view` is checked by whoever selects


def _whole(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 18):  # noqa: PLR2004 - as many digits as 64 bits hold
        raise BadValue(f"{name} in the URL", text, "it must be a whole number")
    return int(text)
