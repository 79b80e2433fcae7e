"""The terminal: how a graph gets on, shown while it runs."""

from .progress import RichNeeded, progress

__all__ = ["RichNeeded", "progress"]
