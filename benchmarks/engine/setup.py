"""What every contender is given alike: model, window, batch, threads; and how large the workloads are.

Place in the data's way: made once from the command line by `__main__`, read by everything else.

Example:
    >>> Sizes.quick().completion_tokens
    16
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

OURS = "localsmith"
LLAMA_IN_TURN = "Llama in turn"
LLAMA_CPP_PYTHON_SERVER = "llama-cpp-python server"
LLAMA_SERVER = "llama-server"

OMP = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "1000"}
"""For all alike: idle servers must not burn the cores of the one that is being measured."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What all contenders share.

    Attributes:
        path: The GGUF file.
        name: Its name for people.
        sha256: SHA-256 of its bytes.
        n_threads: CPU threads, for reading and writing alike.
        n_ctx: Cells of the KV cache, for all requests together.
        n_batch: Prompt tokens computed in one step.
        flash_attention: Whether all use it.
        num_parallel: Requests at once.
        draft_tokens: Tokens our engine guesses by prompt lookup.
    """

    path: Path
    name: str
    sha256: str
    n_threads: int
    n_ctx: int = 8192
    n_batch: int = 256
    flash_attention: bool = True
    num_parallel: int = 8
    draft_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large the workloads are, in tokens.

    Attributes:
        client_prompt_tokens: Prompt of each of the eight clients.
        client_completion_tokens: Their completions.
        sample_prompt_tokens: The prompt that is sampled eight times.
        completion_tokens: Each sample's completion, and each of the busy workload's.
        react_prefix_tokens: Instructions and question of the ReAct transcript.
        react_step_tokens: What each step appends.
        react_steps: Steps of the transcript.
        stall_prompt_tokens: The long prompt that is read beside a stream.
        stall_alone_tokens: Tokens that the stream writes before it comes.
    """

    client_prompt_tokens: int = 200
    client_completion_tokens: int = 96
    sample_prompt_tokens: int = 1000
    completion_tokens: int = 128
    react_prefix_tokens: int = 1500
    react_step_tokens: int = 150
    react_steps: int = 6
    stall_prompt_tokens: int = 6000
    stall_alone_tokens: int = 48

    @classmethod
    def quick(cls) -> Sizes:
        """Return sizes that only show that everything runs."""
        return cls(100, 16, 200, 16, 400, 50, 4, 600, 12)
