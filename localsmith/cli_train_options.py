"""The options about model and method that `train sft` and `train estimate` share.

Place in the data's way: words in -> typed options -> `SftConfig`, made by each command.

Example: `localsmith train estimate --base smollm2-135m --method lora --set rank=8`
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from .core.settings import Settings

Base = Annotated[
    str, typer.Option(help="An installed model, a GGUF file, a Hugging Face folder, or hub:OWNER/NAME.")
]
Method = Annotated[str, typer.Option(help="lora, qlora, full, selective, bottleneck, ia3, prompt or prefix.")]
MethodOptions = Annotated[
    list[str] | None,
    typer.Option("--set", help="A setting of the method, such as rank=8; repeat.", metavar="NAME=VALUE"),
]
BatchSize = Annotated[int, typer.Option(min=1, help="Rows of an optimizer step.")]
MicroBatchSize = Annotated[int, typer.Option(min=1, help="Rows computed at once.")]
MaxTokens = Annotated[int, typer.Option(min=2, help="Most tokens of a row.")]
Checkpointing = Annotated[
    bool, typer.Option("--checkpointing", help="Compute activations again, to save memory.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]


def pairs(options: list[str]) -> dict[str, str]:
    """Return `NAME=VALUE` options by name.

    Raises:
        ConfigError: One has no "=".
    """
    from .core.errors import ConfigError

    if wrong := [option for option in options if "=" not in option]:
        raise ConfigError(f"--set {wrong[0]} makes no sense.", hint="Write NAME=VALUE, such as rank=8.")
    return dict(option.partition("=")[::2] for option in options)


def pull_base(settings: Settings, base: str) -> None:
    """Fetch a base that the catalog knows and that is not here yet."""
    from .cli_models import pull
    from .models.catalog.catalog import catalog
    from .models.catalog.installed import installed

    if base in catalog() and base not in installed(settings):
        pull(base, None)
