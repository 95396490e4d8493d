"""From a training run to a file that can be served: write, quantize, verify, hand over.

Place in the data's way: a finished training run -> `export` -> a GGUF file in the target folder, whose
SHA-256 the catalog records. Nothing appears there that was not compared with the trained model.

Example:
    exported = export(Path("runs/7/adapter"), base, target_dir, "Q8_0", rows, name="summaries")
    exported.model.sha256, exported.verification.explanation
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from ...core.errors import ExportError, StorageError
from ...models.catalog.installed import sha256_of
from ...models.llama.quantize import QUANTIZATIONS, Quantization, quantize
from ..methods import peft_model
from .adapter import write_adapter
from .base_file import BaseFile
from .converter import convert, converter_source, copy_tokenizer, set_template
from .gguf_writer import Provenance, write_gguf
from .imatrix import compute_imatrix
from .lora_folder import LoraFolder, is_adapter
from .token_models import GgufTokenModel, HfTokenModel
from .trained import Trained, open_trained
from .verify import LIMITS, Limits, Verification, verify
from .weights import FolderWeights, MergedWeights, ModelWeights, Weights

Stage: TypeAlias = Literal["writing", "measuring", "quantizing", "verifying"]
OnProgress: TypeAlias = Callable[[Stage, float], None]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_VERIFY_CTX = 1024
_CONTINUATION_TOKENS = 32


@dataclass(frozen=True, slots=True)
class VerifyRow:
    """A held-out row that both models read.

    Attributes:
        prompt: The rendered prompt, with the chat template as it is served; both continue it.
        completion: What would have been right; both read prompt and completion.
    """

    prompt: str
    completion: str


@dataclass(frozen=True, slots=True)
class ExportedFile:
    """A file that was written.

    Attributes:
        path: Where it stands.
        sha256: SHA-256 of its bytes, lower-case hex.
        size_bytes: Its size.
    """

    path: Path
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export made.

    Attributes:
        model: The merged and quantized model.
        quantization: Its type.
        verification: How near it is to the trained model.
    """

    model: ExportedFile
    quantization: Quantization
    verification: Verification


def export(
    trained: Trained,
    base: Path,
    target_dir: Path,
    quantization: Quantization,
    verify_rows: Sequence[VerifyRow],
    on_progress: OnProgress | None = None,
    *,
    name: str,
    run: str = "",
    template: str = "",
    imatrix_texts: Sequence[str] = (),
    limits: Limits | None = None,
    cache: Path | None = None,
) -> Exported:
    """Write a trained model as a GGUF file, quantize it and compare it with the trained model.

    Args:
        trained: The model in memory, its folder, or a LoRA adapter's folder.
        base: The GGUF file or the Hugging Face folder that was trained.
        target_dir: Folder of the result, `NAME-QUANTIZATION.gguf`.
        quantization: How small.
        verify_rows: Held-out rows, not used in training.
        on_progress: Called with the stage and the share of it that is done, 0 to 1.
        name: What the model is called: letters, digits, `.`, `_`, `-`.
        run: Identifier of the training run, for the file's header.
        template: Chat template that was trained with, Jinja source; "" for the base's own.
        imatrix_texts: Texts for an importance matrix, not held-out ones; () for none.
        limits: What the file may differ by; None for those of the quantization.
        cache: Where llama.cpp's converter is kept; needed for a base that is a folder.

    Raises:
        ExportError: Something is missing or does not fit, or the file is not the model within the limits.
        StorageError: The disk is full or broken. In either case nothing new is left in `target_dir`.
        ModelLoadError: The base or the written file can't be loaded.
        ValueError: A bad argument.
    """
    _check(name, quantization, verify_rows)
    with _workspace(target_dir) as work:
        made = work / "F16.gguf"
        if base.is_dir():
            _convert_folder(trained, base, made, name, template, cache)
        else:
            opened, provenance = BaseFile.open(base), Provenance(name, base.stem, sha256_of(base), run)
            _check_space(opened, work)
            report = _stage(on_progress, "writing")
            weights = _weights(trained, opened)
            write_gguf(opened, weights, made, provenance, template=template, on_progress=report)
        if quantization != "F16":
            made = _quantized(made, quantization, imatrix_texts, on_progress)
        verification = _verify(
            trained, base, made, verify_rows, limits or LIMITS[quantization], _stage(on_progress, "verifying")
        )
        if not verification.is_within_limits:
            raise ExportError(
                f"The {quantization} file is not the trained model: {verification.explanation}",
                "Give texts for an importance matrix, choose a finer quantization, or give wider limits.",
            )
        target = target_dir / f"{name}-{quantization}.gguf"
        os.replace(made, target)
        return Exported(_described(target), quantization, verification)


