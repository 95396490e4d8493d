"""What is on this disk: which models, whether they are whole, and which one is in use.

Place in the data's way: `pull` records a model here once its hash is right -> the engine and the embedder ask
`verified_path` -> they load. The record is one JSON file beside the models, replaced atomically under a lock.

Example:
    >>> path_of(settings, "smollm2-135m")  # doctest: +SKIP
    PosixPath('.../models/smollm2-135m/SmolLM2-135M-Instruct.Q4_1.gguf')
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.errors import ModelLoadError, ModelNotFoundError, StorageError
from ...core.settings import Settings
from ...core.whole_file import write_json
from .catalog import ModelKind, catalog, unknown_model
from .lineage import Lineage, lineage_from_json, lineage_to_json

STATE_FILE = "installed.json"
MAX_HISTORY = 20
_HASH_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class InstalledFile:
    """A file whose SHA-256 was checked when it had this size and this modification time.

    Attributes:
        path: Where it stands in the model's folder.
        size_bytes: Its size then.
        mtime_ns: Its modification time then, in nanoseconds since the epoch.
        sha256: SHA-256 of its bytes.
    """

    path: str
    size_bytes: int
    mtime_ns: int
    sha256: str


@dataclass(frozen=True, slots=True)
class InstalledModel:
    """A model on this disk.

    Attributes:
        name: The name that people type.
        kind: "chat" or "embedding".
        folder: The folder that holds its files.
        files: Its files; the first is the weights.
        source: Where it came from, for people.
        licence: SPDX identifier, or "unknown".
        n_ctx_train: Tokens that it was trained to read; 0 where unknown.
        parameters: All parameters; 0 where unknown.
        installed_at: Seconds since the epoch.
        lineage: How it was trained; None where it was not trained here.
    """

    name: str
    kind: ModelKind
    folder: Path
    files: tuple[InstalledFile, ...]
    source: str
    licence: str
    n_ctx_train: int
    parameters: int
    installed_at: float
    lineage: Lineage | None = None

    @property
    def is_adapter(self) -> bool:
        """Whether it is a LoRA adapter, which runs beside its base only; see `weights_of`."""
        return self.lineage is not None and bool(self.lineage.adapter_file)

    @property
    def path(self) -> Path:
        """The GGUF file of a chat model or an adapter, the folder of an embedding model."""
        return self.folder / self.files[0].path if self.kind == "chat" else self.folder

    @property
    def sha256(self) -> str:
        """SHA-256 of the weights."""
        return self.files[0].sha256

    @property
    def size_bytes(self) -> int:
        """Size of all files."""
        return sum(file.size_bytes for file in self.files)

    def verify(self) -> InstalledModel:
        """Check that the files are those whose hashes were checked.

        Size and modification time are compared; where they differ the file is hashed again, and the record is
        renewed if the bytes are the same.

        Returns:
            The model, with renewed times where they changed.

        Raises:
            ModelLoadError: A file is missing or its bytes changed.
        """
        files = tuple(self._verify_file(file) for file in self.files)
        if files == self.files:
            return self
        renewed = dataclasses.replace(self, files=files)
        with changing(self.folder.parent) as state:
            if self.name in state.models:
                state.models[self.name] = renewed
        return renewed

    def _verify_file(self, file: InstalledFile) -> InstalledFile:
        path = self.folder / file.path
        hint = f"Fetch it again: localsmith models pull {self.name}"
        try:
            stat = path.stat()
            if (stat.st_size, stat.st_mtime_ns) == (file.size_bytes, file.mtime_ns):
                return file
            same = stat.st_size == file.size_bytes and sha256_of(path) == file.sha256
        except OSError as exc:
            raise ModelLoadError(f"{path} of model {self.name} can't be read: {exc.strerror}.", hint) from exc
        if not same:
            raise ModelLoadError(f"{path} is damaged: its bytes are not those of model {self.name}.", hint)
        return dataclasses.replace(file, mtime_ns=stat.st_mtime_ns)


@dataclass(slots=True)
class _State:
    models: dict[str, InstalledModel]
    in_use: str | None
    history: list[str | None]  # what was in use before, oldest first; None for the automatic choice

    def choose(self, name: str | None) -> None:
        """Put another model in use and remember the one before."""
        if name != self.in_use:
            self.history = [*self.history, self.in_use][-MAX_HISTORY:]
            self.in_use = name


def installed(settings: Settings) -> dict[str, InstalledModel]:
    """Return the models on this disk by name.

    Raises:
        StorageError: The record can't be read.
    """
    return _read(settings.models_dir).models


def installed_model(settings: Settings, name: str) -> InstalledModel:
    """Return the model of this name.

    Raises:
        ModelNotFoundError: It is not installed; the hint says how to get it.
    """
    models = installed(settings)
    if name in models:
        return models[name]
    if name in catalog():
        raise ModelNotFoundError(f"Model {name} is not installed.", f"Get it: localsmith models pull {name}")
    raise unknown_model(name, [*models, *catalog()])


def path_of(settings: Settings, name: str) -> Path:
    """Return the GGUF file of a chat model or the folder of an embedding model, checked to be whole.

    Raises:
        ModelNotFoundError: It is not installed.
        ModelLoadError: A file is missing or damaged, or the model is an adapter and has no file of its own.
    """
    model = installed_model(settings, name)
    if model.is_adapter:
        raise ModelLoadError(
            f"{name} is a LoRA adapter: it runs beside its base and is no model by itself.",
            f"Take its base: {model.lineage.base if model.lineage else ''}.",
        )
    return model.verify().path


def in_use(settings: Settings) -> str | None:
    """Return the chat model that `use` or `promote` chose, or None where the choice is automatic."""
    return _read(settings.models_dir).in_use


def history(settings: Settings) -> list[str | None]:
    """Return what was in use before, oldest first; None stands for the automatic choice."""
    return _read(settings.models_dir).history


def use(settings: Settings, name: str | None) -> None:
    """Make an installed chat model the default; None for the automatic choice. `rollback` undoes it.

    Raises:
        ModelNotFoundError: It is not installed.
        ValueError: It is not a chat model.
    """
    if name is not None and installed_model(settings, name).kind != "chat":
        raise ValueError(f"{name!r} is an embedding model; name it in the setting embedder.name instead.")
    with changing(settings.models_dir) as state:
        state.choose(name)


def register(settings: Settings, model: InstalledModel) -> None:
    """Record a model whose files stand in their folder and were checked."""
    with changing(settings.models_dir) as state:
        state.models[model.name] = model


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, lower-case hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_HASH_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def describe_file(folder: Path, path: str, sha256: str) -> InstalledFile:
    """Return the record of a file whose bytes were just checked to have this hash."""
    stat = (folder / path).stat()
    return InstalledFile(path, stat.st_size, stat.st_mtime_ns, sha256)


@contextlib.contextmanager
def changing(models_dir: Path) -> Iterator[_State]:
    """Read the record, let the caller change it, write it; one process at a time."""
    from filelock import FileLock

    try:
        models_dir.mkdir(parents=True, exist_ok=True)
        with FileLock(models_dir / ".installed.lock"):
            state = _read(models_dir)
            yield state
            models = {name: model_to_json(model) for name, model in sorted(state.models.items())}
            record = {"version": 1, "in_use": state.in_use, "history": state.history, "models": models}
            write_json(models_dir / STATE_FILE, record)
    except OSError as exc:
        raise StorageError(f"{models_dir} can't be changed: {exc.strerror or exc}.") from exc


def _read(models_dir: Path) -> _State:
    path = models_dir / STATE_FILE
    if not path.exists():
        return _State({}, None, [])
    raw = read_json(path)
    try:
        models = {name: model_from_json(model, models_dir) for name, model in raw["models"].items()}
        return _State(models, raw["in_use"], list(raw.get("history", [])))
    except (KeyError, TypeError, AttributeError, ValueError) as exc:
        raise StorageError(f"{path} is not a record of models: {exc!r}.", _lost_record_hint(path)) from exc


def read_json(path: Path) -> Any:
    """Return the value in a JSON file.

    Raises:
        StorageError: It can't be read or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise StorageError(f"{path} can't be read: {exc.strerror}.") from exc
    except ValueError as exc:
        raise StorageError(f"{path} is not valid JSON: {exc}.", _lost_record_hint(path)) from exc


def _lost_record_hint(path: Path) -> str:
    return f"Delete {path.name} and pull the models again; files that are whole are not fetched twice."


def model_to_json(model: InstalledModel) -> dict[str, Any]:
    """Return what is kept of a model; its folder by name only, so that `home` can be moved."""
    raw = dataclasses.asdict(model)
    raw["folder"] = model.folder.name
    del raw["lineage"]
    return raw if model.lineage is None else raw | {"lineage": lineage_to_json(model.lineage)}


def model_from_json(raw: dict[str, Any], models_dir: Path) -> InstalledModel:
    """Return the model that `model_to_json` wrote."""
    values = dict(raw)
    values["folder"] = models_dir / Path(values["folder"]).name
    values["files"] = tuple(InstalledFile(**file) for file in values["files"])
    if (lineage := values.get("lineage")) is not None:
        values["lineage"] = lineage_from_json(lineage)
    return InstalledModel(**values)
