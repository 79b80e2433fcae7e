"""Read a web site, every page and every link, as one graph of tasks that grows while it runs.

python examples/crawl.py                                      # a small site that comes with the example
python examples/crawl.py --serve docs/build/html              # a folder of HTML, served on this machine
python examples/crawl.py https://example.org --max-pages 100  # a site of yours: robots.txt is not asked
python examples/crawl.py --progress --report crawl.html       # watch it, and look at it afterwards

Visiting an address is a task. What it finds there it adds as its children, one task for each new address,
however many links lead there. Visits run in a worker group per host, with a limit and a rate, and are tried
again if there is no answer. Parsing pages has a group too. A last task waits until the first visits have
*settled*, that is until all that came of them has ended too, and builds the word index.
"""

from __future__ import annotations

import argparse
import io
import math
import os
import signal
import sys
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import httpx2
import trio

from fetching import NO_ANSWER, TRANSIENT, Document, fetch
from findings import Broken, NotAPage, Outcome, Redirect, WordIndex, reason, summary, word_index
from pages import Page, host_of, normalise, parse
from serving import BUSY, MUSEUM, serve
from trio_graph_scheduler import (
    Rate,
    Retry,
    TaskCancelled,
    TaskGraph,
    TaskSkipped,
    TaskType,
    Trial,
    WorkerGroup,
    execute_graph,
    settled,
)
from watching import Watching, watched

MOST_REDIRECTS = 10
PARSERS = 2
BURST = 4
"""Requests at once, for a host that was asked less than its rate allows before."""


@dataclass(frozen=True)
class Limits:
    """How far a crawl goes, and what it asks of a host."""

    depth: float
    pages: int
    per_host: int
    """Requests at a time."""
    rate: float
    """Requests per second, for each host."""
    tries: int
    """For each address."""
    seconds: float
    """For each answer."""


