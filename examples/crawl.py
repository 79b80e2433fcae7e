"""Read a web site, every page and every link, as one graph of tasks that grows while it runs.

python examples/crawl.py                                      # a small site that comes with the example
python examples/crawl.py --serve docs/build/html              # a folder of HTML, served on this machine
python examples/crawl.py https://example.org --max-pages 100  # a site of yours: robots.txt is not asked

Visiting an address is a task. What it finds there it adds as its children, one task for each new address,
however many links lead there. Visits run in a worker group per host, the parsing of pages in another one. A
last task waits until the first visits have *settled*, that is until all that came of them has ended too, and
builds the word index.
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

from findings import Broken, NotAPage, Outcome, Redirect, WordIndex, summary, word_index
from pages import host_of, normalise, parse, resolve
from serving import MUSEUM, serve
from trio_graph_scheduler import TaskGraph, TaskType, execute_graph, settled

HTML = {"text/html", "application/xhtml+xml"}
MOST_BYTES = 5_000_000
MOST_REDIRECTS = 10
PARSERS = 2


@dataclass(frozen=True)
class Limits:
    """How far a crawl goes."""

    depth: float
    pages: int
    per_host: int
    seconds: float
    """For each answer."""


@dataclass(frozen=True)
class Document:
    """An HTML page as it came, with the encoding that the server named."""

    body: bytes
    charset: str | None


Answer = Document | Redirect | NotAPage | Broken


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
        limit_of = {"parsing": PARSERS, **dict.fromkeys(groups.values(), limits.per_host)}
        self.graph = TaskGraph(worker_loops=limit_of)
        visit = TaskType(self.visit, name="visit")
        self.visits = {host: visit.but(group=group) for host, group in groups.items()}
        # Parsing is computation. As a plain function it runs in a thread: while a page of megabytes is parsed
        # answers are read and deadlines kept. More than two threads would only share the interpreter lock.
        self.parse = TaskType(parse, group="parsing")

        self.reach(starts, 0)
        self.index = self.graph.add(self.build_index, after=settled(*self.graph.tasks()))

    def reach(self, addresses: Iterable[str], steps: int) -> None:
        """Visit what is this many steps from the start, unless it is too far or on another host."""
        reached = deque((address, steps) for address in addresses)
        while reached:
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
        """Read what is at an address and reach for what it leads to. None: there are enough pages already."""
        if not self.pages_left:
            return None
        answer = await fetch(self.client, address, self.limits.seconds)
        if isinstance(answer, Document):
            # A task that awaits another one gives back its place meanwhile: the next visit can begin.
            page = await self.graph.add(self.parse, address, answer.body, answer.charset).result()
            if page is None:
                return NotAPage("said to be HTML, and cannot be read as such")
            if not self.pages_left:
                return None
            self.pages_left -= 1
            self.lead(address, page.links, 1)
            return page
        if isinstance(answer, Redirect):
            in_a_row = self.redirects.get(address, 0) + 1
            if in_a_row > MOST_REDIRECTS:
                return Broken(f"more than {MOST_REDIRECTS} redirects in a row")
            self.redirects.setdefault(answer.target, in_a_row)
            self.lead(address, [answer.target], 0)
        return answer

    def lead(self, address: str, addresses: Sequence[str], distance: int) -> None:
        """Take note of what a visited address leads to, and go there."""
        self.leads_to[address] = addresses, distance
        self.reach(addresses, self.steps[address] + distance)

    def outcomes(self) -> dict[str, Outcome]:
        """Return what came of the visits so far."""
        visits = self.graph.tasks(type="visit", state="succeeded")
        return {visit.name: outcome for visit in visits if (outcome := visit.result_nowait()) is not None}

    def build_index(self) -> WordIndex:
        """Return which words are on which pages. All has settled, so a thread may look at the graph."""
        return word_index(self.outcomes())


async def fetch(client: httpx2.AsyncClient, address: str, seconds: float) -> Answer:
    """Ask for an address. That a link is broken is no failure of the task: it is what we want to know."""
    try:
        with trio.fail_after(seconds):
            async with client.stream("GET", address) as response:
                return await read(response, address)
    except trio.TooSlowError:
        return Broken(f"no complete answer within {seconds:g} seconds")
    except httpx2.HTTPError as error:
        return Broken(str(error) or type(error).__name__)
    except httpx2.InvalidURL as error:  # httpx2 looks where a redirect leads
        return Broken(f"redirects to no web address: {error}")


async def read(response: httpx2.Response, address: str) -> Answer:
    """Read an answer as far as it is of use: pages only, and not without end."""
    if response.has_redirect_location:
        location = response.headers["location"]
        try:
            target = resolve(address, location)
        except ValueError as error:
            return Broken(f"redirects to {location!r}: {error}")
        return Broken(f"redirects to no web address: {location!r}") if target is None else Redirect(target)
    if not response.is_success:
        return Broken(f"HTTP {response.status_code} {response.reason_phrase}".rstrip())
    kind = response.headers.get("content-type", "text/html").partition(";")[0].strip().lower()
    if kind not in HTML:
        return NotAPage(kind)
    body = bytearray()
    with trio.CancelScope() as enough:  # a `break` would leave the generators inside of httpx2 unfinished
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > MOST_BYTES:
                enough.cancel()
    if enough.cancelled_caught:
        return NotAPage(f"{kind}, of more than {MOST_BYTES:,} bytes")
    return Document(bytes(body), response.charset_encoding)


async def crawl(starts: Sequence[str], limits: Limits) -> tuple[int, str]:
    """Crawl the sites of these addresses. Returns how many pages were read, and what there is to say."""
    # One client for all visits, so that they share connections. How many there are at a time is the graph's
    # business, how long they take that of fetch(); and what this machine serves to itself needs no proxy.
    client = httpx2.AsyncClient(
        timeout=None,
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=None),
        mounts={"all://127.0.0.1": None},
    )
    async with client:
        this = Crawl(starts, client, limits)
        report = await execute_graph(this.graph)
    pages, tasks = limits.pages - this.pages_left, len(this.graph)
    pace = f"{report.duration:.2f} seconds, {tasks / report.duration:,.0f} per second"
    found = summary(starts, this.outcomes(), this.index.result_nowait())
    return pages, f"Pages read: {pages:,}\nTasks: {tasks:,} in {pace}\n\n{found}"


async def crawl_unless_interrupted(starts: Sequence[str], limits: Limits) -> tuple[int, str]:
    """Crawl; Ctrl-C cancels that, and so raises no KeyboardInterrupt in the middle of anything."""
    found = None
    with trio.open_signal_receiver(signal.SIGINT) as interrupts:
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                await anext(interrupts)
                nursery.cancel_scope.cancel()

            nursery.start_soon(watch)
            found = await crawl(starts, limits)
            nursery.cancel_scope.cancel()
    if found is None:
        raise KeyboardInterrupt
    return found


def front_pages(folder: Path) -> list[str]:
    """Return the path of a folder's front page, or of every page if it has none, as it is in an address."""
    front = folder / "index.html"
    pages = [front] if front.is_file() else sorted(folder.rglob("*.htm*"))
    return [quote(page.relative_to(folder).as_posix(), errors="surrogateescape") for page in pages]


