"""Prompt tuning and prefix tuning: the weights stay, learned vectors stand before every prompt.

Place in the data's way: two `Method`s, see `methods.method`. Prompt tuning learns embeddings of virtual
tokens, prefix tuning keys and values of every layer. Neither can be exported as a GGUF: the format has no
place for vectors that stand before a prompt.

Source: Lester et al. 2021, "The Power of Scale for Parameter-Efficient Prompt Tuning", sections 2 and 3.2
(beginning from embeddings of real tokens); Li and Liang 2021, "Prefix-Tuning", section 4, and section 7.4
(beginning from the activations of real tokens, whichever they are).

Example:
    PromptTuning(num_virtual_tokens=20).prepare(model)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from ...core.errors import ExportError
from . import peft_model


def _check(num_virtual_tokens: int) -> None:
    if num_virtual_tokens < 1:
        raise ValueError(f"num_virtual_tokens must be at least 1, not {num_virtual_tokens}.")


def _refuse(what: str) -> NoReturn:
    raise ExportError(
        f"A model with a learned {what} can't be exported: a GGUF has no place for it.",
        hint="Train with lora, ia3, selective or full to hand a GGUF back to the chat.",
    )


@dataclass(frozen=True, slots=True)
class PromptTuning:
    """Learned embeddings before the prompt.

    Attributes:
        num_virtual_tokens: How many.

    Raises:
        ValueError: It is below 1.
    """

    num_virtual_tokens: int = 20

    name: ClassVar[str] = "prompt"
    learning_rate: ClassVar[float] = 3e-2
    can_be_exported: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Check the number."""
        _check(self.num_virtual_tokens)

    def prepare(self, model: Any) -> Any:
        """Return the model with the embeddings before its input; see `Method.prepare`."""
        return peft_model.wrap(
            model,
            lambda peft: peft.PromptTuningConfig(
                num_virtual_tokens=self.num_virtual_tokens,
                prompt_tuning_init="SAMPLE_VOCAB",  # as in section 3.2: better than random numbers
                task_type="CAUSAL_LM",
            ),
        )

    def save(self, model: Any, folder: Path) -> None:
        """Write the embeddings; see `Method.save`."""
        peft_model.save(model, folder)

    def load(self, model: Any, folder: Path) -> Any:
        """Put the embeddings before a fresh base; see `Method.load`."""
        return peft_model.load(model, folder)

    def merged(self, model: Any) -> Any:
        """Refuse; see `Method.merged`."""
        _refuse("prompt")


@dataclass(frozen=True, slots=True)
class PrefixTuning:
    """Learned keys and values before those of the prompt, in every layer.

    Attributes:
        num_virtual_tokens: How many positions.

    Raises:
        ValueError: It is below 1.
    """

    num_virtual_tokens: int = 20

    name: ClassVar[str] = "prefix"
    learning_rate: ClassVar[float] = 1e-2
    can_be_exported: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Check the number."""
        _check(self.num_virtual_tokens)

    def prepare(self, model: Any) -> Any:
        """Return the model with the prefix before its keys and values; see `Method.prepare`."""
        first = _keys_and_values(model, self.num_virtual_tokens)
        prepared = peft_model.wrap(
            model,
            lambda peft: peft.PrefixTuningConfig(
                num_virtual_tokens=self.num_virtual_tokens, task_type="CAUSAL_LM"
            ),
        )
        peft_model.begin_prefix_with(prepared, first)
        return prepared

    def save(self, model: Any, folder: Path) -> None:
        """Write the prefix; see `Method.save`."""
        peft_model.save(model, folder)

    def load(self, model: Any, folder: Path) -> Any:
        """Put the prefix before a fresh base; see `Method.load`."""
        return peft_model.load(model, folder)

    def merged(self, model: Any) -> Any:
        """Refuse; see `Method.merged`."""
        _refuse("prefix")


def _keys_and_values(model: Any, num_tokens: int) -> Any:
    """Return the cache of a model that has read tokens drawn from its vocabulary."""
    import torch

    embeddings = model.get_input_embeddings().weight
    tokens = torch.randint(embeddings.shape[0], (1, num_tokens), device=embeddings.device)
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            return model(input_ids=tokens, use_cache=True).past_key_values
    finally:
        model.train(was_training)
