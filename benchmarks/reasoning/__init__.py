"""How often each strategy is right, and what it costs: `python -m benchmarks.reasoning`."""
