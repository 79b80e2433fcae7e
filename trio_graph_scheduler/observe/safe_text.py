"""The text of strangers, made safe: names, messages and exceptions may be anything, and may raise when asked.

`shown`, `shown_value` and `title` (of `graph.errors`) are for what stands within a sentence; these functions
are for whole texts.
"""

from __future__ import annotations

import traceback


def text_of(thing: object) -> str:
    """Return `str(thing)`, or its type's name in angle brackets if that raises."""
    try:
        return str(thing)
    except Exception:  # noqa: BLE001 - whatever a stranger's __str__ raises
        return f"<{type(thing).__name__}>"


def printable(text: str) -> str:
    """Escape what a terminal would act on or could not show, tabs excepted, as `repr` does.

    That is control characters, line breaks among them, marks of direction, and lone surrogates.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char == "\t" else char.encode("unicode_escape").decode()
        for char in text
    )


def cut(text: str, most: int) -> str:
    """Return at most so many characters of a text."""
    return text if len(text) <= most else text[: most - 1] + "…"


def plain(text: str, most: int) -> str:
    """Return at most so many characters of a text, printable as pages, viewers and terminals may show it."""
    return printable(cut(text, most))


def encodable(text: str, most: int) -> str:
    """Return at most so many characters of a text, lone surrogates escaped, so that UTF-8 can encode it."""
    return cut(text, most).encode("utf-8", "backslashreplace").decode("utf-8")


def type_name(error: BaseException) -> str:
    """Return the qualified name of an exception's type, without `builtins`."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def traceback_of(error: BaseException) -> str:
    """Return an exception as Python prints it, or if Python cannot, its type and message and why."""
    try:
        return "".join(traceback.format_exception(error)).rstrip("\n")
    except Exception as failure:  # noqa: BLE001 - the attributes of a stranger's exception may raise, or be anything
        return (
            f"{type_name(error)}: {text_of(error)}\nwithout a traceback, as that raised {type_name(failure)}"
        )