def export_adapter(trained: Path, base: Path, target_dir: Path, *, name: str, run: str = "") -> ExportedFile:
    """Write a LoRA adapter as `NAME-lora.gguf`, to be loaded beside its base.

    Args:
        trained: The adapter's folder.
        base: The GGUF file that was trained.
        target_dir: Folder of the result.
        name: What the adapter is called.
        run: Identifier of the training run, for the file's header.

    Raises:
        ExportError: The adapter does not fit the base, or is not a plain LoRA.
        StorageError: The disk is full or broken; nothing new is left in `target_dir`.
    """
    _check_name(name)
    target = target_dir / f"{name}-lora.gguf"
    provenance = Provenance(name, base.stem, sha256_of(base), run)
    write_adapter(LoraFolder.open(trained), BaseFile.open(base), target, provenance)
    return _described(target)


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError(f"name must be of letters, digits, '.', '_' and '-', not {name!r}")


def _check(name: str, quantization: str, verify_rows: Sequence[VerifyRow]) -> None:
    _check_name(name)
    if quantization not in QUANTIZATIONS:
        raise ValueError(f"quantization must be one of {', '.join(QUANTIZATIONS)}, not {quantization!r}")
    if not verify_rows:
        raise ExportError(
            "There is no held-out row to compare the exported file with.",
            "Give some rows that were not trained on.",
        )


@contextmanager
def _workspace(target_dir: Path) -> Iterator[Path]:
    """Give a folder on the target's disk; what a killed export left in it is deleted first."""
    from filelock import FileLock, Timeout

    work = target_dir / ".exporting"
    try:
        target_dir.mkdir(parents=True, exist_ok=True)
        with FileLock(target_dir / ".exporting.lock", timeout=0):
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir()
            try:
                yield work
            finally:
                shutil.rmtree(work, ignore_errors=True)
    except Timeout as exc:
        raise ExportError(f"Another export into {target_dir} is running.", "Wait until it ends.") from exc
    except OSError as exc:
        raise StorageError(
            f"{target_dir} can't be written: {exc.strerror or exc}.", "Free some space."
        ) from exc


def _check_space(base: BaseFile, work: Path) -> None:
    needed = 2 * sum(int(np.prod(base.shape(name))) for name in base.tensors)
    free = shutil.disk_usage(work).free
    if free < needed:
        raise StorageError(
            f"The model takes {needed / 1e6:.0f} MB in 16 bits, but only {free / 1e6:.0f} MB are free there.",
            "Free some space, or export into a folder on another disk.",
        )


def _weights(trained: Trained, base: BaseFile) -> Weights:
    if not isinstance(trained, Path):
        return ModelWeights(trained, base.layout)
    if is_adapter(trained):
        return MergedWeights(base, LoraFolder.open(trained))
    return FolderWeights(trained, base.layout)


def _convert_folder(
    trained: Trained, base: Path, target: Path, name: str, template: str, cache: Path | None
) -> None:
    """Write a model whose base is a Hugging Face folder, by llama.cpp's converter."""
    if cache is None:
        raise ValueError("a base that is a folder needs `cache`, where llama.cpp's converter is kept")
    merged = target.parent / "merged"
    if isinstance(trained, Path) and not is_adapter(trained):
        merged.mkdir()
        for path in trained.resolve().iterdir():
            if path.is_file():
                (merged / path.name).symlink_to(path)
    else:
        if not isinstance(trained, Path) and hasattr(trained, "peft_config"):
            trained.save_pretrained(target.parent / "adapter")  # merging the model in memory would change it
            trained = target.parent / "adapter"
        model = open_trained(trained, base)
        model = peft_model.merge(model) if hasattr(model, "peft_config") else model
        model.save_pretrained(merged)
    copy_tokenizer(base, merged)
    if template:
        set_template(merged, template)
    convert(merged, target, name, converter_source(cache))


def _quantized(
    half: Path, quantization: Quantization, texts: Sequence[str], on_progress: OnProgress | None
) -> Path:
    """Return the file with fewer bits, beside the one in 16."""
    matrix = half.with_name("imatrix.gguf") if texts else None
    if matrix:
        compute_imatrix(half, texts, matrix, on_progress=_stage(on_progress, "measuring"))
    smaller = half.with_name(f"{quantization}.gguf")
    quantize(half, smaller, quantization, imatrix=matrix, on_progress=_stage(on_progress, "quantizing"))
    return smaller


def _verify(
    trained: Trained,
    base: Path,
    made: Path,
    rows: Sequence[VerifyRow],
    limits: Limits,
    report: Callable[[float], None] | None,
) -> Verification:
    with GgufTokenModel(made, _VERIFY_CTX) as exported:
        prompts = [exported.tokenize(row.prompt) for row in rows]
        texts = [exported.tokenize(row.prompt + row.completion)[: exported.n_ctx] for row in rows]
        room = exported.n_ctx - _CONTINUATION_TOKENS
        return verify(
            HfTokenModel(open_trained(trained, base)),
            exported,
            [prompt[-room:] for prompt in prompts],
            texts,
            limits,
            num_tokens=_CONTINUATION_TOKENS,
            is_end=exported.is_end,
            on_progress=report,
        )


def _described(path: Path) -> ExportedFile:
    return ExportedFile(path, sha256_of(path), path.stat().st_size)


def _stage(on_progress: OnProgress | None, stage: Stage) -> Callable[[float], None] | None:
    return partial(on_progress, stage) if on_progress else None
