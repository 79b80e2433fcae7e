"""What scheduling a task costs, and what policies add: `python -m benchmarks` compares with doing without."""
