"""Placeholder"""


def check_grammar(text: str) -> None:
    """."""