class Crawl:
    """A graph of visits to all that these addresses lead to, on their own hosts."""

    def __init__(self, starts: Sequence[str], client: httpx2.AsyncClient, limits: Limits) -> None:
        self.client = client
        self.limits = limits
        self.pages_left = limits.pages
        # Address -> the fewest steps it is from the start. Visits end in any order, so this may yet fall.
        self.steps: dict[str, int] = {}
        # Visited address -> what it leads to, and how many steps that is: a link is one, a redirect none.
        self.leads_to: dict[str, tuple[Sequence[str], int]] = {}
        # Address -> how many redirects in a row led there.
        self.redirects: dict[str, int] = {}

        # Each host has a worker group for itself, so a slow one holds up no visits but its own.
        groups = {host: f"http {host}" for host in map(host_of, starts)}
        rate = None if limits.rate == math.inf else Rate(limits.rate, burst=BURST)
        host_group = WorkerGroup(limits.per_host, rate=rate)
        self.graph = TaskGraph(
            worker_loops={"parsing": PARSERS, **dict.fromkeys(groups.values(), host_group)}, name="crawl"
        )
        # A visit that had no answer is tried again in a while. Others have its place until then.
        retry = Retry(limits.tries, delay=0.5, backoff=2, jitter=0.25, on=TRANSIENT)
        visit = TaskType(self.visit, name="visit", retry=retry, timeout=limits.seconds)
        self.visits = {host: visit.but(group=group) for host, group in groups.items()}
        # Parsing is computation. As a plain function it runs in a thread: while a page of megabytes is parsed
        # answers are read and deadlines kept. More than two threads would only share the interpreter lock.
        self.parse = TaskType(parse, group="parsing")
        # Plain too, but it adds tasks, which only trio's thread may do.
        self.take_in = TaskType(self.take_page_in, name="take in", executor="async")

        self.reach(starts, 0)
        self.index = self.graph.add(self.build_index, after=settled(*self.graph.tasks()))

    def reach(self, addresses: Iterable[str], steps: int) -> None:
        """Visit what is this many steps from the start, unless it is too far or on another host."""
        reached = deque((address, steps) for address in addresses)
        while reached and self.pages_left:
            address, steps = reached.popleft()
            visit = self.visits.get(host_of(address))
            if visit is None or steps >= self.steps.get(address, self.limits.depth + 1):
                continue
            self.steps[address] = steps
            self.graph.add(visit, address, name=address, dedupe=address)  # unless there is such a task
            # For a page that was read before this is a shorter way, and so it is for what that leads to.
            further, distance = self.leads_to.get(address, ((), 0))
            reached.extend((link, steps + distance) for link in further)

    async def visit(self, address: str) -> Outcome | None:
        """Ask for an address, and go on from there. None: it is a page, and will be taken in."""
        # This may fail and be tried again, what follows cannot: nothing is counted twice.
        answer = await fetch(self.client, address)
        if isinstance(answer, Document):
            page = self.graph.add(self.parse, address, answer.body, answer.charset)
            self.graph.add(self.take_in, address, page, name=address)  # when it is parsed, with the result
            return None
        if isinstance(answer, Redirect):
            in_a_row = self.redirects.get(address, 0) + 1
            if in_a_row > MOST_REDIRECTS:
                return Broken(f"more than {MOST_REDIRECTS} redirects in a row")
            self.redirects.setdefault(answer.target, in_a_row)
            self.lead(address, [answer.target], 0)
        return answer

    def take_page_in(self, address: str, page: Page | None) -> Outcome | None:
        """Count a page and reach for what it leads to. None: there are enough pages already."""
        if page is None:
            return NotAPage("said to be HTML, and cannot be read as such")
        if not self.pages_left:
            return None
        self.pages_left -= 1
        self.lead(address, page.links, 1)
        if not self.pages_left:  # what is still to be visited would only wait for its turn
            for visit in self.graph.tasks(type="visit"):
                if not visit.state.ended:
                    visit.cancel("there are enough pages")
        return page

    def lead(self, address: str, addresses: Sequence[str], distance: int) -> None:
        """Take note of what a visited address leads to, and go there."""
        self.leads_to[address] = addresses, distance
        self.reach(addresses, self.steps[address] + distance)

    def outcomes(self) -> dict[str, Outcome]:
        """Return what came of the visits. That a link is broken is no mistake: it is what we want to know."""
        found: dict[str, Outcome | None] = {}
        for visit in (*self.graph.tasks(type="visit"), *self.graph.tasks(type="take in")):
            try:
                found[visit.name] = visit.result_nowait()
            except NO_ANSWER as failure:  # of its last trial; by catching it we have handled it
                found[visit.name] = Broken(reason(failure))
            except (TaskCancelled, TaskSkipped):  # there were enough pages
                pass
        return {address: outcome for address, outcome in found.items() if outcome is not None}

    def requests(self) -> dict[str, tuple[Trial, ...]]:
        """Return the requests for each address: each trial of a visit is one."""
        return {visit.name: visit.trials for visit in self.graph.tasks(type="visit")}

    def build_index(self) -> WordIndex:
        """Return which words are on which pages. All has settled, so a thread may look at the graph."""
        return word_index(self.outcomes())


async def crawl(starts: Sequence[str], limits: Limits, watching: Watching) -> tuple[int, str]:
    """Crawl the sites of these addresses. Returns how many pages were read, and what there is to say."""
    # One client for all visits, so that they share connections. How many there are at a time, and how long
    # they take, is the graph's business; and what this machine serves to itself needs no proxy.
    client = httpx2.AsyncClient(
        timeout=None,
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=None),
        mounts={"all://127.0.0.1": None},
    )
    async with client:
        this = Crawl(starts, client, limits)
        async with watched(this.graph, watching):
            report = await execute_graph(this.graph)
    pages, tasks = limits.pages - this.pages_left, len(this.graph)
    head = [
        f"Pages read: {pages:,}",
        f"Tasks: {tasks:,} in {report.duration:.2f} seconds, {tasks / report.duration:,.0f} per second",
        f"Requests to each host: {limits.per_host} at a time"
        + (f", {limits.rate:g} per second" if limits.rate < math.inf else ""),
    ]
    found = summary(starts, this.outcomes(), this.index.result_nowait(), this.requests())
    return pages, "\n".join([*head, "", found])


async def crawl_unless_interrupted(
    starts: Sequence[str], limits: Limits, watching: Watching
) -> tuple[int, str]:
    """Crawl; Ctrl-C cancels that, and so raises no KeyboardInterrupt in the middle of anything."""
    found = None
    with trio.open_signal_receiver(signal.SIGINT) as interrupts:
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                await anext(interrupts)
                nursery.cancel_scope.cancel()

            nursery.start_soon(watch)
            found = await crawl(starts, limits, watching)
            nursery.cancel_scope.cancel()
    if found is None:
        raise KeyboardInterrupt
    return found


