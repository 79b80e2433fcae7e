"""The feed: the state of a graph, and then what changes, for any number of observers."""

from .feed import Feed
from .messages import (
    Changes,
    Detail,
    End,
    GraphView,
    GroupView,
    Message,
    Problem,
    Snapshot,
    TaskView,
    TrialView,
    Types,
    TypeView,
    Watch,
)
from .mirror import Mirror
from .session import FeedSession

__all__ = [
    "Changes",
    "Detail",
    "End",
    "Feed",
    "FeedSession",
    "GraphView",
    "GroupView",
    "Message",
    "Mirror",
    "Problem",
    "Snapshot",
    "TaskView",
    "TrialView",
    "TypeView",
    "Types",
    "Watch",
]
