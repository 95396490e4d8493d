"""All settings, from one file, the environment and the command line.

Place in the data's way: read once at start-up and handed down as a frozen value; nothing below the front door
reads the environment. Precedence: argument > environment (`LOCALSMITH_MODEL__NAME`) > `localsmith.toml`
(working directory, then the data folder) > default. An unknown key stops the start and names the nearest one.

Example:
    >>> load_settings(answer={"seconds_to_first_token": 5}).answer.seconds_to_first_token
    5.0
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Any, Literal

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from .errors import ConfigError

SETTINGS_FILE = "localsmith.toml"
HOME_VARIABLE = "LOCALSMITH_HOME"
REMOTE_KEY_VARIABLE = "LOCALSMITH_REMOTE_API_KEY"


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelSettings(_Section):
    """The chat model and how it is run."""

    name: str = Field(
        "auto",
        description='Catalog name; "auto" for the best this machine runs in time; or the address of another '
        "server's model, as openai://HOST:PORT/MODEL.",
    )
    api_key: SecretStr = Field(
        SecretStr(""),
        description="Key of the other server; better in LOCALSMITH_REMOTE_API_KEY. Never shown.",
    )
    n_ctx: int = Field(8192, ge=512, le=1_048_576, description="Context window in tokens.")
    n_threads: int = Field(0, ge=0, le=1024, description="CPU threads; 0 for one a physical core.")
    n_gpu_layers: int = Field(-1, ge=-1, description="Layers on the GPU; -1 for as many as fit its memory.")
    tensor_split: tuple[float, ...] = Field((), description="Shares of the GPUs; empty for by free memory.")
    main_gpu: int = Field(0, ge=0, description="The GPU that holds what is not split.")
    flash_attention: Literal["auto", "on", "off"] = Field("auto", description="Flash attention.")
    kv_type: Literal["f16", "q8_0", "q4_0"] = Field(
        "f16", description="Type of the KV cache; the smaller ones hold more tokens and need flash attention."
    )
    kv_cells: int = Field(0, ge=0, description="Tokens the KV cache holds for all requests; 0 for automatic.")
    n_batch: int = Field(256, ge=16, le=8192, description="Prompt tokens computed in one step.")
    max_running: int = Field(8, ge=1, le=128, description="Requests computed at the same time.")
    max_queue: int = Field(64, ge=1, description="Requests that may wait.")
    draft_tokens: int = Field(0, ge=0, le=32, description="Tokens guessed by prompt lookup; 0 for none.")
    saved_prefix_mib: int = Field(256, ge=0, description="Disk for prefixes kept over a restart; 0 for none.")


class EmbedderSettings(_Section):
    """The embedding model."""

    name: str = Field("all-minilm-l6-v2", description="Catalog name, or a folder for sentence-transformers.")
    batch_size: int = Field(32, ge=1, le=1024, description="Chunks embedded in one step.")
    device: str = Field("auto", description='"auto", "cpu", "cuda" or "mps".')


class RetrievalSettings(_Section):
    """How documents are read, cut and searched."""

    chunk_tokens: int = Field(200, ge=32, le=8192, description="Longest chunk, by the embedding tokenizer.")
    chunk_overlap_tokens: int = Field(32, ge=0, le=1024, description="Tokens repeated between chunks.")
    k: int = Field(5, ge=1, le=100, description="Passages looked for.")
    max_file_bytes: int = Field(200_000_000, ge=1, description="Larger files are refused.")
    max_text_chars: int = Field(20_000_000, ge=1, description="A document's text may not be longer.")
    parse_timeout_s: float = Field(120.0, gt=0, description="A parser that takes longer is stopped.")
    parse_memory_bytes: int = Field(2_000_000_000, ge=100_000_000, description="Memory a parser may take.")
    undo_days: float = Field(7.0, ge=0, description="Days that a removed document can be restored.")
    library_dir: Path | None = Field(
        None, description="Folder of the document library; none for one in the data folder."
    )


class AnswerSettings(_Section):
    """How answers are generated."""

    seconds_to_first_token: float = Field(15.0, gt=0, description="Time budget for reading the prompt.")
    max_tokens: int = Field(400, ge=1, description="Longest completion, reserved in the window.")
    temperature: float = Field(0.0, ge=0, le=2, description="0 for greedy decoding.")
    seed: int = Field(7, ge=0, description="Seed of the sampler.")
    num_samples: int = Field(
        0,
        ge=0,
        le=64,
        description="Samples that vote in cot-sc and pal-vote; 0 for the usual number.",
    )
    strategy: str = Field(
        "auto", description='How a question is answered where nothing is chosen: "auto", "rag", "cot", ….'
    )


class MemorySettings(_Section):
    """What is remembered of a conversation's older turns and of the person."""

    is_on: bool = Field(True, description="Off: no running summaries, and no facts noticed or used.")
    history_share: float = Field(
        0.25, gt=0, le=0.9, description="Share of the context window for earlier turns, summary and facts."
    )
    max_facts: int = Field(5, ge=0, le=50, description="Most facts about the person in one prompt.")


