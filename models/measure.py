"""How fast this machine reads prompts and writes answers with a model.

Place in the data's way: measured once after a model is pulled, kept in the `SpeedStore`; the choice of the
default model and every time budget rest on it.

Example:
    speed = measure(engine)
    speed.prompt_tokens_per_s
"""

from __future__ import annotations

import itertools
import time

from ..core.types import Message, SamplingParams
from .engine import Engine
from .speed import Speed

PROMPT_WORDS = 320
DECODE_TOKENS = 24
_WORDS = (
    "river",
    "stone",
    "window",
    "paper",
    "garden",
    "copper",
    "winter",
    "letter",
    "bridge",
    "candle",
    "forest",
)


def measure(engine: Engine) -> Speed:
    """Read one prompt of a few hundred tokens and write a few tokens.

    The prompt is new each time, so that nothing of it is in the KV cache. Takes 2 to 15 s on a CPU.

    Args:
        engine: An engine that nothing else uses meanwhile.

    Returns:
        Tokens a second while reading and while writing.
    """
    _run(engine, num_words=24, max_tokens=2)  # the first steps page the weights in
    prompt_tokens, prefill_s, completion_tokens, decode_s = _run(engine, PROMPT_WORDS, DECODE_TOKENS)
    return Speed(prompt_tokens / prefill_s, completion_tokens / decode_s)


def _run(engine: Engine, num_words: int, max_tokens: int) -> tuple[int, float, int, float]:
    story = " ".join(itertools.islice(itertools.cycle(_WORDS), num_words))
    messages = [Message("user", f"{time.time_ns()} {story}. Count from one to one hundred in words.")]
    generation = engine.submit(messages, SamplingParams(max_tokens=max_tokens))
    for _ in generation:
        pass
    usage = generation.usage
    read = max(1, usage.prompt_tokens - usage.cached_tokens)
    return read, max(usage.prefill_s, 1e-9), max(1, usage.completion_tokens), max(usage.decode_s, 1e-9)
