"""Makes a GGUF file smaller: fewer bits a weight.

Place in the data's way: `training.export` writes 16 bits a weight -> `quantize` -> the file that is served.
llama.cpp works in a process of its own, so that one of its assertions is an error here and no end of ours.

Example:
    quantize(Path("model-F16.gguf"), Path("model-Q4_K_M.gguf"), "Q4_K_M")
"""

from __future__ import annotations

import ctypes
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from ...core.errors import ExportError
from ...core.whole_file import unwritable, whole_file
from .library import check_magic, default_threads, llama_api

Quantization: TypeAlias = Literal["F16", "Q8_0", "Q5_K_M", "Q4_K_M"]
QUANTIZATIONS: tuple[Quantization, ...] = get_args(Quantization)

_STEP = re.compile(r"\[ *(\d+)/ *(\d+)\]")  # how llama.cpp's log begins a tensor
_ERROR = 4  # ggml_log_level
_LAST_WORDS_CHARS = 400


def quantize(
    source: Path,
    target: Path,
    quantization: Quantization,
    *,
    imatrix: Path | None = None,
    on_progress: Callable[[float], None] | None = None,
    num_threads: int = 0,
) -> None:
    """Write a model with fewer bits a weight.

    Args:
        source: A GGUF file in 16 or 32 bits a weight.
        target: The file to write; replaced when the new one is whole.
        quantization: Type of most matrices, by llama.cpp's name. Matrices whose rows it does not divide get
            the next larger type.
        imatrix: Importance matrix in llama.cpp's GGUF form, made for this model; None to weigh all alike.
        on_progress: Called with the share of tensors done, 0 to 1.
        num_threads: Threads; 0 for one a physical core.

    Raises:
        ModelLoadError: `source` can't be read or is no GGUF.
        ExportError: llama.cpp refused, failed or died; `target` is what it was before.
        StorageError: The disk is full, read-only or broken; `target` is what it was before.
        ValueError: `quantization` is not one of `QUANTIZATIONS`.
    """
    if quantization not in QUANTIZATIONS:
        raise ValueError(f"quantization must be one of {', '.join(QUANTIZATIONS)}, not {quantization!r}")
    check_magic(source)
    with whole_file(target) as partial:
        request = {
            "source": str(source.resolve()),
            "target": str(partial.resolve()),
            "quantization": quantization,
            "imatrix": str(imatrix.resolve()) if imatrix else "",
            "num_threads": num_threads or default_threads(),
        }
        _run_child(request, target, on_progress)


def _run_child(request: dict[str, Any], target: Path, on_progress: Callable[[float], None] | None) -> None:
    # -P: the working directory must not shadow installed packages.
    command = [sys.executable, "-P", "-m", __name__]
    error = ""
    with (
        tempfile.TemporaryFile() as stderr,
        subprocess.Popen(
            [*command, json.dumps(request)], stdout=subprocess.PIPE, stderr=stderr, text=True
        ) as process,
    ):
        try:
            assert process.stdout is not None  # it is a pipe
            for line in process.stdout:
                report = _report(line)
                error = str(report.get("error", error))
                if on_progress and "share" in report:
                    on_progress(float(report["share"]))
        except BaseException:  # Ctrl-C, or an error of the caller's `on_progress`
            process.kill()
            raise
        code = process.wait()
        stderr.seek(0)
        last_words = stderr.read().decode(errors="replace").strip()[-_LAST_WORDS_CHARS:]
    if code == 0:
        return
    if "iostream" in error:  # the C++ stream tells no more; only writing goes through one
        raise unwritable(target, "the disk is full or broken")
    raise ExportError(
        f"llama.cpp could not quantize {Path(request['source']).name} to {request['quantization']}: "
        f"{error or last_words or f'its process ended with code {code}'}.",
        "Check that the file is whole and in 16 or 32 bits a weight.",
    )


def _report(line: str) -> dict[str, Any]:
    """Return what the child says; a line that llama.cpp itself wrote says nothing."""
    try:
        report = json.loads(line)
    except ValueError:
        return {}
    return report if isinstance(report, dict) else {}


# -- the child


def _main() -> int:
    request = json.loads(sys.argv[1])
    api = llama_api()
    errors: list[str] = []

    def listen(level: int, text: bytes, _: Any) -> None:
        line = text.decode("utf-8", errors="replace").strip()
        if level == _ERROR and line:
            errors.append(line)
        if match := _STEP.match(line):
            _say(share=int(match[1]) / int(match[2]))

    callback = api.llama_log_callback(listen)
    api.llama_log_set(callback, ctypes.c_void_p(0))
    params = api.llama_model_quantize_default_params()
    params.nthread = request["num_threads"]
    types = {
        "F16": api.LLAMA_FTYPE_MOSTLY_F16,
        "Q8_0": api.LLAMA_FTYPE_MOSTLY_Q8_0,
        "Q5_K_M": api.LLAMA_FTYPE_MOSTLY_Q5_K_M,
        "Q4_K_M": api.LLAMA_FTYPE_MOSTLY_Q4_K_M,
    }
    params.ftype = types[request["quantization"]]
    if request["imatrix"]:
        try:
            importance = read_imatrix(Path(request["imatrix"]))
        except (OSError, ValueError, KeyError) as exc:
            _say(error=f"the importance matrix can't be read: {exc}")
            return 1
        params.imatrix = _imatrix_array(api, importance)
    code = api.llama_model_quantize(
        request["source"].encode(), request["target"].encode(), ctypes.byref(params)
    )
    if code != 0:
        _say(error=errors[-1] if errors else f"llama_model_quantize returned {code}")
    return int(code != 0)


def _say(**report: Any) -> None:
    sys.stdout.write(json.dumps(report) + "\n")
    sys.stdout.flush()


def read_imatrix(path: Path) -> dict[str, npt.NDArray[np.float32]]:
    """Return the mean square of each input column by the tensor that reads it.

    Raises:
        ValueError: The file is no importance matrix.
        OSError: It can't be read.
    """
    from gguf import GGUFReader

    tensors = {tensor.name: np.asarray(tensor.data, np.float32) for tensor in GGUFReader(path).tensors}
    names = [name.removesuffix(".in_sum2") for name in tensors if name.endswith(".in_sum2")]
    if not names:
        raise ValueError(f"{path.name} is no importance matrix")
    found = {}
    for name in names:
        counts = tensors[f"{name}.counts"].reshape(-1, 1)  # one for each expert, or one for all
        sums = tensors[f"{name}.in_sum2"].reshape(len(counts), -1)  # (n_experts, n_columns)
        found[name] = np.asarray(sums / np.maximum(counts, 1), np.float32).ravel()
    return found


def _imatrix_array(api: Any, importance: dict[str, npt.NDArray[np.float32]]) -> Any:
    """Return the C array, ended by an entry without a name; it keeps what it points to alive."""
    entries = (api.llama_model_imatrix_data * (len(importance) + 1))()
    keep = []
    for entry, (name, values) in zip(entries, importance.items(), strict=False):
        data = np.ascontiguousarray(values, np.float32)
        keep.append(data)
        entry.name = name.encode()
        entry.data = data.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        entry.size = data.size
    entries._kept = keep
    return entries


if __name__ == "__main__":
    sys.exit(_main())
