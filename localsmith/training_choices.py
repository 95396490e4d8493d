"""What a person can choose on the Training page: bases, methods with their settings, templates, ratings.

Place in the data's way: the catalog, the registry of methods and the feedback store -> lists with plain words
-> the page's fields. Nothing here loads torch or a model.

Example:
    [choice.name for choice in method_choices()]
"""

from __future__ import annotations

import dataclasses
import importlib.util
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from .core.settings import Settings

if TYPE_CHECKING:
    from .core.feedback import Feedback

_OF_THE_EXTRA = ("accelerate", "datasketch", "gguf", "peft", "rouge_score", "transformers")

OptionKind: TypeAlias = Literal["number", "share", "words", "choice", "switch"]

METHOD_WORDS: dict[str, str] = {
    "lora": "Trains two thin matrices beside each layer: little memory, forgets little; the usual choice.",
    "qlora": "LoRA beside a base that is kept in 4 bits: for models that would not fit; slower on a CPU.",
    "full": "Trains every weight: learns the most, needs the most memory, and forgets the most.",
    "selective": "Trains only some of the model's own weights: its last layers, its biases or its norms.",
    "bottleneck": "Adds small networks behind each layer; it is compared, but the chat can't run it.",
    "ia3": "Trains a few vectors that rescale what is inside each layer: the least memory, learns less.",
    "prompt": "Learns words to stand before every prompt; it is compared, but the chat can't run it.",
    "prefix": "Learns what each layer reads before a prompt; it is compared, but the chat can't run it.",
}
"""What each method does, in one plain sentence."""

OPTION_WORDS: dict[str, tuple[str, str]] = {
    "rank": ("Rank", "Width of the thin matrices: a higher one learns more and takes more memory."),
    "alpha": ("Alpha", "What was learned counts alpha / rank times; twice the rank is usual."),
    "dropout": ("Dropout", "Share of the inputs that is left out by chance, against learning by heart."),
    "targets": ("Layers", "Names of the linear layers, with commas; empty for all."),
    "which": ("What is trained", "The last layers, the biases, or the norms."),
    "num_layers": ("Last layers", "How many of the last layers; only where these are trained."),
    "size": ("Width", "Width of the added networks."),
    "is_double": (
        "Quantize twice",
        "The 4-bit blocks' own constants are quantized, too: a little less memory.",
    ),
    "num_virtual_tokens": ("Learned tokens", "How many stand before each prompt."),
}
"""Label and help of each setting of a method."""


@dataclass(frozen=True, slots=True)
class OptionChoice:
    """A setting of a method.

    Attributes:
        name: Its name, as `--set` takes it.
        label: For people.
        words: What it does, for people.
        kind: "number" for whole numbers, "share" for numbers with a fraction, "words" for names with commas
            between them, "choice" for one of `allowed`, "switch" for on or off.
        default: Its value where nothing is chosen.
        allowed: What it may be; empty for anything.
    """

    name: str
    label: str
    words: str
    kind: OptionKind
    default: Any
    allowed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MethodChoice:
    """A method.

    Attributes:
        name: Its name.
        words: What it does, in one plain sentence.
        learning_rate: Its highest learning rate where none is chosen.
        can_be_exported: Whether the chat can run what it trains.
        options: Its settings.
    """

    name: str
    words: str
    learning_rate: float
    can_be_exported: bool
    options: tuple[OptionChoice, ...]


@dataclass(frozen=True, slots=True)
class Ratings:
    """What was said about answers in the chat.

    Attributes:
        num: Thumbs and corrections in all.
        num_usable: Those that can be learned: a thumb up, or a correction.
    """

    num: int
    num_usable: int


def missing_packages() -> list[str]:
    """Return which packages of the extra `train` are not installed; nothing is imported."""
    return [name for name in _OF_THE_EXTRA if importlib.util.find_spec(name) is None]


def base_choices(settings: Settings) -> list[str]:
    """Return the installed chat models that can be a base: whole ones, the one in use first.

    Raises:
        StorageError: The record of models can't be read.
    """
    from .models.catalog.installed import in_use, installed

    now = in_use(settings)
    models = installed(settings).values()
    names = [model.name for model in models if model.kind == "chat" and not model.is_adapter]
    return sorted(names, key=lambda name: (name != now, name))


def method_choices() -> list[MethodChoice]:
    """Return all methods with their settings."""
    from .training.methods.registry import METHODS

    return [
        MethodChoice(
            name,
            METHOD_WORDS.get(name, ""),
            method.learning_rate,
            method.can_be_exported,
            tuple(_options(method)),
        )
        for name, method in METHODS.items()
    ]


def task_choices() -> list[str]:
    """Return the tasks whose templates come with Localsmith."""
    from .training.data.task_template import template_names

    return template_names()


def ratings(feedback: Sequence[Feedback]) -> Ratings:
    """Count what was said in the chat, and how much of it can be learned."""
    from .training.data.feedback import feedback_rows

    rows, _ = feedback_rows(feedback)
    return Ratings(len(feedback), len(rows))


def _options(method: type[Any]) -> list[OptionChoice]:
    types = typing.get_type_hints(method)
    found = []
    for field in dataclasses.fields(method):
        label, words = OPTION_WORDS.get(field.name, (field.name, ""))
        kind, allowed = _kind(types[field.name])
        default: Any = field.default
        default = ", ".join(default) if kind == "words" else default
        found.append(OptionChoice(field.name, label, words, kind, default, allowed))
    return found


def _kind(type_: Any) -> tuple[OptionKind, tuple[str, ...]]:
    if typing.get_origin(type_) is Literal:
        return "choice", typing.get_args(type_)
    if typing.get_origin(type_) is tuple:
        return "words", ()
    return ("switch" if type_ is bool else "number" if type_ is int else "share"), ()
