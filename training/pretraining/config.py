"""What a pre-training run depends on, in one typed place; kept beside the run, so that it can be done again.

Place in the data's way: the command line -> `PretrainConfig` -> `pretrain` -> `run.json` in the run's folder,
from which a resume reads it back.

Example:
    config = PretrainConfig("decoder", files=(text_file(Path("notes.txt")),), max_steps=500)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from ...core.errors import DatasetError, TrainingError
from ...models.catalog.installed import sha256_of
from ..bases import Precision
from ..config import Device, Schedule
from ..objectives.objective import ObjectiveName

Architecture: TypeAlias = Literal["encoder", "decoder", "encoder-decoder"]
Size: TypeAlias = Literal["tiny", "mini", "small", "medium"]

OBJECTIVES: Mapping[Architecture, tuple[ObjectiveName, ...]] = {
    "encoder": ("masked",),
    "decoder": ("causal",),
    "encoder-decoder": ("span-corruption", "denoising"),
}
"""What each architecture can learn, the usual one first."""
MIN_TOKENS = 16
_MIN_VOCABULARY = 300  # the 256 bytes and the control tokens


@dataclass(frozen=True, slots=True)
class TextFile:
    """A file that is learned from.

    Attributes:
        path: Where it is.
        sha256: Of its bytes when the run was planned; a run does not go on with another content.
    """

    path: str
    sha256: str


@dataclass(frozen=True, slots=True)
class PretrainConfig:
    """The settings of a pre-training run.

    Attributes:
        architecture: Which class of model.
        files: Texts: .txt and .md as a whole, JSON Lines and CSV row by row.
        fields: Names of the fields that hold a row's text, in this order.
        objective: What is learned; "" for the architecture's usual one.
        size: How large the model is; see `architectures.SHAPES`.
        vocabulary_size: Tokens of the vocabulary at most, control tokens included.
        max_tokens: Tokens of a block; an encoder can't read more later on.
        max_steps: Optimizer steps.
        batch_size: Blocks of an optimizer step.
        micro_batch_size: Blocks that are computed at once; the batch is accumulated from them.
        held_out_share: Share of the text's characters that is held out, above 0 and below 1.
        learning_rate: Highest learning rate.
        warmup_share: Share of the steps in which it rises, 0 to 1.
        schedule: How it falls afterwards.
        weight_decay: Of AdamW.
        max_grad_norm: Gradients are clipped to this norm; 0 for not at all.
        precision: In which is computed.
        save_every: Optimizer steps between checkpoints; 0 for about ten in a run.
        device: Where it is trained; "auto" for a GPU where there is one.
        seed: Of first weights, data order and noise.

    Raises:
        ValueError: A value is out of range.
    """

    architecture: Architecture
    files: tuple[TextFile, ...]
    fields: tuple[str, ...] = ("text",)
    objective: ObjectiveName | Literal[""] = ""
    size: Size = "tiny"
    vocabulary_size: int = 4096
    max_tokens: int = 128
    max_steps: int = 500
    batch_size: int = 16
    micro_batch_size: int = 16
    held_out_share: float = 0.05
    learning_rate: float = 2e-3
    warmup_share: float = 0.05
    schedule: Schedule = "cosine"
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    precision: Precision = "fp32"
    save_every: int = 0
    device: Device = "auto"
    seed: int = 7

    def __post_init__(self) -> None:
        """Check the ranges, and put the usual objective where none was named."""
        for name, kind in (
            ("architecture", Architecture),
            ("size", Size),
            ("schedule", Schedule),
            ("precision", Precision),
            ("device", Device),
        ):
            if getattr(self, name) not in get_args(kind):
                raise ValueError(
                    f"{name} must be one of {', '.join(get_args(kind))}, not {getattr(self, name)!r}."
                )
        possible = OBJECTIVES[self.architecture]
        if not self.objective:
            object.__setattr__(self, "objective", possible[0])
        if self.objective not in possible:
            raise ValueError(
                f"objective of the architecture {self.architecture} must be one of {', '.join(possible)}, "
                f"not {self.objective!r}."
            )
        self._check_numbers()

    def _check_numbers(self) -> None:
        least = {
            "vocabulary_size": _MIN_VOCABULARY,
            "max_tokens": MIN_TOKENS,
            "max_steps": 1,
            "batch_size": 1,
            "micro_batch_size": 1,
            "weight_decay": 0,
            "max_grad_norm": 0,
            "save_every": 0,
            "seed": 0,
        }
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise ValueError(f"{name} must be at least {bound}, not {getattr(self, name)}.")
        if self.batch_size % self.micro_batch_size:
            raise ValueError(
                f"batch_size {self.batch_size} must be a multiple of "
                f"micro_batch_size {self.micro_batch_size}."
            )
        if not 0 < self.held_out_share < 1:
            raise ValueError(f"held_out_share must be above 0 and below 1, not {self.held_out_share}.")
        if not 0 <= self.warmup_share <= 1:
            raise ValueError(f"warmup_share must be from 0 to 1, not {self.warmup_share}.")
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate must be above 0, not {self.learning_rate}.")
        if not self.files or not self.fields:
            raise ValueError("files and fields must each name at least one.")

    def to_json(self) -> dict[str, Any]:
        """Return the settings as JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> PretrainConfig:
        """Return the settings that `to_json` wrote.

        Raises:
            TrainingError: They are of another version of Localsmith, or damaged.
        """
        values = dict(raw)
        try:
            files = tuple(TextFile(**file) for file in values.pop("files"))
            return cls(files=files, fields=tuple(values.pop("fields")), **values)
        except (KeyError, TypeError, ValueError) as exc:
            raise TrainingError(
                f"The run's settings can't be read: {exc}", hint="Start it anew with the same data."
            ) from exc


def text_file(path: Path) -> TextFile:
    """Return a file as a run names it.

    Raises:
        DatasetError: There is no such file, or it can't be read.
    """
    try:
        return TextFile(str(path.resolve()), sha256_of(path))
    except OSError as exc:
        raise DatasetError(
            f"{path} can't be read: {exc.strerror or exc}.", hint="Check the path and who may read it."
        ) from exc
