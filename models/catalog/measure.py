"""How fast this machine reads prompts and writes answers with a model.

Place in the data's way: measured once after a model is pulled, and again by `localsmith models measure`; kept
in the `SpeedStore`. The choice of the default model and every time budget rest on it.

Example:
    speed = measure_here(load_settings(), installed_model(settings, "qwen2.5-coder-1.5b"))
    speed.prompt_tokens_per_s
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

from ...core.contracts import LanguageModel
from ...core.settings import Settings
from ...core.types import Message, SamplingParams
from ..installed_engine import installed_engine
from .installed import InstalledModel
from .selection import threads
from .speed import SPEED_FILE, Speed, SpeedStore

NUM_ROUNDS = 3
# A machine on which one round takes this long has said enough with it.
MAX_SECONDS = 20.0
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

OnRound = Callable[[int, int], None]
"""Called with (rounds done, rounds in all)."""


def measure_here(settings: Settings, model: InstalledModel, on_round: OnRound | None = None) -> Speed:
    """Load a model, measure it and remember the speed in place of what was known.

    Args:
        settings: Where models are kept and how the engine is run.
        model: An installed chat model.
        on_round: Told after each round.

    Raises:
        ModelLoadError: The model can't be loaded.
        StorageError: The speed can't be written.
    """
    engine = installed_engine(settings, model, keeps_prefixes=False)
    try:
        speed = measure(engine, on_round=on_round)
    finally:
        engine.close()
    SpeedStore(settings.models_dir / SPEED_FILE).put(model.sha256, threads(settings), speed)
    return speed


def measure(model: LanguageModel, *, rounds: int = NUM_ROUNDS, on_round: OnRound | None = None) -> Speed:
    """Read a prompt of a few hundred tokens and write a few tokens, some times over; keep the best.

    Whatever else runs here can only slow a round down, so the best one is nearest to what the machine can do,
    and one busy moment doesn't decide. The prompt is new each time, so that nothing of it is in the KV cache.
    Takes 2 to 30 s on a CPU.

    Args:
        model: A model that nothing else uses meanwhile.
        rounds: How often; fewer where they take longer than `MAX_SECONDS` together.
        on_round: Told after each round.

    Returns:
        Tokens a second while reading and while writing, and how busy others kept the processor.
    """
    _run(model, num_words=24, max_tokens=2)  # the first steps page the weights in
    reads: list[float] = []
    writes: list[float] = []
    others = _OtherPrograms()
    begun = time.monotonic()
    while len(reads) < rounds and (not reads or time.monotonic() - begun < MAX_SECONDS):
        prompt_tokens, prefill_s, completion_tokens, decode_s = _run(model, PROMPT_WORDS, DECODE_TOKENS)
        reads.append(prompt_tokens / prefill_s)
        writes.append(completion_tokens / decode_s)
        if on_round is not None:
            on_round(len(reads), rounds)
    return Speed(max(reads), max(writes), others.busy_cores(), time.time())


def _run(model: LanguageModel, num_words: int, max_tokens: int) -> tuple[int, float, int, float]:
    story = " ".join(itertools.islice(itertools.cycle(_WORDS), num_words))
    messages = [Message("user", f"{time.time_ns()} {story}. Count from one to one hundred in words.")]
    generation = model.submit(messages, SamplingParams(max_tokens=max_tokens))
    for _ in generation:
        pass
    usage = generation.usage
    read = max(1, usage.prompt_tokens - usage.cached_tokens)
    return read, max(usage.prefill_s, 1e-9), max(1, usage.completion_tokens), max(usage.decode_s, 1e-9)


class _OtherPrograms:
    """Counts the processor time that goes to anything but this process."""

    def __init__(self) -> None:
        self._before = _processor_times()

    def busy_cores(self) -> float:
        """Return how many cores the others kept busy, on average since the start."""
        import psutil

        whole_s, elsewhere_s = (
            now - before for now, before in zip(_processor_times(), self._before, strict=True)
        )
        if whole_s <= 0:  # too short a time for the system's clock
            return 0.0
        return max(0.0, elsewhere_s) / whole_s * (psutil.cpu_count() or 1)


def _processor_times() -> tuple[float, float]:
    """Return the seconds of all cores together, idle ones included, and those that others were busy."""
    import psutil

    # Linux counts a guest's time as its host program's, too.
    times = {k: s for k, s in psutil.cpu_times()._asdict().items() if k not in ("guest", "guest_nice")}
    idle_s = times["idle"] + times.get("iowait", 0.0)
    own = psutil.Process().cpu_times()
    return sum(times.values()), sum(times.values()) - idle_s - own.user - own.system
