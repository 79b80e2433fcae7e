"""What scheduling a task costs, beside three ways of doing without this library: `python -m benchmarks`."""
