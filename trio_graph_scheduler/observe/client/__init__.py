"""The client of the feed: a mirror of a graph in another process."""

from .remote import BadFeed, NoAnswer, Remote, Unreachable, WatchRefused, watch

__all__ = ["BadFeed", "NoAnswer", "Remote", "Unreachable", "WatchRefused", "watch"]
