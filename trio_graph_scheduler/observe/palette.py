"""How the states of tasks look, wherever a graph is shown.

No state is told by its colour alone: each has a symbol too, and whoever shows one writes its name beside it
where there is room. So pictures can be read in black and white, and by people who do not see all colours.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import attrs

from trio_graph_scheduler.graph import TaskState


@attrs.frozen
class Colours:
    """How one state looks.

    - `fill`: the background, as `#rrggbb`.
    - `border`: the line around it, which can also be told from white.
    - `ink`: text upon the fill, at a contrast of at least 4.5 : 1.
    - `symbol`: one character, which common fonts have and no browser shows as an emoji.
    - `strong`: whether it is to catch the eye: something did not go as it should have.
    """

    fill: str
    border: str
    ink: str
    symbol: str
    strong: bool = False


COLOURS: Mapping[TaskState, Colours] = MappingProxyType(
    {
        TaskState.FAILED: Colours("#c0392b", "#7b1d13", "#ffffff", "✗", strong=True),
        TaskState.CANCELLED: Colours("#f0a868", "#a3500f", "#3f1f00", "⊘", strong=True),
        TaskState.SKIPPED: Colours("#d9b3d0", "#8a4a7c", "#401539", "↷", strong=True),
        TaskState.RETRYING: Colours("#fae3a8", "#b07d0a", "#543900", "↻"),
        TaskState.RUNNING: Colours("#9cc9ee", "#1d6cae", "#08304f", "►"),
        TaskState.SUSPENDED: Colours("#dcd9f2", "#6a61ad", "#332c69", "‖"),
        TaskState.READY: Colours("#dfebf7", "#5a8dbd", "#1c4870", "◇"),
        TaskState.WAITING: Colours("#f0f2f4", "#828d98", "#454f59", "○"),
        TaskState.SUCCEEDED: Colours("#d6ecda", "#4a9160", "#1b4f2d", "✓"),
    }
)
"""How each state looks. They come in order of interest: what went wrong first, what went well last."""
