"""Count the words of a web site: fetch every page, count each as soon as it is there, add up at the end.

python examples/word_counts.py

This is the explicit form: functions, worker loops and assignments are tables of names; tasks are created by
name and known by their uids. In the short form it would be graph.add(process_html, graph.add(get_html, url)).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import httpx2
import trio

from pages import parse
from serving import MUSEUM, serve
from trio_graph_scheduler import Task, WorkerGroup, worker_context
from trio_graph_scheduler.execution import execute_graph
from trio_graph_scheduler.graph import TaskGraph


async def get_html(url: str) -> bytes:
    """Fetch a page, by the client of the worker loop that runs this."""
    client: httpx2.AsyncClient = worker_context()
    response = await client.get(url)
    return response.raise_for_status().content


def process_html(predecessors: list[Task[bytes]]) -> Counter[str]:
    """Count the words of a page; a wait task without arguments gets the tasks that it waited for."""
    [html] = predecessors
    page = parse("http://127.0.0.1/", html.result_nowait())
    return page.words if page else Counter()


def combine(predecessors: list[Task[Counter[str]]]) -> Counter[str]:
    """Add up the words of all pages."""
    return sum((words.result_nowait() for words in predecessors), Counter())


TASK_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "get_html": get_html,
    "process_html": process_html,
    "combine": combine,
}
WORKER_LOOPS: dict[str, int | WorkerGroup] = {
    "default": 2,
    # Four loops, with a client each that is closed when the run ends. Pages of this machine need no proxy.
    "http": WorkerGroup(4, context=partial(httpx2.AsyncClient, trust_env=False)),
}
WORKER_ASSIGNMENTS = {"get_html": "http"}


async def count_words(urls: Sequence[str]) -> Counter[str]:
    """Return how often each word is on these pages, all together."""
    graph = TaskGraph(TASK_FUNCTIONS, WORKER_LOOPS, WORKER_ASSIGNMENTS)
    words_uids = []
    for url in urls:
        html_uid = await graph.create_task("get_html", ((url,), {}), graph.root.uid)
        words_uids.append(await graph.create_wait_task("process_html", None, [html_uid], True))
    total_uid = await graph.create_wait_task("combine", None, words_uids[:1], True)
    for words_uid in words_uids[1:]:  # until a task starts it can be given more to wait for
        graph.create_wait_link(words_uid, total_uid)
    await execute_graph(graph, 3)
    total: Counter[str] = graph[total_uid].result_nowait()
    return total


def main() -> None:
    """Count the words of the site that comes with the examples."""
    paths = [page.relative_to(MUSEUM).as_posix() for page in MUSEUM.rglob("*.html")]
    with serve(MUSEUM) as site:
        total = trio.run(count_words, [site + path for path in sorted(paths)])
    print(f"{total.total():,} words on {len(paths)} pages, {len(total):,} different ones. Most frequent:")
    for word, count in total.most_common(10):
        print(f"{count:6} {word}")


if __name__ == "__main__":
    main()