class SandboxSettings(_Section):
    """Where and how the model's programs run."""

    kind: Literal["auto", "wasm", "bubblewrap"] = Field(
        "auto", description='"auto" for the strongest there is; "wasm"; or "bubblewrap", on Linux.'
    )
    timeout_s: float = Field(10.0, gt=0, le=3600, description="A program that takes longer is stopped.")
    memory_bytes: int = Field(
        256 * 2**20, ge=64 * 2**20, le=4 * 2**30, description="Memory a program may take."
    )
    output_chars: int = Field(20_000, ge=100, le=10_000_000, description="A program may print so much.")


class McpServerSettings(_Section):
    """A server of the Model Context Protocol whose tools agents may call."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9_-]{1,24}$", description="Its name here; the names of its tools begin with it."
    )
    command: str = Field("", description="Program to start, which talks over standard input and output.")
    args: tuple[str, ...] = Field((), description="The program's arguments.")
    env: dict[str, SecretStr] = Field({}, description="Environment variables it gets beside PATH and HOME.")
    url: str = Field("", description="Address of one that runs already, as http://127.0.0.1:8001/mcp.")
    api_key: SecretStr = Field(SecretStr(""), description="Sent to the address as a bearer token.")
    allowed_tools: tuple[str, ...] = Field((), description="Tools that agents may see; empty for all.")
    safe_tools: tuple[str, ...] = Field((), description="Tools that run without asking the person.")
    timeout_s: float = Field(30.0, gt=0, le=3600, description="A call that takes longer is given up.")


class ToolSettings(_Section):
    """What agents may use beside the tools that come with Localsmith."""

    mcp_servers: tuple[McpServerSettings, ...] = Field(
        (), description="MCP servers, one `[[tools.mcp_servers]]` each; see docs/how-to/mcp.md."
    )
    web_hosts: tuple[str, ...] = Field(
        (), description="Hosts whose pages agents may ask to fetch, as docs.python.org; none: no web."
    )


class UiSettings(_Section):
    """The chat in the browser."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8501, ge=1, le=65535, description="Port to listen on.")


class ServeSettings(_Section):
    """The HTTP server, `localsmith serve`."""

    host: str = Field("127.0.0.1", description="Address to listen on; others than loopback need an API key.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 for any free one.")
    allowed_origins: tuple[str, ...] = Field(
        (), description="Web pages that may call, as https://example.org."
    )
    allowed_hosts: tuple[str, ...] = Field(
        (), description="Names the server is reached by, beside loopback's."
    )
    temperature: float = Field(0.7, ge=0, le=2, description="Where a request gives none.")
    default_max_tokens: int = Field(1024, ge=1, description="Longest completion where a request gives none.")
    max_tokens: int = Field(0, ge=0, description="Most a request may ask for; 0 for the context window.")
    max_choices: int = Field(
        16, ge=1, le=128, description="Most completions of one request, `n` times prompts."
    )
    max_inputs: int = Field(2048, ge=1, description="Most texts in one embeddings request.")
    max_body_bytes: int = Field(4_000_000, ge=1000, description="Larger request bodies are refused.")
    max_connections: int = Field(256, ge=1, description="Connections at the same time.")
    requests_per_minute: int = Field(1200, ge=0, description="Of one key, or one address; 0 for no limit.")
    deadline_s: float = Field(600.0, gt=0, description="A request that takes longer ends with what it has.")
    shutdown_s: float = Field(3.0, ge=0, description="Time that running requests get when the server stops.")


class TraceSettings(_Section):
    """What is kept of every run, and where else it goes."""

    keep_days: float = Field(30.0, gt=0, description="Days that a run is kept.")
    max_mb: int = Field(500, ge=1, description="Most that all runs take, in MB; the oldest go first.")
    keep_texts: bool = Field(
        True, description="Keep questions, prompts, outputs and answers; else only kinds, counts and times."
    )
    otlp_endpoint: str = Field(
        "",
        description="OpenTelemetry collector that every run is sent to, as http://HOST:4318; empty for none.",
    )
    otlp_texts: bool = Field(False, description="Send the texts, too.")


