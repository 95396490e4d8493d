"""The commands about trained models: `localsmith models show | promote | rollback`.

Place in the data's way: words in, `models/catalog/promotion.py` calls out; what runs notices by itself.

Example: `localsmith models promote handbook-lora`
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from .core.settings import Settings
    from .models.catalog.installed import InstalledModel
    from .models.catalog.lineage import Lineage
    from .models.catalog.promotion import Change

Name = Annotated[str, typer.Argument(help="An installed model; `localsmith models list` shows all.")]


def show(
    name: Name, json: Annotated[bool, typer.Option("--json", help="Print the record as JSON.")] = False
) -> None:
    """Show what is known of a model.

    Of a trained one: its base, its run, its data, and its figures before and after.
    """
    from .core.settings import load_settings
    from .models.catalog.installed import installed_model, model_to_json

    model = installed_model(load_settings(), name)
    if json:
        from json import dumps

        typer.echo(dumps(model_to_json(model), indent=1))
        return
    rows = {
        "model": model.name,
        "file": str(model.path),
        "size": f"{model.size_bytes / 1e6:,.0f} MB",
        "sha256": model.sha256,
        "licence": model.licence,
        "window": f"{model.n_ctx_train:,} tokens" if model.n_ctx_train else "unknown",
        "from": model.source,
    }
    lines = list((rows | _lineage_rows(model.lineage)).items())
    lines += [("figure", str(metric)) for metric in (model.lineage.metrics if model.lineage else ())]
    for title, text in lines:
        typer.echo(f"{title:<13} {text}")


def promote(
    name: Name,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Also where its figures are worse than its base's.")
    ] = False,
) -> None:
    """Let a model serve from now on.

    What runs takes it over without cutting an answer. A trained model whose figures are worse than its
    base's is refused. `rollback` goes back.
    """
    from .core.errors import ConfigError
    from .core.settings import load_settings
    from .models.catalog import promotion
    from .models.catalog.installed import installed_model

    settings = load_settings()
    try:
        change = promotion.promote(settings, name, anyway=anyway)
    except ValueError as exc:
        raise ConfigError(str(exc)) from exc
    _say(settings, change)
    _say_figures(installed_model(settings, name))


def rollback() -> None:
    """Let the model before serve again.

    Again for the one before that.
    """
    from .core.settings import load_settings
    from .models.catalog import promotion

    settings = load_settings()
    _say(settings, promotion.rollback(settings))


def _say(settings: Settings, change: Change) -> None:
    from .models.catalog.selection import AUTO, choose_here

    before, now = (name or "the automatic choice" for name in (change.before, change.now))
    typer.echo(f"{now} is in use; before, it was {before}." if now != before else f"{now} is in use already.")
    if settings.model.name != AUTO:
        typer.secho(choose_here(settings)[0].reason + " That wins.", fg="yellow", err=True)
        return
    typer.echo("What runs takes it over within seconds. To go back: localsmith models rollback")


def _say_figures(model: InstalledModel) -> None:
    if model.lineage is None:
        return
    for metric in model.lineage.metrics:
        typer.echo(f"  {metric}")
    if not model.lineage.metrics:
        typer.echo("  No figures were kept: it was not compared with its base.")


def _lineage_rows(lineage: Lineage | None) -> dict[str, str]:
    if lineage is None:
        return {}
    kind = f"a LoRA adapter beside it, scale {lineage.adapter_scale:g}" if lineage.adapter_file else "whole"
    return {
        "base": f"{lineage.base} ({kind})",
        "base sha256": lineage.base_sha256,
        "run": lineage.run_id,
        "data version": lineage.data_version,
        "method": lineage.method,
        "quantization": lineage.quantization,
        "trained": time.strftime("%Y-%m-%d %H:%M", time.localtime(lineage.created_at)),
    }
