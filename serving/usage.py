"""What a request cost, in OpenAI's form, and what is Localsmith's own to say about its end.

Place in the data's way: the forms of chat and completions close with these.

Example:
    >>> usage_of([], choices_per_prompt=1)["total_tokens"]
    0
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .job import Run


def usage_of(runs: Sequence[Run], choices_per_prompt: int) -> dict[str, Any]:
    """Return the counts of a request; a prompt with several choices counts once.

    Args:
        runs: The choices, those of one prompt next to each other.
        choices_per_prompt: How many belong to one prompt.
    """
    firsts = [run.usage for run in runs[::choices_per_prompt]]
    prompt = sum(usage.prompt_tokens for usage in firsts)
    completion = sum(run.usage.completion_tokens for run in runs)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": sum(usage.cached_tokens for usage in firsts)},
    }


def finish_reason_of(run: Run, has_calls: bool = False) -> str:
    """Return OpenAI's word for why a choice ended; a deadline cuts a text off as a length does."""
    if run.finish_reason == "stop":
        return "tool_calls" if has_calls else "stop"
    return "length"


def extension_of(run: Run) -> dict[str, Any] | None:
    """Return what Localsmith adds to a choice's end; None where there is nothing."""
    extension = getattr(run, "extension", None)
    if extension is not None:
        return dict(extension)
    if run.finish_reason == "deadline":
        return {"stop_reason": "time_limit", "message": "serve.deadline_s ended this completion."}
    return None
