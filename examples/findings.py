"""What a crawl finds, and how it is told.

outcomes = {"http://museum.example/": page, "http://museum.example/shop": Broken("HTTP 404 Not Found")}
print(summary(["http://museum.example/"], outcomes, word_index(outcomes), {}))
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

from pages import Page, host_of
from trio_graph_scheduler import Trial, TrialTimeout, TryAgain

T = TypeVar("T")
START = "the command line"
LONG_WORD = 5
MOST_WORDS = 10
MOST_PLACES = 10


@dataclass(frozen=True)
class Broken:
    """An address that leads nowhere."""

    reason: str


@dataclass(frozen=True)
class Redirect:
    """An address that sends its visitors to another one."""

    target: str


@dataclass(frozen=True)
class NotAPage:
    """An address with something else than an HTML page, such as a picture."""

    kind: str


Outcome = Page | Broken | Redirect | NotAPage
WordIndex = dict[str, dict[str, int]]
"""Word -> address of a page -> how often it is there."""


def reason(error: Exception | None) -> str:
    """Return in words why there was no answer."""
    if isinstance(error, TrialTimeout):
        return f"no complete answer within {error.timeout:g} seconds"
    if isinstance(error, TryAgain) and error.reason:
        return error.reason
    return str(error) or type(error).__name__


def word_index(outcomes: Mapping[str, Outcome]) -> WordIndex:
    """Return which words are on which pages."""
    index: WordIndex = defaultdict(dict)
    for address, outcome in outcomes.items():
        if isinstance(outcome, Page):
            for word, count in outcome.words.items():
                index[word][address] = count
    return index


def summary(
    starts: Iterable[str],
    outcomes: Mapping[str, Outcome],
    index: WordIndex,
    requests: Mapping[str, Sequence[Trial]],
) -> str:
    """Return what there is to say of a crawl that began at these addresses and came to these outcomes.

    `requests` has those for each address: the trials of its visit.
    """
    hosts = {host_of(start) for start in starts}
    pages = _only(Page, outcomes)
    found_on = {start: [START] for start in starts}
    for address, page in pages.items():
        for link in (*page.links, *map(repr, page.bad_links)):
            found_on.setdefault(link, []).append(address)

    broken = {repr(href): why for page in pages.values() for href, why in page.bad_links.items()}
    links = found_on.keys() - broken.keys()
    broken |= {link: why for link in links if (why := _why_broken(link, outcomes))}
    elsewhere = sum(host_of(link) not in hosts for link in links)
    unread = sum(host_of(link) in hosts and link not in outcomes for link in links)

    broken_links = [_broken_link(link, broken[link], found_on[link]) for link in sorted(broken)]
    redirects = [
        f"{address} -> {target}" + ("" if host_of(target) in hosts else " (another host, not followed)")
        for address, redirect in _only(Redirect, outcomes).items()
        for target in [redirect.target]
    ]
    others = [f"{address}: {other.kind}" for address, other in _only(NotAPage, outcomes).items()]
    remarks = [f"{address}: {remark}" for address, page in pages.items() for remark in page.remarks]
    sections = [
        _section(f"Most frequent words of {LONG_WORD} letters or more: times, pages", _frequent_words(index)),
        _section(f"Broken links: {len(broken)}", broken_links),
        _section(f"Redirects: {len(redirects)}", redirects),
        _section(f"Not HTML: {len(others)}", others),
        _section(f"Worth a look: {len(remarks)}", remarks),
        _requests(requests),
        f"Left unread, because of --depth or --max-pages: {unread}" if unread else "",
        f"On other hosts, not followed: {elsewhere}" if elsewhere else "",
    ]
    return "\n\n".join(filter(None, sections))


def _only(kind: type[T], outcomes: Mapping[str, Outcome]) -> dict[str, T]:
    """Return the outcomes of one kind, by address."""
    return {address: outcome for address, outcome in sorted(outcomes.items()) if isinstance(outcome, kind)}


def _why_broken(link: str, outcomes: Mapping[str, Outcome]) -> str | None:
    """Return why a link leads nowhere, over however many redirects; None if it does lead somewhere."""
    way = [link]
    while isinstance(outcome := outcomes.get(way[-1]), Redirect):
        if outcome.target in way:
            return f"redirects in a circle: {' -> '.join([*way, outcome.target])}"
        way.append(outcome.target)
    if not isinstance(outcome, Broken):
        return None
    return outcome.reason if way == [link] else f"redirects to {way[-1]}: {outcome.reason}"


def _broken_link(link: str, reason: str, places: Sequence[str]) -> str:
    lines = [link, reason, *(f"found on {place}" for place in places[:MOST_PLACES])]
    if len(places) > MOST_PLACES:
        lines.append(f"and on {len(places) - MOST_PLACES} more")
    return "\n    ".join(lines)


def _requests(requests: Mapping[str, Sequence[Trial]]) -> str:
    """Return how many there were, and which were made again and why."""
    every = [trial for trials in requests.values() for trial in trials]
    timeouts = sum(isinstance(trial.error, TrialTimeout) for trial in every)
    repeated = {address: trials for address, trials in sorted(requests.items()) if len(trials) > 1}
    again = {address: list(pairwise(trials)) for address, trials in repeated.items()}
    pauses = [then.start - (failed.end or 0) for pairs in again.values() for failed, then in pairs]
    figures = f"addresses: {len(again)}, seconds waited: {sum(pauses):.1f}, timeouts: {timeouts}"
    lines = [f"{link}: {', '.join(reason(failed.error) for failed, _ in again[link])}" for link in again]
    return "\n  ".join([f"Requests: {len(every):,}, made again: {len(pauses):,} ({figures})", *lines])


def _frequent_words(index: WordIndex) -> list[str]:
    # The short words are the same everywhere: "the", "of", "and".
    totals = {word: sum(places.values()) for word, places in index.items() if len(word) >= LONG_WORD}
    words = sorted(totals, key=lambda word: (-totals[word], word))[:MOST_WORDS]
    return [f"{word:<20}{totals[word]:>9,}{len(index[word]):>9,}" for word in words]


def _section(title: str, lines: Iterable[str]) -> str:
    listed = "".join(f"\n  {line}" for line in lines)
    return f"{title}{listed}" if listed else ""
