"""What a task costs, beside the ways of doing without this library."""
