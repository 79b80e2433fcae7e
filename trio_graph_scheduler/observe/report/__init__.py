"""Reports: a page of HTML about a graph and its runs, which needs no network."""

from .page import html, write

__all__ = ["html", "write"]
