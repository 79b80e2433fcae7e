"""What the package promises to whoever imports it."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import trio_graph_scheduler
from trio_graph_scheduler import execution, graph, observe
from trio_graph_scheduler.observe import drawing, profile, report, terminal, trace

MODULES = (trio_graph_scheduler, graph, execution, observe, drawing, profile, report, terminal)


OPTIONAL = {
    "httpx2",
    "bs4",
    "hypothesis",
    "pytest",
    "rich",
    "cattrs",
    "wsproto",
    "trio_websocket",
    "opentelemetry",
    "structlog",
}


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_every_public_name_is_there_and_says_what_it_is(module: object) -> None:
    """All names of `__all__` have a docstring, and so have the methods of the classes among them."""
    names: list[str] = module.__all__  # type: ignore[attr-defined]
    assert names == sorted(names)
    for name in names:
        thing = getattr(module, name)
        assert inspect.getdoc(thing), name
        for member, value in vars(thing).items() if inspect.isclass(thing) else ():
            if callable(value) and not member.startswith("_"):
                assert inspect.getdoc(value), f"{name}.{member}"


def test_the_promised_paths() -> None:
    """The import paths of the first user's program hold."""
    assert execution.execute_graph is trio_graph_scheduler.execute_graph
    assert graph.TaskGraph is trio_graph_scheduler.TaskGraph
    assert callable(trace.write)
    assert callable(report.write)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = trio_graph_scheduler.nonsense
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = observe.nonsense


def test_importing_pulls_in_no_more_than_needed() -> None:
    """Importing the package needs attrs only; trio comes in when something is asked for that runs graphs."""
    program = (
        "import sys, trio_graph_scheduler as tgs\n"
        "assert 'trio' not in sys.modules\n"
        "tgs.open_graph\n"
        "assert 'trio' in sys.modules\n"
        "import trio_graph_scheduler.observe\n"
        f"assert not {OPTIONAL} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
