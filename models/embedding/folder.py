"""What a sentence-transformers folder says about itself, read from its small files without loading the model.

Place in the data's way: the folder of an installed embedding model -> `EmbeddingFolder` -> the parent process
answers dimension, window and token offsets at once while the child process is still loading the weights.

Example:
    >>> EmbeddingFolder.read(path_of(settings, "all-minilm-l6-v2")).dimension  # doctest: +SKIP
    384
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.errors import ModelLoadError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_UNBOUNDED_TOKENS = 100_000  # tokenizer_config.json writes 1e30 for "no limit"
_POOLING_MODES = (
    "cls_token",
    "mean_tokens",
    "max_tokens",
    "mean_sqrt_len_tokens",
    "weightedmean_tokens",
    "lasttoken",
)


@dataclass(frozen=True, slots=True)
class Pooling:
    """How token vectors become one vector.

    Attributes:
        modes: Names as in the folder's Pooling module, such as ("mean_tokens",); more than one are joined.
        dimension: Length of the token vectors.
    """

    modes: tuple[str, ...]
    dimension: int


@dataclass(frozen=True, slots=True)
class EmbeddingFolder:
    """The facts of a sentence-transformers folder.

    Attributes:
        path: The folder.
        module_types: Class names of its modules in order, such as ("Transformer", "Pooling", "Normalize").
        config: The transformer's config.json.
        pooling: Its pooling; None where it has no Pooling module.
        dimension: Length of a vector.
        max_seq_length: Tokens of one text, special tokens counted.
        do_lower_case: Whether texts are lower-cased before the tokenizer.
        has_default_prompt: Whether the model puts a prompt of its own before every text.
    """

    path: Path
    module_types: tuple[str, ...]
    config: dict[str, Any]
    pooling: Pooling | None
    dimension: int
    max_seq_length: int
    do_lower_case: bool
    has_default_prompt: bool

    @classmethod
    def read(cls, path: Path) -> EmbeddingFolder:
        """Read the folder's small files.

        Raises:
            ModelLoadError: It is not a sentence-transformers folder, or one of its files is damaged.
        """
        if not path.is_dir():
            raise ModelLoadError(f"{path} is not a folder.", _FOLDER_HINT)
        try:
            return cls._read(path)
        except (KeyError, TypeError, ValueError, OSError) as exc:
            raise ModelLoadError(
                f"{path} is not a sentence-transformers folder: {exc!r}.", _FOLDER_HINT
            ) from exc

    @classmethod
    def _read(cls, path: Path) -> EmbeddingFolder:
        modules = _read_json(path / "modules.json")
        folders = {_class_name(module["type"]): path / module["path"] for module in modules}
        transformer = folders["Transformer"]
        config = _read_json(transformer / "config.json")
        options = _read_json_or_empty(transformer / "sentence_bert_config.json")
        pooling = _read_pooling(folders["Pooling"]) if "Pooling" in folders else None
        prompts = _read_json_or_empty(path / "config_sentence_transformers.json")
        return cls(
            path=path,
            module_types=tuple(_class_name(module["type"]) for module in modules),
            config=config,
            pooling=pooling,
            dimension=_read_dimension(folders, config, pooling),
            max_seq_length=_read_max_seq_length(transformer, config, options),
            do_lower_case=bool(options.get("do_lower_case", False)),
            has_default_prompt=bool(prompts.get("default_prompt_name")),
        )

    @property
    def weight_files(self) -> list[Path]:
        """The files that hold the weights, sorted by name.

        Raises:
            ModelLoadError: There are none.
        """
        for pattern in ("*.safetensors", "pytorch_model*.bin"):
            if files := sorted(self.path.glob(pattern)):
                return files
        raise ModelLoadError(f"{self.path} holds no weights (*.safetensors).", _FOLDER_HINT)

    def load_tokenizer(self) -> Tokenizer:
        """Return the tokenizer, neither cutting nor padding.

        Raises:
            ModelLoadError: The folder has no tokenizer.json or it is damaged.
        """
        from tokenizers import Tokenizer

        path = self.path / "tokenizer.json"
        if not path.is_file():
            raise ModelLoadError(
                f"{self.path} has no tokenizer.json.",
                "Save it beside the model: AutoTokenizer.from_pretrained(model).save_pretrained(folder).",
            )
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as exc:  # noqa: BLE001 - the library raises bare Exception
            raise ModelLoadError(f"{path} is damaged: {exc}.", _FOLDER_HINT) from exc
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer


_FOLDER_HINT = "Set embedder.name to all-minilm-l6-v2 or to a folder saved by SentenceTransformer.save()."


def _class_name(dotted: str) -> str:
    return dotted.rsplit(".", 1)[-1]


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _read_json_or_empty(path: Path) -> dict[str, Any]:
    return dict(_read_json(path)) if path.is_file() else {}


def _read_pooling(folder: Path) -> Pooling:
    raw = _read_json(folder / "config.json")
    dimension = int(
        raw["word_embedding_dimension"] if "word_embedding_dimension" in raw else raw["embedding_dimension"]
    )
    named = raw.get("pooling_mode")  # newer folders name the mode, older ones set one flag a mode
    if named is not None:
        names = [named] if isinstance(named, str) else list(named)
        known = {mode.removesuffix("_tokens").removesuffix("_token"): mode for mode in _POOLING_MODES}
        return Pooling(tuple(known.get(name, name) for name in names), dimension)
    return Pooling(tuple(mode for mode in _POOLING_MODES if raw.get(f"pooling_mode_{mode}")), dimension)


def _read_dimension(folders: dict[str, Path], config: dict[str, Any], pooling: Pooling | None) -> int:
    if "Dense" in folders:
        return int(_read_json(folders["Dense"] / "config.json")["out_features"])
    if pooling is not None:
        return pooling.dimension * max(1, len(pooling.modes))
    return int(config["hidden_size"])


def _read_max_seq_length(folder: Path, config: dict[str, Any], options: dict[str, Any]) -> int:
    if options.get("max_seq_length"):
        return int(options["max_seq_length"])
    tokenizer = _read_json_or_empty(folder / "tokenizer_config.json")
    limits = [tokenizer.get("model_max_length"), config.get("max_position_embeddings"), _UNBOUNDED_TOKENS]
    return int(min(limit for limit in limits if limit))
