"""The examples do what they show, on real input: each runs as a program of its own, as its readers run it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import httpx2
import pytest
import trio
import websockets.exceptions
import websockets.sync.client

from crawl import Crawl, Limits, main
from pages import normalise, parse, resolve
from serving import Server
from trio_graph_scheduler import GraphFailed, execute_graph

EXAMPLES = Path(__file__).parents[1] / "examples"
PATIENCE = 60

Answer = bytes | Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def started(example: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Start an example as a program, strictly: a warning is an error."""
    # But httpx2 and httpcore leave generators of theirs behind where a page is not what its headers say.
    flags = ["-X", "dev", "-W", "error", "-W", "ignore:Async generator 'http:ResourceWarning"]
    command = [sys.executable, *flags, str(EXAMPLES / example), *map(str, arguments)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, encoding="utf-8") as program:
        try:
            yield program
        finally:
            program.kill()  # unless it has ended


def run(example: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run an example to its end."""
    with started(example, *arguments) as program:
        output, errors = program.communicate(timeout=PATIENCE)
    return subprocess.CompletedProcess(program.args, program.returncode, output, errors)


def crawl(*arguments: object) -> Summary:
    """Crawl, successfully, and at any rate unless the arguments say otherwise."""
    ended = run("crawl.py", "--rate", "inf", *arguments)
    assert (ended.returncode, ended.stderr) == (0, "")
    return Summary(ended.stdout)


class Summary:
    """What the crawler says, by section. The addresses of the first server are without it: /index.html."""

    def __init__(self, text: str) -> None:
        servers = re.findall(r"http://127\.0\.0\.1:\d+", text) or ["no addresses"]
        head, *sections = text.replace(servers[0], "").strip().split("\n\n")
        self.numbers: dict[str, str] = dict(re.findall(r"^([^:]+): ([\d,]+)", head, re.MULTILINE))
        self.lines: dict[str, list[str]] = {}
        for section in sections:
            title, *lines = section.split("\n")
            name, _, self.numbers[name] = title.partition(": ")
            self.lines[name] = [line[2:] for line in lines]

    @property
    def pages(self) -> int:
        """How many were read."""
        return int(self.numbers["Pages read"].replace(",", ""))

    @property
    def requests(self) -> dict[str, float]:
        """Figure -> value."""
        figures = re.findall(r"([a-z ]+): ([\d.]+)", "all: " + self.numbers["Requests"])
        return {name.strip(): float(value) for name, value in figures}

    @property
    def broken(self) -> dict[str, tuple[str, ...]]:
        """Broken link -> why, and where it is."""
        links: dict[str, tuple[str, ...]] = {}
        link = ""
        for line in self.lines.get("Broken links", []):
            if not line.startswith(" "):
                link, links[line] = line, ()
            else:
                links[link] += (line.strip().removeprefix("found on "),)
        return links


@dataclass
class Site:
    """A web server of the test's own."""

    address: str
    asked: list[str] = field(default_factory=list)
    """The paths that were asked for."""
    closing: threading.Event = field(default_factory=threading.Event)
    """Set at the end, for answers that hang until then."""


@contextmanager
def serving(answers: Mapping[str, Answer]) -> Iterator[Site]:
    """Serve HTML pages, and whatever functions write."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.asked.append(self.path)
            answer = answers.get(self.path, send(404))
            if isinstance(answer, bytes):
                answer = send(200, answer)
            answer(self)

        def log_message(self, *_: object) -> None:
            pass

    with Server(("127.0.0.1", 0), Handler) as server:
        site = Site(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield site
        finally:
            site.closing.set()
            server.shutdown()
            thread.join()


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Let programs that the test starts heed SIGINT, even where this one was started to ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def send(status: int, body: bytes = b"", **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    """Return what answers with this; a keyword `content_type` is the header Content-Type."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in ({"content_type": "text/html"} | headers).items():
            if value:
                handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def in_turn(*answers: Answer) -> Callable[[BaseHTTPRequestHandler], None]:
    """Return what gives one answer after the other, and then the last one for ever."""
    left = list(answers)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        now = left.pop(0) if len(left) > 1 else left[0]
        (send(200, now) if isinstance(now, bytes) else now)(handler)

    return answer


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    """Close the connection without an answer."""
    handler.connection.close()


def break_off(handler: BaseHTTPRequestHandler) -> None:
    """Close it in the middle of one."""
    handler.wfile.write(b"HTTP/1.0 200 OK\r\nContent-Type: text/html\r\nContent-Length: 100\r\n\r\n<p>")


def links(*hrefs: str) -> bytes:
    """Return a page that has these links."""
    return "".join(f'<a href="{href}">link</a> ' for href in hrefs).encode()


# The two small ones -----------------------------------------------------------------------------------------


def test_first_steps_shows_results_a_failure_and_what_follows_from_it() -> None:
    """Results are passed on; a failure skips what needs the task, nothing else, and is raised at the end."""
    ended = run("first_steps.py")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines() == [
        "failed:  gravel is not coffee (in task 4 'grind')",
        "coffee:  a pot of coffee, from hot water and ground arabica",
        "mistake: SKIPPED because task 4 'grind' has FAILED",
        "clean:   all clean",
    ]


def test_word_counts_counts_every_word_of_the_site() -> None:
    """The words of all pages are added up, and come out as they do if one counts them in the files."""
    encodings = {"keepers.html": "latin-1", "fog-signal.html": "windows-1252", "letters.html": "utf-16"}
    words: Counter[str] = Counter()
    pages = sorted((EXAMPLES / "site").rglob("*.html"))
    for page in pages:
        text = re.sub(r"<[^>]*>", " ", page.read_text(encodings.get(page.name, "utf-8")))
        words.update(re.findall(r"[^\W\d_]+(?:'[^\W\d_]+)*", text.lower().replace("\u2019", "'")))
    ended = run("word_counts.py")
    assert (ended.returncode, ended.stderr) == (0, "")
    head, *most_frequent = ended.stdout.splitlines()
    assert head.startswith(f"{words.total():,} words on {len(pages)} pages, {len(words):,} different ones.")
    counts = {word: int(count) for count, word in map(str.split, most_frequent)}
    assert sorted(counts.values()) == sorted(count for _, count in words.most_common(10))
    assert counts.items() <= words.items()


# The crawler on the site that comes with it -----------------------------------------------------------------


def test_the_crawler_reads_all_of_its_own_site_and_tells_what_it_found() -> None:
    """Every page is read once, and what is wrong with the site is reported, with reasons and places."""
    ended = run("crawl.py")
    assert (ended.returncode, ended.stderr) == (0, "")
    summary = Summary(ended.stdout)
    assert summary.pages == 15
    # Each page was visited, parsed and taken in; 2 other files, 3 missing pages and a redirect were visited;
    # and there is the index.
    assert summary.numbers["Tasks"] == "52"
    assert "\nRequests to each host: 6 at a time\n" in ended.stdout
    # One page had too many visitors, and asked to come again in a second.
    assert summary.lines["Requests"] == ["/tides.html: HTTP 503 Service Unavailable"]
    waited = summary.requests.pop("seconds waited")
    assert summary.requests | {"seconds waited": waited} == {
        "all": 22,
        "made again": 1,
        "addresses": 1,
        "seconds waited": waited,
        "timeouts": 0,
    }
    assert waited >= 1
    assert summary.broken == {
        "'http://[harbour-board/notices/1991'": ("Invalid IPv6 URL", "/history/automation.html"),
        "/ferry.html": ("HTTP 404 File not found", "/visiting.html"),
        "/gallery/kitchen.html": ("HTTP 404 File not found", "/gallery/"),
        "/shipwrecks.html": ("HTTP 404 File not found", "/history/storm.html", "/index.html"),
    }
    assert summary.numbers["Broken links"] == "4"
    assert summary.lines["Redirects"] == ["/gallery -> /gallery/"]
    assert summary.lines["Not HTML"] == ["/lens.png: image/png", "/tide-table.txt: text/plain"]
    assert summary.lines["Worth a look"] == [
        "/fog-signal.html: declared as 'utf-8', read as windows-1252",
        "/keepers.html: no charset declared, read as windows-1252",
        "/letters.html: no charset declared, read as utf-16",
        "/season.html: no words on it",
    ]
    assert summary.numbers["On other hosts, not followed"] == "1"
    frequent = [tuple(line.split()) for line in summary.lines["Most frequent words of 5 letters or more"]]
    assert len(frequent) == 10
    assert frequent[:3] == [("skerry", "18", "14"), ("tower", "15", "9"), ("keepers", "12", "7")]


@pytest.mark.parametrize(("depth", "pages"), [(0, 1), (1, 10), (2, 15), (50, 15)])
def test_depth_is_the_number_of_links_in_a_row(depth: int, pages: int) -> None:
    """Pages that many links away are read and none beyond; a redirect is no link."""
    summary = crawl("--serve", EXAMPLES / "site", "--depth", depth)
    assert summary.pages == pages
    assert ("Left unread, because of --depth or --max-pages" in summary.numbers) == (pages < 15)


@pytest.mark.parametrize(("most", "pages"), [(1, 1), (7, 7), (14, 14), (15, 15), (16, 15)])
def test_max_pages_is_exact(most: int, pages: int) -> None:
    """Never more pages are read than asked for, nor fewer where there are as many."""
    summary = crawl("--serve", EXAMPLES / "site", "--max-pages", most)
    assert summary.pages == pages
    if pages < 15:
        assert "Left unread, because of --depth or --max-pages" in summary.numbers


# The crawler on folders -------------------------------------------------------------------------------------


def test_a_folder_full_of_trouble_is_read_as_far_as_it_can_be(tmp_path: Path) -> None:
    """Files that are not what they seem are reported and stop nothing; links may be written in any way."""
    hrefs = [
        "binary.html",
        "empty.html",
        "huge.html",
        "deep.html",
        "broken-markup.html",
        "sub",  # a folder without index.html
        "with-index",  # one with
        "a b%20&amp;c.html",
        "\u00fc.html#here",
        "%c3%bc.html?",  # the same one
        "./x/../%65mpty.html#fragment",  # so is this
        "  empty.html\n",  # and this
        "../../empty.html",  # there is nothing above the root
        "area.html?query=1",  # may be another page than without
        "",
        "#top",
        "mailto:someone@museum.example",
        "javascript:void(0)",
        "tel:1",
        "data:text/html,hello",
        "HTTPS://Elsewhere.example:443/",
        "//elsewhere.example/x",
        "http://localhost:99999/",
        "http://not a host/",
        "http://[::1",
        "bell\a.html",
        "archive.zip",
        "notes.txt",
    ]
    other_links = (
        "<map><area href=area.html></map><iframe src=frame.html></iframe><a>no link</a>"
        "<meta http-equiv=Refresh content='5; URL=refresh.html'><meta name=x content='1; y'>"
        "<!-- <a href=comment.html> --><script>'<a href=script.html>'</script>"
    )
    front = "<meta charset=utf-8>" + "".join(f'<a href="{href}">link</a>' for href in hrefs) + other_links
    files = {
        "index.html": front.encode(),
        "binary.html": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
        "empty.html": b"",
        "huge.html": b"<p>far too long " * 400_000,
        "deep.html": b"<div>" * 20_000 + b"treasure <a href=found.html>",
        "found.html": b"found",
        "broken-markup.html": b"<![if <a <b href='x' <<p>>> text </i></b></html> <a href=found.html <p",
        "sub/lonely.html": b"nobody links here",
        "with-index/index.html": b'<base href="/sub/"><a href="missing.html">link</a>',
        "a b &c.html": b"spaces",
        "\u00fc.html": b"umlaut",
        "area.html": b"area",
        "frame.html": b"frame",
        "refresh.html": b"refresh",
        "archive.zip": b"PK\x03\x04",
        "notes.txt": b"<a href=not-a-link.html>",
    }
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    summary = crawl("--serve", tmp_path)
    missing = "HTTP 404 File not found"
    broken = summary.broken
    assert broken.pop(repr("bell\a.html"))[0].startswith("Invalid non-printable ASCII character in URL")
    assert broken == {
        "/sub": ("redirects to /sub/: HTTP 404 Not Found", "/index.html"),
        "/sub/missing.html": (missing, "/with-index/"),
        "'http://localhost:99999/'": ("Port out of range 0-65535", "/index.html"),
        "'http://not a host/'": ("no host is called 'not a host'", "/index.html"),
        "'http://[::1'": ("Invalid IPv6 URL", "/index.html"),
    }
    assert summary.pages == 12
    assert summary.lines["Redirects"] == ["/sub -> /sub/", "/with-index -> /with-index/"]
    assert summary.lines["Not HTML"] == [
        "/archive.zip: application/zip",
        "/binary.html: said to be HTML, and cannot be read as such",
        "/huge.html: text/html, of more than 5,000,000 bytes",
        "/notes.txt: text/plain",
    ]
    assert summary.lines["Worth a look"] == ["/empty.html: no words on it"]
    assert summary.numbers["On other hosts, not followed"] == "2"


def test_of_a_folder_without_a_front_page_every_page_is_read(tmp_path: Path) -> None:
    """No page is missed where no page leads to the others, whatever the files are called."""
    for name in ("one.html", "two.htm", "100%.html", "a#b?c.html", "deep/er/three.html"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(links("nowhere.html"))
    summary = crawl("--serve", tmp_path)
    assert summary.pages == 5
    assert summary.broken == {
        "/nowhere.html": (
            "HTTP 404 File not found",
            "/100%25.html",
            "/a%23b%3Fc.html",
            "/one.html",
            "/two.htm",
        ),
        "/deep/er/nowhere.html": ("HTTP 404 File not found", "/deep/er/three.html"),
    }


# The crawler on other people's servers ----------------------------------------------------------------------


def test_what_servers_do_wrong_is_reported_and_stops_nothing() -> None:
    """Errors, nonsense, wrong lengths, bad compression: each is the reason of a broken link."""

    def talk_nonsense(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"What do you want?\r\n\r\n")

    def never_end(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n")
        while not site.closing.is_set():
            handler.wfile.write(b"and so on " * 100_000)

    answers: dict[str, Answer] = {
        "/busy": send(503),
        "/teapot": send(418),
        "/hang-up": hang_up,
        "/nonsense": talk_nonsense,
        "/break-off": break_off,
        "/never-end": never_end,
        "/bad-gzip": send(200, b"<p>not compressed", content_encoding="gzip"),
        "/untyped": send(200, b"<p>a page after all", content_type=""),
        "/xhtml": send(200, b"<p>a page", content_type="Application/XHTML+XML; charset=utf-8"),
        "/json": send(200, b"{}", content_type="application/json"),
        "/nothing": send(204),
    }
    answers["/"] = links(*answers)
    with serving(answers) as site:
        summary = crawl(site.address, "--tries", 2)
    broken = {link: why for link, (why, *_) in summary.broken.items()}
    assert broken.pop("/bad-gzip").startswith("Error -3 while decompressing data")
    assert broken.pop("/nonsense").startswith("illegal status line")
    assert broken.pop("/break-off").startswith("peer closed connection without sending complete message body")
    assert broken == {
        "/busy": "HTTP 503 Service Unavailable",
        "/teapot": "HTTP 418 I'm a Teapot",
        "/hang-up": "Server disconnected without sending a response.",
    }
    assert {place for _, *places in summary.broken.values() for place in places} == {"/"}
    assert summary.lines["Not HTML"] == [
        "/json: application/json",
        "/never-end: text/html, of more than 5,000,000 bytes",
    ]
    assert summary.pages == 4  # with the front page, the one without a type, XHTML and the empty answer
    # What may be another time otherwise was asked twice, and the rest once.
    assert Counter(site.asked) == Counter([*answers, "/busy", "/hang-up", "/nonsense", "/break-off"])


def test_a_server_that_keeps_silent_is_waited_for_as_long_as_asked() -> None:
    """An answer that does not come in time is asked for again, and at last the reason of a broken link."""

    def hang(_: BaseHTTPRequestHandler) -> None:
        site.closing.wait(PATIENCE)

    answers: dict[str, Answer] = {
        "/": links("/silence", "/slow-start"),
        "/silence": hang,
        "/slow-start": in_turn(hang, b"a page after all"),
    }
    with serving(answers) as site:
        summary = crawl(site.address, "--timeout", 1.5, "--tries", 2)
    in_vain = "no complete answer within 1.5 seconds"
    assert summary.broken == {"/silence": (in_vain, "/")}
    assert summary.pages == 2
    assert summary.lines["Requests"] == [f"/silence: {in_vain}", f"/slow-start: {in_vain}"]
    assert summary.requests["timeouts"] == 3
    assert Counter(site.asked) == {"/": 1, "/silence": 2, "/slow-start": 2}


def test_redirects_are_followed_to_their_end_and_not_off_the_site() -> None:
    """A link is as broken as where its redirects end; circles and chains end; other hosts are left alone."""
    with serving({"/": b""}) as elsewhere:
        answers: dict[str, Answer] = {
            "/moved": send(301, location="/new"),
            "/moved-twice": send(302, location="moved"),
            "/new": links("/also-new"),
            "/also-new": b"a page",
            "/moved-away": send(308, location=elsewhere.address),
            "/gone": send(307, location="/missing"),
            "/circle": send(302, location="/round"),
            "/round": send(302, location="/circle"),
            "/itself": send(302, location="/itself"),
            "/to-mail": send(302, location="mailto:someone@museum.example"),
            "/to-nowhere": send(302, location="http://[nowhere"),
            "/without": send(302),
            "/chain0": send(302, location="/chain1"),
        }
        answers["/"] = links(*answers.keys() - {"/new", "/also-new", "/round"})
        answers |= {f"/chain{n}": send(302, location=f"/chain{n + 1}") for n in range(1, 50)}
        with serving(answers) as site:
            summary = crawl(site.address)
    broken = {link: why for link, (why, *_) in summary.broken.items()}
    assert broken.pop("/to-mail").startswith("redirects to no web address")
    assert broken == {
        "/gone": "redirects to /missing: HTTP 404 Not Found",
        "/circle": "redirects in a circle: /circle -> /round -> /circle",
        "/itself": "redirects in a circle: /itself -> /itself",
        "/to-nowhere": "redirects to 'http://[nowhere': Invalid IPv6 URL",
        "/without": "HTTP 302 Found",
        "/chain0": "redirects to /chain10: more than 10 redirects in a row",
    }
    assert summary.pages == 3  # the front page, and at the end of redirects /new, which leads to /also-new
    assert f"/moved-away -> {elsewhere.address}/ (another host, not followed)" in summary.lines["Redirects"]
    assert elsewhere.asked == []
    assert max(Counter(site.asked).values()) == 1


def test_a_page_that_turns_out_to_be_nearer_brings_nearer_what_it_leads_to() -> None:
    """The depth of a page is that of the shortest way to it, also where a longer one was quicker."""

    def last(handler: BaseHTTPRequestHandler) -> None:
        long_way_done.wait(PATIENCE)
        send(200, links("/crossing"))(handler)

    def after_the_crossing(handler: BaseHTTPRequestHandler) -> None:
        long_way_done.set()
        send(200, links("/end"))(handler)

    long_way_done = threading.Event()
    answers: dict[str, Answer] = {
        "/": links("/short", "/long"),
        "/short": last,
        "/long": links("/longer"),
        "/longer": links("/crossing"),
        "/crossing": send(302, location="/after"),
        "/after": after_the_crossing,
        "/end": links("/too-far"),
    }
    with serving(answers) as site:
        summary = crawl(site.address, "--depth", 3)
    assert sorted(site.asked) == ["/", "/after", "/crossing", "/end", "/long", "/longer", "/short"]
    assert summary.pages == 6
    assert summary.numbers["Left unread, because of --depth or --max-pages"] == "1"


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_per_host_is_how_many_requests_a_host_gets_at_a_time(limit: int) -> None:
    """As many requests as allowed are made at a time, never more."""
    together = threading.Barrier(limit)
    lock = threading.Lock()
    now = most = 0

    def count(handler: BaseHTTPRequestHandler) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        together.wait(PATIENCE)
        with lock:
            now -= 1
        send(200, b"page")(handler)

    paths = [f"/{number}" for number in range(12)]
    with serving({"/": links(*paths)} | dict.fromkeys(paths, count)) as site:
        summary = crawl(site.address, "--per-host", limit)
    assert (summary.pages, summary.broken, most) == (13, {}, limit)


def test_the_hosts_of_all_start_addresses_are_crawled_and_no_other() -> None:
    """Links from site to site are followed, pages read once; a start that leads nowhere is a broken link."""
    with serving({}) as third:
        answers: dict[str, Answer] = {"/": links("/next"), "/next": b"page"}
        with serving(answers) as second:
            answers = {"/": links("/", f"{second.address}/next#x", third.address), "/other": b"page"}
            with serving(answers) as first:
                starts = [f"{first.address}/other", second.address, f"{first.address}/missing", first.address]
                summary = crawl(*starts)
    assert sorted(first.asked) == ["/", "/missing", "/other"]
    assert sorted(second.asked) == ["/", "/next"]
    assert third.asked == []
    assert summary.pages == 4
    assert list(summary.broken.values()) == [("HTTP 404 Not Found", "the command line")]
    assert summary.numbers["On other hosts, not followed"] == "1"


def test_the_encoding_that_the_server_names_counts_before_that_of_the_page() -> None:
    """An encoding is taken from where it is named, if the page is written in it."""
    page = '<meta charset="iso-8859-7"><p>\u0436\u0443\u0440\u043d\u0430\u043b</p>'.encode("koi8-r")
    with serving({"/": send(200, page, content_type="text/html; charset=KOI8-R")}) as site:
        summary = crawl(site.address)
    [line] = summary.lines["Most frequent words of 5 letters or more"]
    assert line.split() == ["\u0436\u0443\u0440\u043d\u0430\u043b", "1", "1"]
    assert "Worth a look" not in summary.lines


# The crawler, polite --------------------------------------------------------------------------------------


def test_what_fails_at_first_is_asked_for_again_and_counted_once() -> None:
    """Pages that come at the second or third time are read like others; what stays away is a broken link."""
    on_a_date = send(503, retry_after="Fri, 31 Dec 1999 23:59:59 GMT")
    answers: dict[str, Answer] = {
        "/hang-up-once": in_turn(hang_up, b"page"),
        "/break-off-once": in_turn(break_off, links("/found")),
        "/fail-twice": in_turn(send(500), send(500), links("/found")),
        "/fail-always": send(500),
        "/too-many": in_turn(send(429, retry_after="0"), b"page"),
        "/come-later": in_turn(send(503, retry_after="1"), send(302, location="/too-many")),
        "/come-some-day": in_turn(on_a_date, b"page"),
        "/come-in-an-hour": send(503, retry_after="3600"),
        "/come-never": send(429, retry_after="9" * 400),
        "/missing": send(404),
        "/found": b"page",
    }
    answers["/"] = links(*answers)
    with serving(answers) as site:
        summary = crawl(site.address)
    again = {
        "/break-off-once": 2,
        "/come-later": 2,
        "/come-some-day": 2,
        "/fail-always": 3,
        "/fail-twice": 3,
        "/hang-up-once": 2,
        "/too-many": 2,
    }
    assert Counter(site.asked) == Counter(dict.fromkeys(answers, 1) | again)
    assert summary.pages == 7  # with the front page
    broken = {link: why for link, (why, *_) in summary.broken.items()}
    assert (
        broken.pop("/come-never")
        == f"HTTP 429 Too Many Requests, and to be left alone for {'9' * 400} seconds"
    )
    assert broken == {
        "/fail-always": "HTTP 500 Internal Server Error",
        "/come-in-an-hour": "HTTP 503 Service Unavailable, and to be left alone for 3600 seconds",
        "/missing": "HTTP 404 Not Found",
    }
    reasons = dict(line.split(": ", 1) for line in summary.lines["Requests"])
    assert reasons.pop("/break-off-once").startswith("peer closed connection")
    assert reasons == {
        "/come-later": "HTTP 503 Service Unavailable",
        "/come-some-day": "HTTP 503 Service Unavailable",
        "/fail-always": "HTTP 500 Internal Server Error, HTTP 500 Internal Server Error",
        "/fail-twice": "HTTP 500 Internal Server Error, HTTP 500 Internal Server Error",
        "/hang-up-once": "Server disconnected without sending a response.",
        "/too-many": "HTTP 429 Too Many Requests",
    }
    requests = summary.requests
    assert requests.pop("seconds waited") >= 5.5  # at least 0.5 and 1 for each that failed twice, 1 as asked
    assert requests == {"all": 21, "made again": 9, "addresses": 7, "timeouts": 0}


def test_while_one_address_waits_to_be_asked_again_others_are_asked() -> None:
    """A server that asks for patience gets it, and a visit that waits takes up no place of its host."""
    answers: dict[str, Answer] = {
        "/": links("/busy", "/other", "/another"),
        "/busy": in_turn(send(503, retry_after="2"), b"page"),
        "/other": b"page",
        "/another": b"page",
    }
    with serving(answers) as site:
        summary = crawl(site.address, "--per-host", 1)
    assert site.asked == ["/", "/busy", "/other", "/another", "/busy"]
    assert summary.requests["seconds waited"] >= 2


def test_rate_is_how_many_requests_a_host_gets_per_second() -> None:
    """After a first burst requests come one by one, however many there could be at a time."""
    came: list[float] = []

    def page(handler: BaseHTTPRequestHandler) -> None:
        came.append(time.monotonic())
        send(200, b"page")(handler)

    paths = [f"/{number}" for number in range(24)]
    with serving({"/": links(*paths)} | dict.fromkeys(paths, page)) as site:
        summary = crawl(site.address, "--rate", 20, "--per-host", 24)
    assert summary.pages == 25
    # 20 of them came after the burst, a twentieth of a second apart when they were sent.
    assert max(came) - min(came) > 0.5


def test_each_host_has_a_rate_to_itself_and_begins_with_a_burst() -> None:
    """Four requests are made at once; where the fifth would take forever, another host gets four too."""
    answers: dict[str, Answer] = {"/": links("/1", "/2", "/3"), "/1": b"1", "/2": b"2", "/3": b"3"}
    with serving(answers) as one, serving(answers) as other:
        summary = crawl(one.address, other.address, "--rate", 1 / PATIENCE / 2)
    assert summary.pages == 8
    assert len(one.asked) == len(other.asked) == 4


def test_a_crawl_that_has_enough_pages_does_not_wait_for_more() -> None:
    """Visits that wait for their turn, or to be made again, are dropped with the last page."""
    paths = [f"/{number}" for number in range(50)]
    pages: dict[str, Answer] = dict.fromkeys(paths, b"page")
    with serving(pages | {"/": links("/0", *paths), "/0": send(503, retry_after="30")}) as site:
        summary = crawl(site.address, "--rate", 1 / PATIENCE / 2, "--max-pages", 3)
    assert summary.pages == 3
    assert len(site.asked) == 4
    assert summary.numbers["Left unread, because of --depth or --max-pages"] == "48"


def test_sites_of_others_are_crawled_at_a_rate_unless_told_otherwise() -> None:
    """The summary says how polite the crawler was, and by default it is."""
    with serving({"/": b"page"}) as site:
        ended = run("crawl.py", site.address)
    assert "\nRequests to each host: 6 at a time, 10 per second\n" in ended.stdout


def test_a_mistake_of_the_program_is_no_broken_link() -> None:
    """Only what servers and networks do wrong is a finding; another failure is one of the crawl."""

    def blunder(_: httpx2.Request) -> httpx2.Response:
        raise ZeroDivisionError("a mistake")

    async def main() -> None:
        async with httpx2.AsyncClient(transport=httpx2.MockTransport(blunder)) as client:
            limits = Limits(depth=1, pages=1, per_host=1, rate=1, tries=3, seconds=PATIENCE)
            await execute_graph(Crawl(["http://museum.example/"], client, limits).graph)

    with pytest.raises(GraphFailed) as failed:
        trio.run(main)
    assert [str(error) for error in failed.value.exceptions] == ["a mistake"]


# The crawler, watched ---------------------------------------------------------------------------------------


def test_a_crawl_can_be_watched_from_another_program() -> None:
    """The address comes first; who connects sees each task as it is, and is told of the end."""
    asked, go_on = threading.Event(), threading.Event()

    def wait(handler: BaseHTTPRequestHandler) -> None:
        asked.set()
        assert go_on.wait(PATIENCE)
        send(200, b"page")(handler)

    tasks: dict[int, dict[str, str]] = {}
    with (
        serving({"/": links("/slow"), "/slow": wait}) as site,
        started("crawl.py", site.address, "--watch") as crawler,
    ):
        assert crawler.stdout is not None
        address = crawler.stdout.readline().removeprefix("Watch it at ").strip()
        assert asked.wait(PATIENCE)
        with websockets.sync.client.connect(address, proxy=None) as socket:
            for text in socket:
                message = json.loads(text)
                if message["kind"] == "end":
                    break
                tasks.update((task["uid"], task) for task in message["tasks"])
                states = {task["name"]: task["state"] for task in tasks.values()}
                assert go_on.is_set() or states[f"{site.address}/slow"] == "RUNNING"
                go_on.set()
            with pytest.raises(websockets.exceptions.ConnectionClosedOK):
                socket.recv(timeout=PATIENCE)
        output, errors = crawler.communicate(timeout=PATIENCE)
    assert (crawler.returncode, errors) == (0, "")
    assert Summary(output).pages == 2
    assert {task["state"] for task in tasks.values()} == {"SUCCEEDED"}
    assert sorted({task["type"] for task in tasks.values()}) == ["build_index", "parse", "take in", "visit"]


def test_a_crawl_shows_its_progress_and_writes_down_how_it_went(tmp_path: Path) -> None:
    """Where no terminal is, progress is lines; the trace is JSON, and the report a page with all tasks."""
    trace, report = tmp_path / "trace.json", tmp_path / "report.html"
    ended = run("crawl.py", "--progress", "--trace", trace, "--report", report)
    assert ended.returncode == 0
    tasks = Summary(ended.stdout).numbers["Tasks"]
    assert re.fullmatch(rf"(crawl: .*\n)*crawl: {tasks} of {tasks} done, took .+\n", ended.stderr)
    events = json.loads(trace.read_text())["traceEvents"]
    slices = [event for event in events if event["ph"] == "X"]
    assert len(slices) >= int(tasks)
    assert {event["args"]["state"] for event in slices} == {"SUCCEEDED", "FAILED"}  # of trials
    assert "tides.html" in report.read_text(encoding="utf-8")


@pytest.mark.skipif(sys.platform == "win32", reason="on Windows no program can send another one SIGINT")
@pytest.mark.usefixtures("interruptible")
def test_what_is_known_of_an_interrupted_crawl_is_written_down(tmp_path: Path) -> None:
    """Ctrl-C is no reason to lose the trace of what took so long."""
    trace = tmp_path / "trace.json"
    asked = threading.Event()

    def hang(_: BaseHTTPRequestHandler) -> None:
        asked.set()
        site.closing.wait(PATIENCE)

    with (
        serving({"/": links("/1"), "/1": hang}) as site,
        started("crawl.py", site.address, "--trace", trace) as crawler,
    ):
        assert asked.wait(PATIENCE)
        crawler.send_signal(signal.SIGINT)
        _, errors = crawler.communicate(timeout=PATIENCE)
    assert (crawler.returncode, errors) == (130, "interrupted\n")
    events = json.loads(trace.read_text())["traceEvents"]
    states = {event["args"]["state"] for event in events if event["ph"] == "X"}
    assert states == {"SUCCEEDED", "CANCELLED"}


# The crawler, used wrongly or stopped -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["example.org"], "'example.org' is no address to start from: it does not begin with http://"),
        (["ftp://example.org/"], "it does not begin with http:// or https://"),
        (["http://"], "no host is called ''"),
        (["http://a..b/"], "no host is called 'a..b'"),
        (["http://example.org:99999/"], "Port out of range"),
        (["http://[::1"], "is no address to start from"),
        (["--serve", "no/such/folder"], "there is no folder 'no/such/folder'"),
        (["--serve", EXAMPLES / "crawl.py"], "there is no folder"),
        (["--serve", Path(__file__).parent], "there is no HTML in the folder"),
        (["--serve", EXAMPLES, "http://example.org"], "either URLs or --serve, not both"),
        (["--depth", "-1"], "--depth must be 0 or more"),
        (["--depth", "deep"], "invalid int value"),
        (["--max-pages", "0"], "more than 0"),
        (["--per-host", "0"], "more than 0"),
        (["--tries", "0"], "more than 0"),
        (["--rate", "0"], "more than 0"),
        (["--rate", "nan"], "more than 0"),
        (["--rate", "many"], "invalid float value"),
        (["--timeout", "nan"], "more than 0"),
        (["--timeout", "inf"], "--timeout must be a number of seconds"),
        (["--trace", "no/such/folder/file"], "there is no folder 'no/such/folder' to write 'file' to"),
        (["--report", "no/such/folder/file"], "there is no folder 'no/such/folder' to write 'file' to"),
    ],
)
def test_a_command_line_that_makes_no_sense_is_refused(
    arguments: list[str], complaint: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message says what is wrong, nothing is crawled, and the exit status is that of a wrong usage."""
    monkeypatch.setattr(sys, "argv", ["crawl.py", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    output, errors = capsys.readouterr()
    assert (ended.value.code, output) == (2, "")
    assert complaint in errors.splitlines()[-1]


def test_a_crawl_that_could_read_no_page_fails_and_says_why() -> None:
    """The exit status is 1, and the reason is told for each address."""
    with serving({"/picture": send(200, content_type="image/png")}) as site:
        ended = run("crawl.py", f"{site.address}/missing", f"{site.address}/picture")
    assert (ended.returncode, ended.stderr) == (1, "no page could be read\n")
    summary = Summary(ended.stdout)
    assert summary.broken == {"/missing": ("HTTP 404 Not Found", "the command line")}
    assert summary.lines["Not HTML"] == ["/picture: image/png"]


def test_a_server_that_is_not_there_is_no_crash() -> None:
    """Where nobody listens, that is the reason of the broken link."""
    with serving({}) as site:
        pass
    ended = run("crawl.py", site.address, "--tries", 2)
    assert (ended.returncode, ended.stderr) == (1, "no page could be read\n")
    summary = Summary(ended.stdout)
    assert len(summary.broken) == 1
    assert summary.requests["made again"] == 1


@pytest.mark.skipif(sys.platform == "win32", reason="on Windows no program can send another one SIGINT")
@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_ends_a_crawl_at_once_and_without_a_traceback() -> None:
    """Ctrl-C ends requests, and waits before the next try; the exit status is the one that shells expect."""
    asked = threading.Barrier(3)

    def hang(_: BaseHTTPRequestHandler) -> None:
        asked.wait(PATIENCE)
        site.closing.wait(PATIENCE)

    def refuse(handler: BaseHTTPRequestHandler) -> None:
        asked.wait(PATIENCE)
        send(503, retry_after="30")(handler)

    with (
        serving({"/": links("/1", "/2"), "/1": hang, "/2": refuse}) as site,
        started("crawl.py", site.address) as crawler,
    ):
        asked.wait(PATIENCE)
        crawler.send_signal(signal.SIGINT)
        output, errors = crawler.communicate(timeout=PATIENCE)
    assert (crawler.returncode, output, errors) == (130, "", "interrupted\n")


def test_a_reader_who_has_seen_enough_is_not_told_of_it() -> None:
    """Where the output goes to a program like `head` that has ended, there is no traceback."""
    with started("crawl.py") as crawler:
        assert crawler.stdout is not None
        crawler.stdout.close()
        crawler.stdout = None
        _, errors = crawler.communicate(timeout=PATIENCE)
    assert (crawler.returncode, errors) == (1, "")


# Addresses and pages, by themselves -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("href", "address"),
    [
        ("lens.html", "http://museum.example/tower/lens.html"),
        ("../lens.html#beam", "http://museum.example/lens.html"),
        ("/../../x", "http://museum.example/x"),
        ("", "http://museum.example/tower/keepers.html"),
        ("#top", "http://museum.example/tower/keepers.html"),
        ("?by=name", "http://museum.example/tower/keepers.html?by=name"),
        ("?", "http://museum.example/tower/keepers.html"),
        (".", "http://museum.example/tower/"),
        ("//MUSEUM.example:80", "http://museum.example/"),
        ("HTTPS://Museum.Example:443/A", "https://museum.example/A"),
        ("https://museum.example:80/", "https://museum.example:80/"),
        (" a\tb\n.html ", "http://museum.example/tower/ab.html"),
        ("%7ekeeper/%c3%a9", "http://museum.example/tower/~keeper/%C3%A9"),
        ("\u00e9 %2f%20.html", "http://museum.example/tower/%C3%A9%20%2F%20.html"),
        ("http://m\u00fcseum.example/", "http://xn--mseum-kva.example/"),
        ("http://[::1]:8000/", "http://[::1]:8000/"),
        ("mailto:keeper@museum.example", None),
        ("JavaScript:void(0)", None),
        ("data:text/html,x", None),
        ("c:\\tower.html", None),
    ],
)
def test_links_that_mean_the_same_become_the_same_address(href: str, address: str | None) -> None:
    """Addresses are absolute, in one spelling, without fragment; what is not HTTP's is no address."""
    assert resolve("http://museum.example/tower/keepers.html", href) == address
    if address is not None:
        assert normalise(address) == address


@pytest.mark.parametrize(
    "href", ["http://[::1", "http://a b/", "http://x:y/", "//x:99999", "a\0b", "http:// /"]
)
def test_bad_syntax_is_an_error(href: str) -> None:
    """What can be no address is no other address by accident."""
    with pytest.raises(ValueError, match=r"\w"):
        resolve("http://museum.example/", href)


@pytest.mark.parametrize(
    ("body", "charset", "remarks"),
    [
        (b"<p>plain", None, ()),
        ("<p>caf\u00e9".encode(), "utf-8", ()),
        ("<p>caf\u00e9".encode("latin-1"), "ISO-8859-1", ()),
        ("<meta charset=latin1><p>caf\u00e9".encode("latin-1"), None, ()),
        ("<p>caf\u00e9".encode("utf-16-le"), "utf-16-le", ()),
        ("<p>caf\u00e9".encode(), None, ("no charset declared, read as utf-8",)),
        ("<p>caf\u00e9".encode("utf-8-sig"), None, ("no charset declared, read as utf-8",)),
        ("<p>caf\u00e9".encode("utf-16"), "utf-8", ("declared as 'utf-8', read as utf-16",)),
        ("<p>caf\u00e9".encode(), "latin-1", ("declared as 'latin-1', read as utf-8",)),
        ("<p>caf\u00e9".encode("latin-1"), "utf-8", ("declared as 'utf-8', read as windows-1252",)),
        ("<p>caf\u00e9".encode("latin-1"), "klingon", ("declared as 'klingon', read as windows-1252",)),
        ("<p>caf\u00e9 \x81".encode("latin-1"), None, ("no charset declared, read as latin-1",)),
    ],
)
def test_a_page_is_read_whatever_its_encoding_is_said_to_be(
    body: bytes, charset: str | None, remarks: tuple[str, ...]
) -> None:
    """The words come out right, and a declaration that is wrong or missing is remarked on."""
    page = parse("http://museum.example/", body, charset)
    assert page is not None
    assert list(page.words) in (["caf\u00e9"], ["plain"])
    assert page.remarks == remarks


def test_encodings_that_hide_in_ascii_are_found() -> None:
    """ISO-2022-JP has only bytes of ASCII, which are valid UTF-8 too; the declaration decides."""
    body = "<meta charset=iso-2022-jp><p>\u706f\u53f0".encode("iso-2022-jp")
    page = parse("http://museum.example/", body)
    assert page is not None
    assert list(page.words) == ["\u706f\u53f0"]


@pytest.mark.parametrize("body", [b"GIF89a\x01\0\x01\0", b"<p>text<![?"])
def test_what_cannot_be_read_is_no_page(body: bytes) -> None:
    """Binary data under the name of HTML is recognised, and so is what the parser refuses."""
    assert parse("http://museum.example/", body) is None


def test_an_encoding_that_cannot_be_a_name_is_none() -> None:
    """A name of an encoding that Python refuses to look up is like one that it does not know."""
    page = parse("http://museum.example/", "<p>caf\u00e9".encode(), "x\0y")
    assert page is not None
    assert page.remarks == ("declared as 'x\\x00y', read as utf-8",)
