"""The documentation is true: programs print what is shown, code compiles, defaults and links are right.

What is a program can be seen on the page: a block of Python with `trio.run(` in it is complete in itself. A
block of text that comes next is what it prints.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import math
import re
from pathlib import Path

import attrs
import pytest
import trio

import trio_graph_scheduler
from tests.support import SEEDS, run
from trio_graph_scheduler import TaskGraph, observe
from trio_graph_scheduler.observe import client, logs, profile, websocket
from trio_graph_scheduler.observe.feed import messages

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
GUIDES = [ROOT / "docs" / name for name in ("when-things-go-wrong.md", "limits.md", "watching.md")]
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@attrs.frozen
class Block:
    """A block of code on a page."""

    page: Path
    line: int
    language: str
    code: str
    # What the next block shows, if it is a block of text and nothing but "prints" comes in between.
    shown: str | None

    @property
    def is_program(self) -> bool:
        """Whether it is complete in itself."""
        return self.language == "python" and "trio.run(" in self.code

    @property
    def padded(self) -> str:
        """The code on the lines where it stands, so that errors point at the page."""
        return "\n" * self.line + self.code


def blocks_of(page: Path) -> list[Block]:
    """Return the blocks of code on a page."""
    text = page.read_text(encoding="utf-8")
    found = list(FENCED.finditer(text))
    blocks = []
    for block, then in zip(found, [*found[1:], None], strict=True):
        shown = None
        if (
            then is not None
            and then[1] == "text"
            and text[block.end() : then.start()].strip() in ("", "prints")
        ):
            shown = then[2]
        line = text.count("\n", 0, block.start()) + 1
        blocks.append(Block(page, line, block[1], block[2], shown))
    return blocks


OTHERS = {"QueueHandler", "Authorization", "Bearer", "Host", "Origin"}
"""Classes of other packages, and headers of HTTP, that the text names."""
CLASS_NAME = re.compile(r"(?<![\w.'\"])[A-Z]+[a-z]\w*")
BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def where(block: Block) -> str:
    """Return the place of a block, as the name of its test."""
    return f"{block.page.name}-{block.line}"


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("block", [block for block in BLOCKS if block.is_program], ids=where)
def test_programs_run_and_print_what_is_shown(
    block: Block, seed: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A complete program runs as it stands, in any order of trio tasks, and prints what the page shows."""
    real_run = trio.run
    runs = []

    def run_on_mock_clock(*args: object) -> object:
        runs.append(args)
        monkeypatch.setattr(trio, "run", real_run)
        return run(*args, seed=seed)  # type: ignore[arg-type]  # whatever the program passes

    monkeypatch.setattr(trio, "run", run_on_mock_clock)
    exec(compile(block.padded, block.page, "exec"), {"__name__": "__main__"})  # noqa: S102 - it is our own
    assert len(runs) == 1
    output = capsys.readouterr()
    assert output.err == ""
    assert output.out == (block.shown or "")


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "python"], ids=where)
def test_code_compiles(block: Block) -> None:
    """Every block of Python is Python; what stands for a part of an async function may await."""
    flags = 0 if block.is_program else ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    compile(block.padded, block.page, "exec", flags=flags, dont_inherit=True)


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.name)
def test_the_guides_begin_with_a_program_whose_output_is_shown(page: Path) -> None:
    """The first code block can be run as it stands, and no output is shown that no program prints."""
    blocks = blocks_of(page)
    assert blocks[0].is_program
    shown = [block.shown for block in blocks if block.is_program and block.shown is not None]
    assert shown == [block.code for block in blocks if block.language == "text"]


# What the text says of names --------------------------------------------------------------------------------


def tables_of(page: Path) -> list[tuple[str, dict[str, str]]]:
    """Return the tables of parameters on a page: whose they are, and name -> default as written."""
    tables: list[tuple[str, dict[str, str]]] = []
    table: dict[str, str] | None = None
    for line in page.read_text(encoding="utf-8").splitlines():
        head = re.fullmatch(r"\| parameter of `(\w+)` \| default \|.*\|", line)
        row = re.match(r"\| `(\w+)` \| (?:`(.+?)`)? ?\|", line)
        if head is not None:
            table = {}
            tables.append((head[1], table))
        elif table is not None and row is not None:
            table[row[1]] = row[2] or ""
        elif not line.startswith("|"):
            table = None
    return tables


TABLES = [table for page in PAGES for table in tables_of(page)]


def test_the_parameters_of_all_policies_are_told() -> None:
    """There is a table for each."""
    assert sorted(name for name, _ in TABLES) == ["Rate", "Retry", "WorkerGroup", "add_threshold"]


@pytest.mark.parametrize(("name", "told"), TABLES, ids=[name for name, _ in TABLES])
def test_tables_of_parameters_are_complete_and_defaults_right(name: str, told: dict[str, str]) -> None:
    """A table has all parameters in their order, and the defaults that a call without them gets."""
    function = getattr(trio_graph_scheduler, name, None) or getattr(TaskGraph, name)
    parameters = inspect.signature(function).parameters
    assert list(told) == [parameter for parameter in parameters if parameter != "self"]
    for parameter, written in told.items():
        # What attrs converts is in the signature as it was given, which is as it is written.
        default = parameters[parameter].default
        expected = eval(written, {"math": math}) if written else inspect.Parameter.empty  # noqa: S307 - our own
        assert default == expected, parameter


def anchors_of(page: Path) -> set[str]:
    """Return what links to a page may point at: its headings, as GitHub turns them into anchors."""
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Files that are linked to exist, and so do the headings in them."""
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCED.sub("", page.read_text(encoding="utf-8"))):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors_of(linked), target


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.name)
def test_classes_that_the_text_names_exist(page: Path) -> None:
    """What is written like a class, in code within the text, is one of this package, or built in."""
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    words = {word for code in re.findall(r"`([^`]+)`", text) for word in re.findall(CLASS_NAME, code)}
    assert words
    modules = (trio_graph_scheduler, observe, messages, logs, profile, client, websocket)
    ours = {name for module in modules for name in (*dir(module), *getattr(module, "__all__", ()))}
    assert sorted(words - {*ours, *OTHERS, *dir(builtins)}) == []
