"""The engine beside its peers: `python -m benchmarks.engine`; the method is in docs/benchmarks/engine.md.

Place in the data's way: `prompts` (real texts) -> `workloads` (what is asked, of whom, in which order) ->
`servers`, `load` and `worker` (processes that answer) -> `rounds` (medians and ratios) -> `report`.
"""
