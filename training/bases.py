"""The model that training starts from: an installed GGUF, a GGUF file, or a folder in Hugging Face's form.

Place in the data's way: `localsmith train --base NAME` -> `find_base` -> `load_trainable` for the weights and
`load_vocabulary` for the tokens. The model that the chat runs is a GGUF; its weights are dequantized, since
quantized ones can be neither trained nor saved.

Example:
    base = find_base(load_settings(), "smollm2-135m")
    model = load_trainable(base, "fp32")
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from ..core.errors import ModelLoadError, TrainingError
from ..core.extras import install_command
from ..core.settings import Settings
from ..models.catalog.installed import installed_model, sha256_of
from ..models.chat.template import CHATML
from .vocabularies import TrainingVocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BaseKind: TypeAlias = Literal["gguf", "folder"]
Precision: TypeAlias = Literal["fp32", "bf16", "fp16"]
TemplateChoice: TypeAlias = Literal["model", "chatml"]

HUB_PREFIX = "hub:"


@dataclass(frozen=True, slots=True)
class Base:
    """A model to start from.

    Attributes:
        name: The name that people type.
        path: The GGUF file, or the folder.
        kind: Which of them.
        sha256: Of the GGUF's bytes, or of the folder's weights; what a run's lineage names.
    """

    name: str
    path: Path
    kind: BaseKind
    sha256: str


def find_base(settings: Settings, name: str) -> Base:
    """Return the base of this name.

    Args:
        settings: Where models are kept.
        name: An installed chat model, the path of a GGUF file or of a folder with config.json and
            safetensors, or hub:OWNER/NAME for such a folder on the model hub, which is fetched once.

    Raises:
        ModelNotFoundError: No model of this name is installed.
        ModelLoadError: Its file is damaged.
        TrainingError: The path is neither, or the hub can't deliver.
    """
    if name.startswith(HUB_PREFIX):
        return _folder_base(name, _fetch(name.removeprefix(HUB_PREFIX)))
    path = Path(name).expanduser()
    if path.is_dir():
        return _folder_base(path.name, path)
    if path.suffix == ".gguf":
        if not path.is_file():
            raise TrainingError(f"There is no file {path}.", hint="Give the path of a GGUF file that exists.")
        return Base(path.stem, path, "gguf", sha256_of(path))
    model = installed_model(settings, name)
    if model.kind != "chat":
        raise TrainingError(
            f"{name} is an embedding model.", hint="Train a chat model: localsmith models list shows them."
        )
    return Base(name, model.verify().path, "gguf", model.sha256)


def load_trainable(base: Base, precision: Precision = "fp32") -> PreTrainedModel:
    """Load the weights so that they can be trained; a GGUF's are dequantized.

    Raises:
        TrainingError: transformers does not know this architecture, or the extra `train` is not installed.
        ModelLoadError: The files are damaged.
    """
    transformers = require_transformers()
    import torch

    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    options: dict[str, Any] = {"dtype": dtype, "local_files_only": True}
    folder = base.path
    if base.kind == "gguf":
        # Without `dequantize` the weights stay in GGUF's blocks, which can be neither trained nor saved.
        options |= {
            "gguf_file": base.path.name,
            "quantization_config": transformers.GgufConfig(dequantize=True),
        }
        folder = base.path.parent
    try:
        # transformers' bar over a GGUF's tensors heeds no setting; a fault is raised, not printed.
        with contextlib.redirect_stderr(io.StringIO()):
            model = transformers.AutoModelForCausalLM.from_pretrained(str(folder), **options)
    except (ValueError, KeyError, NotImplementedError) as exc:
        raise TrainingError(
            f"{base.name} can't be trained: {exc}",
            hint="transformers reads only some architectures as GGUF; give the model's Hugging Face folder.",
        ) from exc
    except OSError as exc:
        raise ModelLoadError(f"{base.name} can't be loaded: {exc}", hint="Pull it again.") from exc
    model.config.use_cache = False  # the KV cache is of no use in training and costs memory
    return model  # type: ignore[no-any-return]


def load_vocabulary(base: Base, template: TemplateChoice = "model") -> TrainingVocabulary:
    """Load vocabulary and chat template.

    Args:
        base: The base.
        template: "model" for the base's own chat template, "chatml" for ChatML in its place.

    Raises:
        TrainingError: The base has no chat template, and none was chosen.
    """
    vocabulary: TrainingVocabulary
    if base.kind == "gguf":
        from ..models.llama.vocabulary import LlamaVocabulary

        vocabulary = LlamaVocabulary(base.path)
    else:
        from .folder_vocabulary import FolderVocabulary

        vocabulary = FolderVocabulary(base.path)
    if template == "chatml":
        vocabulary.template = CHATML
    if not vocabulary.template:
        raise TrainingError(
            f"{base.name} has no chat template, so nobody knows how its prompts are to look.",
            hint="Use a base that was tuned to chat, or train with ChatML: --chat-template chatml.",
        )
    return vocabulary


def _folder_base(name: str, path: Path) -> Base:
    weights = sorted(path.glob("*.safetensors"))
    if not weights or not (path / "config.json").is_file():
        raise TrainingError(
            f"{path} is no model: it has no config.json, or no weights as safetensors.",
            hint="Give a folder as transformers' save_pretrained writes it, or a GGUF file.",
        )
    digest = hashlib.sha256()
    for file in weights:
        digest.update(sha256_of(file).encode())
    return Base(name, path, "folder", digest.hexdigest())


def _fetch(repo: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    wanted = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
    try:
        return Path(snapshot_download(repo, allow_patterns=wanted))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as exc:
        raise TrainingError(
            f"The hub does not deliver {repo}: {exc}",
            hint="Check the name and the connection; a gated model needs HF_TOKEN.",
        ) from exc


def require_transformers() -> Any:
    """Return the library, told not to print.

    Raises:
        TrainingError: The extra `train` is not installed.
    """
    # peft loads it, and it says that it finds no kernels on the hub.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    try:
        import peft  # noqa: F401
        import transformers
        from transformers.utils import logging as library_logging
    except ImportError as exc:
        raise TrainingError(
            "Training needs more packages than the chat.",
            hint=f"Install them: {install_command('train')}.",
        ) from exc
    # They draw bars of their own and warn of what they will rename.
    library_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    library_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    warnings.filterwarnings("ignore", module=r"(transformers|peft)\.")
    return transformers
