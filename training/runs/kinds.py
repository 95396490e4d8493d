"""The kinds of runs that are told apart by whoever resumes or shows one.

Place in the data's way: a recipe names its kind in `run.json` -> the commands choose the recipe by it.
"""

PRETRAIN = "pretrain"
"""A model from nothing, on texts; every other kind begins from a base."""