class LogSettings(_Section):
    """The log file."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level written.")


class Settings(BaseSettings):
    """The whole of Localsmith's settings."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix="LOCALSMITH_", env_nested_delimiter="__"
    )

    home: Path = Field(
        default_factory=lambda: Path(platformdirs.user_data_dir("localsmith", appauthor=False)),
        description="Folder of models, library, conversations and logs.",
    )
    model: ModelSettings = ModelSettings()
    embedder: EmbedderSettings = EmbedderSettings()
    retrieval: RetrievalSettings = RetrievalSettings()
    answer: AnswerSettings = AnswerSettings()
    sandbox: SandboxSettings = SandboxSettings()
    memory: MemorySettings = MemorySettings()
    tools: ToolSettings = ToolSettings()
    ui: UiSettings = UiSettings()
    serve: ServeSettings = ServeSettings()
    traces: TraceSettings = TraceSettings()
    log: LogSettings = LogSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the sources: arguments, environment, file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=_settings_file())

    @property
    def models_dir(self) -> Path:
        """Folder of model files and the catalog's state."""
        return self.home / "models"

    @property
    def runs_dir(self) -> Path:
        """Folder of training runs."""
        return self.home / "runs"

    @property
    def prefixes_dir(self) -> Path:
        """Folder of prompt prefixes kept over a restart."""
        return self.home / "prefixes"

    @property
    def library_dir(self) -> Path:
        """Folder of the document library."""
        return self.retrieval.library_dir or self.home / "library"

    @property
    def cache_dir(self) -> Path:
        """Folder of what can be made again, shared by all data folders of this user."""
        return Path(platformdirs.user_cache_dir("localsmith", appauthor=False))

    @property
    def sandbox_cache_dir(self) -> Path:
        """Folder of the compiled sandbox."""
        return self.cache_dir / "sandbox"

    @property
    def conversations_path(self) -> Path:
        """SQLite file of conversations and feedback."""
        return self.home / "conversations.sqlite3"

    @property
    def memory_path(self) -> Path:
        """SQLite file of facts about people and of running summaries."""
        return self.home / "memory.sqlite3"

    @property
    def traces_path(self) -> Path:
        """SQLite file of the traces of all runs."""
        return self.home / "traces.sqlite3"

    @property
    def keys_path(self) -> Path:
        """SQLite file of the HTTP server's API keys."""
        return self.home / "keys.sqlite3"

    @property
    def log_path(self) -> Path:
        """Log file, rotated."""
        return self.home / "localsmith.log"


def load_settings(**overrides: Any) -> Settings:
    """Read the settings from all sources.

    Args:
        overrides: Values that win over every other source, one dict a section, for example
            `answer={"max_tokens": 200}`.

    Returns:
        The settings, complete and checked.

    Raises:
        ConfigError: A key is unknown, a value is out of range or the file is not TOML.
    """
    try:
        return Settings(**overrides)
    except ValidationError as exc:
        raise ConfigError(_explain(exc), hint="See docs/reference/settings.md.") from exc
    except ValueError as exc:  # tomllib.TOMLDecodeError is one
        raise ConfigError(f"{_settings_file()} is not valid TOML: {exc}") from exc


def remote_api_key(settings: Settings) -> SecretStr:
    """Return the key of the server that `model.name` is the address of; empty where there is none.

    `LOCALSMITH_REMOTE_API_KEY` wins, then the file that `LOCALSMITH_REMOTE_API_KEY_FILE` names (systemd and
    compose hand secrets over as files), then the setting `model.api_key`.

    Raises:
        ConfigError: The file can't be read.
    """
    if key := os.environ.get(REMOTE_KEY_VARIABLE):
        return SecretStr(key)
    if path := os.environ.get(f"{REMOTE_KEY_VARIABLE}_FILE"):
        try:
            return SecretStr(Path(path).read_text(encoding="utf-8").strip())
        except (OSError, UnicodeDecodeError) as exc:
            raise ConfigError(
                f"{REMOTE_KEY_VARIABLE}_FILE names {path}, which can't be read: {exc}.",
                hint="Give this user the right to read it, or unset the variable.",
            ) from exc
    return settings.model.api_key


def _settings_file() -> Path:
    here = Path(SETTINGS_FILE)
    home = os.environ.get(HOME_VARIABLE) or platformdirs.user_data_dir("localsmith", appauthor=False)
    return here if here.is_file() else Path(home) / SETTINGS_FILE


def _explain(exc: ValidationError) -> str:
    lines = []
    for error in exc.errors():
        path = [str(part) for part in error["loc"]]
        name = ".".join(path)
        if error["type"] == "missing":  # its input is the whole table, keys to other servers included
            lines.append(f"{name} is missing.")
            continue
        if error["type"] != "extra_forbidden":
            value = "***" if name.endswith("api_key") else repr(error["input"])
            lines.append(f"{name} = {value}: {error['msg']}.")
            continue
        near = difflib.get_close_matches(name, _known_keys(), n=1, cutoff=0.5)
        lines.append(f"Unknown setting {name}." + (f" Did you mean {near[0]}?" if near else ""))
    return " ".join(lines)


def _known_keys() -> list[str]:
    keys = []
    for name, info in Settings.model_fields.items():
        section = info.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            keys += [f"{name}.{key}" for key in section.model_fields]
        else:
            keys.append(name)
    return keys
