"""First steps: tasks, what they wait for, what comes out, and how a failure shows.

python examples/first_steps.py
"""

import trio

from trio_graph_scheduler import TaskGraph, done, execute_graph


async def boil(litres: float) -> str:
    """Be a task: any function can be one, async or not, and need know nothing of graphs."""
    await trio.sleep(litres / 10)
    return "hot water"


def grind(beans: str) -> str:
    """Fail, now and then; plain functions run in threads."""
    if beans == "gravel":
        raise ValueError("gravel is not coffee")
    return f"ground {beans}"


def brew(water: str, powder: str) -> str:
    """Take the results of other tasks."""
    return f"a pot of coffee, from {water} and {powder}"


def tidy_up() -> str:
    """Come last."""
    return "all clean"


async def main() -> None:
    """Build a graph, run it, and look at it."""
    graph = TaskGraph()
    water = graph.add(boil, 0.5)
    coffee = graph.add(brew, water, graph.add(grind, "arabica"))  # waits for both, and gets their results
    mistake = graph.add(brew, water, graph.add(grind, "gravel"))  # never starts: one of them will fail
    clean = graph.add(tidy_up, after=done(coffee, mistake))  # waits until both have ended, in whatever way

    try:
        await execute_graph(graph)
    except* ValueError as failures:  # failures stop only what needs their results, and are raised at the end
        for failure in failures.exceptions:
            print(f"failed:  {failure} ({' '.join(failure.__notes__)})")

    print("coffee: ", coffee.result_nowait())
    print("mistake:", mistake.state, "because", mistake.reason)
    print("clean:  ", clean.result_nowait())


if __name__ == "__main__":
    trio.run(main)
