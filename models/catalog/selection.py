"""Which chat model this machine should run, decided from measured speeds, in words that a person can check.

Place in the data's way: `SpeedStore` and the catalog -> `choose_chat_model` -> the name that set-up pulls and
the engine loads. Nothing is measured or fetched here.

Example:
    >>> choose_chat_model(load_settings(), {}, installed=(), total_memory_bytes=16 * 10**9).name
    'qwen2.5-coder-0.5b'
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from ...core.settings import Settings
from ..llama.library import default_threads
from .catalog import CatalogEntry, catalog, unknown_model
from .installed import in_use as model_in_use
from .installed import installed as installed_models
from .speed import SPEED_FILE, Speed, SpeedStore

REFERENCE_PROMPT_TOKENS = 750
"""Length of the prompt whose first token must come in time: a question over about four passages.

In `benchmarks/results/rag.json` prompts have 718 tokens in the mean; 97.5 % held the passage that answers.
"""

READING_EXPONENT = 0.55
"""How much of the ratio of parameters shows in the reading speed: 3.6 times as many read half as fast."""

_MEMORY_FACTOR = 1.3  # the weights, their repacked copies and the KV cache
_MEMORY_BESIDE_BYTES = 1_000_000_000  # the embedder, the pages and the system
AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Choice:
    """The chat model to run.

    Attributes:
        name: Its name; it may have to be pulled.
        reason: Why, in a sentence or two for people.
        is_predicted: Whether the reason rests on a speed predicted from another model's; once the model is
            there it is to be measured and the choice made again.
    """

    name: str
    reason: str
    is_predicted: bool = False


def choose_chat_model(
    settings: Settings,
    speeds: Mapping[str, Speed],
    installed: Collection[str],
    total_memory_bytes: int,
    in_use: str | None = None,
) -> Choice:
    """Choose the best model whose first token comes within the time that the person allows.

    A name in the settings wins, then what `localsmith models use` or `promote` set. Otherwise it is the
    largest automatic model that fits the memory and reads `REFERENCE_PROMPT_TOKENS` within
    `answer.seconds_to_first_token`, and the smallest where none does. The speed of a model
    that was not measured is predicted from a measured one, so that a slow machine never downloads a large
    model in vain.

    Args:
        settings: Named model and time budget.
        speeds: Speeds measured on this machine, by model name.
        installed: Names of the models on this disk.
        total_memory_bytes: The machine's memory.
        in_use: The model that `localsmith models use` or `promote` chose; None for the automatic choice.

    Raises:
        ModelNotFoundError: The settings name a model that neither the catalog nor this disk has.
    """
    named = settings.model.name
    if named != AUTO:
        if named not in catalog() and named not in installed:
            raise unknown_model(named, [*installed, *catalog()])
        return Choice(named, f"{named} is named in the setting model.name.")
    if in_use is not None and in_use in installed:
        return Choice(in_use, f"{in_use} was chosen with `localsmith models use` or `promote`.")
    entries = [entry for entry in catalog().values() if entry.kind == "chat" and entry.automatic]
    by_size = sorted(entries, key=lambda entry: entry.parameters, reverse=True)
    fitting = [entry for entry in by_size if memory_needed_bytes(entry) <= total_memory_bytes]
    if not fitting:
        smallest = by_size[-1]
        gigabytes = memory_needed_bytes(smallest) / 1e9
        return Choice(
            smallest.name,
            f"{smallest.name} is the smallest; it wants {gigabytes:.1f} GB of memory, more than here.",
        )
    return _fastest_enough(fitting, speeds, installed, settings.answer.seconds_to_first_token)


def choose_here(settings: Settings) -> tuple[Choice, dict[str, Speed]]:
    """Choose from what is on this disk and was measured on this machine.

    Returns:
        The choice, and the speeds it rests on by model name.

    Raises:
        ModelNotFoundError: The settings name a model that neither the catalog nor this disk has.
    """
    import psutil

    here = {name: model for name, model in installed_models(settings).items() if model.kind == "chat"}
    store = SpeedStore(settings.models_dir / SPEED_FILE)
    n_threads = threads(settings)
    hashes = {name: entry.sha256 for name, entry in catalog().items()}
    hashes |= {name: model.sha256 for name, model in here.items()}
    found = {name: store.get(sha256, n_threads) for name, sha256 in hashes.items()}
    speeds = {name: speed for name, speed in found.items() if speed is not None}
    memory = psutil.virtual_memory().total
    return choose_chat_model(settings, speeds, here, memory, model_in_use(settings)), speeds


def threads(settings: Settings) -> int:
    """Return the threads that the engine runs on here, which a measured speed counts for."""
    return settings.model.n_threads or default_threads()


def predict_speed(entry: CatalogEntry, speeds: Mapping[str, Speed]) -> tuple[Speed, CatalogEntry] | None:
    """Predict a model's speed from the measured model nearest to it in size.

    Reading a prompt is bound by multiplications, two for every parameter but the token embedding; but a
    larger model's matrices keep the processor busier, so its speed falls with less than the ratio of
    `active_parameters`: with that ratio to the power of `READING_EXPONENT`. Writing is bound by reading all
    weights from memory, so its speed falls with the ratio of the files' sizes.

    Source: Kaplan et al. 2020, "Scaling Laws for Neural Language Models", section 2.1 (C_forward = 2N, N
    without embeddings); the exponent is measured, see docs/experiments.md; the parameters are those of the
    models' cards.

    Returns:
        The speed and the model it was predicted from, or None where none of its family was measured.
    """
    measured = [
        known for known in catalog().values() if known.name in speeds and known.family == entry.family
    ]
    if not measured:
        return None
    nearest = min(measured, key=lambda known: abs(known.active_parameters - entry.active_parameters))
    speed = speeds[nearest.name]
    return (
        Speed(
            speed.prompt_tokens_per_s
            * (nearest.active_parameters / entry.active_parameters) ** READING_EXPONENT,
            speed.decode_tokens_per_s * nearest.size_bytes / entry.size_bytes,
        ),
        nearest,
    )


def memory_needed_bytes(entry: CatalogEntry) -> int:
    """Return the memory that a machine should have to run the model; a rule of thumb, on the safe side."""
    return int(entry.size_bytes * _MEMORY_FACTOR) + _MEMORY_BESIDE_BYTES


def _fastest_enough(
    fitting: list[CatalogEntry], speeds: Mapping[str, Speed], installed: Collection[str], budget_s: float
) -> Choice:
    too_slow: list[str] = []
    for entry in fitting:
        is_last = entry is fitting[-1]
        speed, how = _speed_and_words(entry, speeds)
        if speed is None:
            if is_last or _is_the_one_at_hand(entry, fitting, installed):
                return Choice(
                    entry.name, f"{entry.name} is tried first; its speed is measured once it is there."
                )
            continue
        seconds = REFERENCE_PROMPT_TOKENS / speed.prompt_tokens_per_s
        fact = f"{entry.name} {how}, so its first token for a prompt of {REFERENCE_PROMPT_TOKENS} tokens "
        is_predicted = entry.name not in speeds
        comes = "would come" if is_predicted else "comes"
        if seconds <= budget_s:
            words = f"{fact}{comes} after {seconds:.0f} s, within the {budget_s:g} s allowed."
            return Choice(entry.name, " ".join([*too_slow, words]), is_predicted)
        if is_last:
            words = f"{fact}{comes} after {seconds:.0f} s; {budget_s:g} s are allowed, but none is faster."
            return Choice(entry.name, " ".join([*too_slow, words]), is_predicted)
        too_slow.append(f"{fact}{comes} after {seconds:.0f} s, later than the {budget_s:g} s allowed.")
    raise AssertionError("the last entry always returns")


def _is_the_one_at_hand(entry: CatalogEntry, fitting: list[CatalogEntry], installed: Collection[str]) -> bool:
    """Whether this is the only automatic model here, so that measuring it costs no download."""
    return [other.name for other in fitting if other.name in installed] == [entry.name]


def _speed_and_words(entry: CatalogEntry, speeds: Mapping[str, Speed]) -> tuple[Speed | None, str]:
    if (speed := speeds.get(entry.name)) is not None:
        return speed, f"reads {speed.prompt_tokens_per_s:.0f} tokens/s here"
    if (predicted := predict_speed(entry, speeds)) is None:
        return None, ""
    speed, nearest = predicted
    ratio = entry.active_parameters / nearest.active_parameters
    return speed, (
        f"would read about {speed.prompt_tokens_per_s:.0f} tokens/s here ({nearest.name} reads "
        f"{speeds[nearest.name].prompt_tokens_per_s:.0f}; it has {ratio:.2g} times the active parameters)"
    )
