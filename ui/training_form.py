"""The fields in which a person says what is to be trained, on what, and how.

Place in the data's way: choices (`training_choices.py`) -> fields -> `Chosen`, which the preview checks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import streamlit as st

from ..training_choices import (
    MethodChoice,
    OptionChoice,
    base_choices,
    method_choices,
    ratings,
    task_choices,
)
from ..training_request import TrainingRequest
from . import words
from .frontdoor import FrontDoor
from .launch import max_upload_mb
from .text import plain

_QUANTIZATIONS = ("Q8_0", "F16", "Q5_K_M", "Q4_K_M")
_BY_FIELDS = "Tell by the fields"


@dataclass(frozen=True, slots=True)
class Chosen:
    """What the fields say.

    Attributes:
        request: What is asked for, without its files.
        files: (name, content) of the uploaded files.
    """

    request: TrainingRequest
    files: tuple[tuple[str, bytes], ...]

    @property
    def has_data(self) -> bool:
        """Whether there is anything to train on."""
        return bool(self.files) or self.request.uses_feedback


def show(front: FrontDoor) -> Chosen | None:
    """Draw the fields; None where there is no model to start from."""
    bases = base_choices(front.settings)
    if not bases:
        st.info("No chat model is installed. This command gets one: localsmith setup")
        return None
    base = st.selectbox(
        "Base", bases, key="training-base", help="The installed model that is trained further."
    )
    files, uses_feedback = _data(front)
    task = _task()
    method, options = _method()
    epochs, batch_size, max_tokens = _extent()
    more = _more(method)
    request = TrainingRequest(
        base=base,
        uses_feedback=uses_feedback,
        task=task,
        method=method.name,
        method_options=options,
        epochs=epochs,
        batch_size=batch_size,
        max_tokens=max_tokens,
        **more,
    )
    return Chosen(request, files)


def _data(front: FrontDoor) -> tuple[tuple[tuple[str, bytes], ...], bool]:
    uploads = st.file_uploader(
        f"Examples: JSON Lines or CSV, up to {max_upload_mb(front.settings)} MB each",
        type=["jsonl", "ndjson", "csv", "tsv"],
        accept_multiple_files=True,
        key="training-files",
        help="A row has, for example, prompt and completion, or messages, or dialogue and summary.",
    )
    rated = ratings(front.conversations.feedback.all())
    uses_feedback = st.checkbox(
        f"Also what was rated in the chat: {words.count(rated.num, 'rating')}, "
        f"{rated.num_usable:,} of them to learn from",
        key="training-feedback",
        disabled=not rated.num_usable,
        help="Answers with a thumb up, and corrections. A thumb down alone does not say what is right.",
    )
    return tuple((file.name, file.getvalue()) for file in uploads or ()), bool(uses_feedback)


def _task() -> str:
    names = [_BY_FIELDS, *task_choices()]
    task = st.selectbox(
        "Task", names, key="training-task", format_func=lambda name: name.replace("_", " ").capitalize(),
        help="The template that makes prompts of the fields. Files with prompt and completion need none.",
    )  # fmt: skip
    return "" if task == _BY_FIELDS else task


def _method() -> tuple[MethodChoice, dict[str, Any]]:
    methods = {method.name: method for method in method_choices()}
    name = st.radio(
        "Method", list(methods), key="training-method", captions=[m.words for m in methods.values()]
    )
    method = methods[name or next(iter(methods))]
    values: dict[str, Any] = {}
    if method.options:
        columns = st.columns(min(4, len(method.options)))
        for number, option in enumerate(method.options):
            with columns[number % len(columns)]:
                values[option.name] = _option(method, option)
    return method, values


def _option(method: MethodChoice, option: OptionChoice) -> Any:
    key = f"training-{method.name}-{option.name}"
    if option.kind == "choice":
        return st.selectbox(
            option.label, option.allowed, index=option.allowed.index(option.default), key=key,
            help=option.words, format_func=lambda value: str(value).replace("_", " "),
        )  # fmt: skip
    if option.kind == "words":
        return st.text_input(option.label, value=option.default, key=key, help=option.words)
    if option.kind == "switch":
        return st.checkbox(option.label, value=option.default, key=key, help=option.words)
    if option.kind == "number":
        return st.number_input(option.label, min_value=1, value=option.default, key=key, help=option.words)
    step = 0.05 if option.default < 1 else 1.0
    return st.number_input(
        option.label, min_value=0.0, value=option.default, step=step, format="%g", key=key, help=option.words
    )


def _extent() -> tuple[float, int, int]:
    left, middle, right = st.columns(3)
    with left:
        epochs = st.number_input(
            "Epochs", min_value=0.1, value=1.0, step=1.0, format="%g", key="training-epochs",
            help="How often every row is seen.",
        )  # fmt: skip
    with middle:
        batch_size = st.number_input(
            "Batch", min_value=1, value=8, key="training-batch", help="Rows from which a step learns."
        )
    with right:
        max_tokens = st.number_input(
            "Most tokens of a row", min_value=2, value=1024, step=64, key="training-max-tokens",
            help="Prompt and completion together.",
        )  # fmt: skip
    return float(epochs), int(batch_size), int(max_tokens)


def _more(method: MethodChoice) -> dict[str, Any]:
    with st.expander("More settings"):
        left, right = st.columns(2)
        with left:
            learning_rate = st.number_input(
                "Learning rate", min_value=0.0, value=0.0, step=1e-4, format="%g", key="training-rate",
                help=f"0 for the method's own, {method.learning_rate:g}.",
            )  # fmt: skip
            micro_batch_size = st.number_input(
                "Rows computed at once", min_value=1, value=4, key="training-micro",
                help="The batch is put together from so many at a time: fewer need less memory.",
            )  # fmt: skip
            held_out_share = st.number_input(
                "Share held out", min_value=0.0, max_value=0.9, value=0.1, step=0.05, format="%g",
                key="training-held-out",
                help="Rows that are not trained on; base and trained model are compared on them.",
            )  # fmt: skip
        with right:
            long_rows = st.selectbox(
                "Longer rows", ("refuse", "drop"), key="training-long-rows",
                format_func=lambda name: {"refuse": "Don't start", "drop": "Leave them out"}[name],
            )  # fmt: skip
            quantization = st.selectbox(
                "Type of the finished model's weights", _QUANTIZATIONS, key="training-quantization",
                help="Smaller types take less memory and lose a little.",
            )  # fmt: skip
            template = st.selectbox(
                "Chat template", ("model", "chatml"), key="training-template",
                format_func=lambda name: {"model": "The base's own", "chatml": "ChatML"}[name],
            )  # fmt: skip
        is_checkpointed = st.checkbox(
            "Compute activations again instead of keeping them: less memory, about a third more time",
            key="training-checkpointing",
        )
    if not method.can_be_exported:
        st.caption(plain("This method is trained and compared, but gives no model that the chat can run."))
    return {
        "learning_rate": float(learning_rate),
        "micro_batch_size": int(micro_batch_size),
        "held_out_share": float(held_out_share),
        "long_rows": long_rows,
        "quantization": quantization,
        "template": template,
        "is_checkpointed": is_checkpointed,
    }