def command_line() -> tuple[list[str], Path, Limits]:
    """Return where to start (if nowhere, then in the folder), the folder, and the limits."""
    parser = argparse.ArgumentParser(description="Read a web site: its words, its pages, its broken links.")
    add = parser.add_argument
    add("urls", metavar="URL", nargs="*", help="where to start; other hosts than these are left alone")
    add("--serve", metavar="DIR", type=Path, help="serve this folder of HTML on this machine, and crawl it")
    add("--depth", metavar="N", type=int, default=math.inf, help="follow at most N links in a row")
    add("--max-pages", metavar="N", type=int, default=1000, help="read at most N pages (default: 1000)")
    add("--per-host", metavar="N", type=int, default=6, help="ask a host for N at a time (default: 6)")
    add("--timeout", metavar="SECONDS", type=float, default=20, help="for each of them (default: 20)")
    given = parser.parse_args()
    if given.depth < 0 or given.max_pages < 1 or given.per_host < 1 or not given.timeout > 0:
        parser.error("--depth must be 0 or more, and --max-pages, --per-host and --timeout more than 0")
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
    return starts, folder, Limits(given.depth, given.max_pages, given.per_host, given.timeout)


def main() -> int:
    """Crawl what the command line asks for, tell of it, and return the exit status."""
    starts, folder, limits = command_line()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # pages have words that a terminal may not have letters for
    status = 1
    try:
        with ExitStack() as stack:
            if not starts:
                site = stack.enter_context(serve(folder))
                starts = [normalise(site + path) for path in front_pages(folder)]
            pages, text = trio.run(crawl_unless_interrupted, starts, limits)
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
