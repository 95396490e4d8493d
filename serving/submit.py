"""From a checked request to generations that run.

Place in the data's way: the chat and completion routes call `submit_all` in a thread, since rendering and
tokenizing take milliseconds.

Example:
    runs = submit_all([lambda params: model.submit(messages, params)], params, n=2, is_length_fixed=False)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ..core.contracts import Generation
from ..core.errors import ContextOverflow
from ..core.types import SamplingParams
from .errors import bad_request
from .sampling import with_seed_of

Submit = Callable[[SamplingParams], Generation]


def submit_all(
    prompts: Sequence[Submit], params: SamplingParams, *, n: int, is_length_fixed: bool
) -> list[Generation]:
    """Queue n completions of each prompt; all of them or none.

    Args:
        prompts: Each queues a completion of one prompt.
        params: The parameters of its first choice; choice i has the seed plus i.
        n: Choices a prompt.
        is_length_fixed: Whether the client named `max_tokens`; else a completion is cut to what the window
            leaves.

    Raises:
        ContextOverflow: A prompt and its completion don't fit the window.
        Overloaded: The queue is full.
        ApiError: The model refuses the parameters.
    """
    runs: list[Generation] = []
    try:
        for submit in prompts:
            for i in range(n):
                runs.append(_submit(submit, with_seed_of(params, i), is_length_fixed))
    except BaseException:
        for run in runs:
            run.cancel()
        raise
    return runs


def _submit(submit: Submit, params: SamplingParams, is_length_fixed: bool) -> Generation:
    try:
        return submit(params)
    except ContextOverflow as exc:
        if is_length_fixed:
            raise
        room = exc.n_ctx - exc.prompt_tokens
        return submit(replace(params, max_tokens=max(1, room)))
    except ValueError as exc:
        raise bad_request(f"The model refuses the request: {exc}") from exc