def front_pages(folder: Path) -> list[str]:
    """Return the path of a folder's front page, or of every page if it has none, as it is in an address."""
    front = folder / "index.html"
    pages = [front] if front.is_file() else sorted(folder.rglob("*.htm*"))
    return [quote(page.relative_to(folder).as_posix(), errors="surrogateescape") for page in pages]


def command_line() -> tuple[list[str], Path, Limits, Watching]:
    """Return where to start (if nowhere, then in the folder), the folder, the limits, and how to watch."""
    parser = argparse.ArgumentParser(description="Read a web site: its words, its pages, its broken links.")
    add = parser.add_argument
    add("urls", metavar="URL", nargs="*", help="where to start; other hosts than these are left alone")
    add("--serve", metavar="DIR", type=Path, help="serve this folder of HTML on this machine, and crawl it")
    add("--depth", metavar="N", type=int, default=math.inf, help="follow at most N links in a row")
    add("--max-pages", metavar="N", type=int, default=1000, help="read at most N pages (default: 1000)")
    add("--per-host", metavar="N", type=int, default=6, help="ask a host for N at a time (default: 6)")
    default = "default: 10, and inf, no limit, for what is served here"
    add("--rate", metavar="N", type=float, help=f"and for N per second, {BURST} at once ({default})")
    add("--timeout", metavar="SECONDS", type=float, default=20, help="for each answer (default: 20)")
    failed = "no answer, or HTTP 429 or 5xx"
    add("--tries", metavar="N", type=int, default=3, help=f"ask N times where there is {failed} (default: 3)")
    add("--watch", action="store_true", help="print the address of a websocket that tells how it goes")
    add("--progress", action="store_true", help="show in the terminal how it gets on")
    add("--trace", metavar="FILE", type=Path, help="write a trace, for ui.perfetto.dev or chrome://tracing")
    add("--report", metavar="FILE", type=Path, help="write a report as a page of HTML")
    given = parser.parse_args()
    rate = given.rate if given.rate is not None else 10 if given.urls else math.inf
    if given.depth < 0 or min(given.max_pages, given.per_host, given.tries) < 1 or not rate > 0:
        parser.error("--depth must be 0 or more, and --max-pages, --per-host, --rate and --tries more than 0")
    if not 0 < given.timeout < math.inf:
        parser.error("--timeout must be a number of seconds, more than 0")
    if given.urls and given.serve:
        parser.error("either URLs or --serve, not both")
    starts = []
    for url in given.urls:
        try:
            starts.append(normalise(url))
        except ValueError as error:
            parser.error(f"{url!r} is no address to start from: {error}")
    folder = given.serve or MUSEUM
    if not folder.is_dir():
        parser.error(f"there is no folder {str(folder)!r}")
    if not starts and not front_pages(folder):
        parser.error(f"there is no HTML in the folder {str(folder)!r}")
    for file in (given.trace, given.report):
        if file is not None and not file.parent.is_dir():
            parser.error(f"there is no folder {str(file.parent)!r} to write {file.name!r} to")
    limits = Limits(given.depth, given.max_pages, given.per_host, rate, given.tries, given.timeout)
    return starts, folder, limits, Watching(given.watch, given.progress, given.trace, given.report)


def main() -> int:
    """Crawl what the command line asks for, tell of it, and return the exit status."""
    starts, folder, limits, watching = command_line()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # pages have words that a terminal may not have letters for
    status = 1
    try:
        with ExitStack() as stack:
            if not starts:
                site = stack.enter_context(serve(folder, BUSY if folder is MUSEUM else ()))
                starts = [normalise(site + path) for path in front_pages(folder)]
            pages, text = trio.run(crawl_unless_interrupted, starts, limits, watching)
        print(text, flush=True)
        if pages:
            status = 0
        else:
            print("no page could be read", file=sys.stderr)
    except* KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = 130  # as shells have it
    except* BrokenPipeError:  # our reader has seen enough, as `head` has: do not try again at the exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status


if __name__ == "__main__":
    sys.exit(main())
