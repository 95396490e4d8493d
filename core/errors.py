"""Every error that Localsmith raises on purpose, each with what to do next.

Place in the data's way: a third-party error is translated into one of these where it enters our code, with
the cause kept (`raise LoadError(...) from exc`). Only the CLI, the UI and the HTTP routes turn them into
words.

Example:
    >>> error = ContextOverflow(prompt_tokens=9000, reserved_tokens=512, n_ctx=8192)
    >>> "9000" in str(error) and "8192" in str(error)
    True
"""

from __future__ import annotations

from typing import Literal, TypeAlias

LoadReason: TypeAlias = Literal[
    "unsupported",
    "empty",
    "encrypted",
    "corrupt",
    "too_large",
    "no_text",
    "archive_bomb",
    "timeout",
    "memory",
    "unreadable",
]


class LocalsmithError(Exception):
    """Base of all errors here.

    Attributes:
        hint: The next step for a person, one sentence, or "".
        retryable: Whether the same call may succeed later without a change.
    """

    retryable = False

    def __init__(self, message: str, hint: str = "") -> None:
        """Keep the message for `str()` and the hint beside it."""
        super().__init__(message)
        self.hint = hint


class ConfigError(LocalsmithError):
    """A setting is unknown, out of range or contradicts another; raised at start-up."""


class StorageError(LocalsmithError):
    """The disk is full, read-only or broken; what was stored before is unharmed."""


class TelemetryError(LocalsmithError):
    """The collector that traces are sent to can't be reached or refuses them; they stay in the store."""

    retryable = True


class ModelError(LocalsmithError):
    """Base of errors about the model."""


class ModelNotFoundError(ModelError):
    """No model of this name is in the catalog, or it has not been pulled."""


class ModelDownloadError(ModelError):
    """No source could deliver the file; what has arrived is kept for the next try."""

    retryable = True


class ModelLoadError(ModelError):
    """The file is damaged, not a GGUF, of an unknown architecture, or memory does not suffice."""


class ContextOverflow(ModelError):
    """The prompt does not fit into the context window.

    Attributes:
        prompt_tokens: Tokens of the rendered prompt.
        reserved_tokens: Tokens asked for the completion.
        n_ctx: The window.
    """

    def __init__(self, prompt_tokens: int, reserved_tokens: int, n_ctx: int) -> None:
        """Say all three numbers in the message."""
        super().__init__(
            f"The prompt has {prompt_tokens} tokens and {reserved_tokens} are reserved for the answer, "
            f"but the context window holds {n_ctx}.",
            hint="Shorten the question or the conversation, or raise model.n_ctx.",
        )
        self.prompt_tokens = prompt_tokens
        self.reserved_tokens = reserved_tokens
        self.n_ctx = n_ctx


class GenerationError(ModelError):
    """The model failed while it was running."""


class RetrievalError(LocalsmithError):
    """Base of errors about documents and search."""


class LoadError(RetrievalError):
    """A file can't be read.

    Attributes:
        reason: The kind of failure, for programs.
    """

    def __init__(self, message: str, reason: LoadReason, hint: str = "") -> None:
        """Keep the reason beside the message."""
        super().__init__(message, hint)
        self.reason: LoadReason = reason


class IndexNotFoundError(RetrievalError):
    """No collection or document of this name exists."""


class EmbedderMismatchError(RetrievalError):
    """A collection was embedded with another model than the one in use."""


class LibraryBusyError(RetrievalError):
    """Another process holds the library's write lock for longer than the time allowed."""

    retryable = True


class AgentError(LocalsmithError):
    """Base of errors in a strategy."""


class OutputParseError(AgentError):
    """The model's output does not have the form that the strategy needs."""


class SandboxError(AgentError):
    """The sandbox can't run programs on this machine."""


class ToolArgumentError(AgentError):
    """A tool was called with arguments that it can't use; the model reads why and tries again."""


class ToolExecutionError(AgentError):
    """A tool failed; the model reads why and goes on."""


class EvaluationError(LocalsmithError):
    """An evaluation's input is not what it must be."""


class TrainingError(LocalsmithError):
    """A training run can't begin or can't go on; its last good checkpoint is kept."""


class DatasetError(TrainingError):
    """Training data can't be read, is empty, or a row of it can't be used."""


class ExportError(TrainingError):
    """A trained model can't be written as a GGUF file, or the file is not the model."""


class GateRejected(TrainingError):
    """A trained model's figures are worse than its base's, so it is not promoted."""


class ServingError(LocalsmithError):
    """Base of errors about serving requests."""


class AccessDenied(ServingError):
    """The key is missing, unknown, revoked or not for this; or the server would be open to everyone."""


class Overloaded(ServingError):
    """The queue is full."""

    retryable = True


class ModelNotReadyError(ServingError):
    """The model is still loading, or has been closed."""

    retryable = True
