"""What training data become before anything is trained: the options that say so, and `localsmith train data`.

Place in the data's way: words in -> sources and a recipe -> `training.data.prepare` -> a data version, whose
report is shown. `train sft` takes the same options and trains on the version that they give.

Example: `localsmith train data --data dialogues.jsonl --language en --personal-data redact`
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from .core.settings import Settings
    from .training.data.recipe import Recipe
    from .training.data.recipe_file import NamedSource
    from .training.data.sources import Source
    from .training.data.versions import DataVersion

Data = Annotated[
    list[str] | None,
    typer.Option(
        help="JSON Lines or CSV file of examples, FILE:TEMPLATE for a template of its own, or feedback for "
        "the chat's; repeat."
    ),
]
RecipePath = Annotated[
    Path | None,
    typer.Option("--recipe", help="TOML file of sources, filters and mixture; other options go before it."),
]
Template = Annotated[
    str | None, typer.Option("--task", help="Template that turns the files' fields into prompts.")
]
Wording = Annotated[str, typer.Option(help="One wording a row, all of them, or one by its name.")]
Languages = Annotated[
    list[str] | None, typer.Option("--language", help="Keep rows in this language, as en; repeat.")
]
MinWords = Annotated[int | None, typer.Option(min=0, help="Least words of a row.")]
MaxWords = Annotated[int | None, typer.Option(min=1, help="Most words of a row.")]
MinTokens = Annotated[int | None, typer.Option(min=0, help="Least tokens of a row, by the base.")]
PersonalData = Annotated[
    str | None, typer.Option(help="keep, redact or drop e-mail, phone, card and account numbers.")
]
DropToxic = Annotated[
    bool, typer.Option("--drop-toxic", help="Drop rows with English insults, slurs, obscenities or threats.")
]
NearDuplicates = Annotated[
    float | None,
    typer.Option(
        help="Drop rows that share so many of their 5-grams, 0.7 to 1; 0 keeps them.  [default: 0.8]"
    ),
]
Strangest = Annotated[
    float | None, typer.Option("--drop-strangest", help="Share of the rows with the highest perplexity.")
]
Plainest = Annotated[
    float | None, typer.Option("--drop-plainest", help="Share of the rows with the lowest perplexity.")
]
Caps = Annotated[
    list[str] | None,
    typer.Option("--cap", help="Most rows of a task, as summarization=500, or 500 for each; repeat."),
]
Weights = Annotated[
    list[str] | None,
    typer.Option("--weight", help="How often a task's rows count, as summarization=2; repeat."),
]
HeldOut = Annotated[
    float | None, typer.Option(min=0.0, max=0.9, help="Share of the rows held out.  [default: 0.1]")
]


@dataclass(frozen=True, slots=True)
class DataOptions:
    """The options that say which data and what is done to them; None where a person gave none.

    Attributes:
        data: Files and feedback.
        recipe: The recipe's file.
        template: Template of files that name none.
        wording: Wording of files that name none.
        held_out: Share of the rows.
        seed: Of wordings, split and mixture.
        filters: Settings of `FilterRecipe`.
        caps: Most rows of tasks.
        weights: How often tasks' rows count.
    """

    data: list[str] | None
    recipe: Path | None
    template: str | None
    wording: str
    held_out: float | None
    seed: int | None
    filters: Mapping[str, Any]
    caps: list[str] | None = None
    weights: list[str] | None = None


def data(
    data: Data = None,
    recipe: RecipePath = None,
    base: Annotated[
        str | None,
        typer.Option(help="Model that counts tokens and measures perplexity, where they are used."),
    ] = None,
    template: Template = None,
    wording: Wording = "one",
    languages: Languages = None,
    min_words: MinWords = None,
    max_words: MaxWords = None,
    min_tokens: MinTokens = None,
    personal_data: PersonalData = None,
    drop_toxic: DropToxic = False,
    near_duplicates: NearDuplicates = None,
    drop_strangest: Strangest = None,
    drop_plainest: Plainest = None,
    caps: Caps = None,
    weights: Weights = None,
    held_out: HeldOut = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of wordings, split and mixture.")] = None,
    samples: Annotated[int, typer.Option(min=0, help="Dropped rows to show of each stage.")] = 3,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Prepare data and show what was dropped.

    Nothing is trained. `train sft` with the same options trains on the same version.
    """
    from .core.logs import log_to_file
    from .core.settings import load_settings
    from .training_terminal import print_whole_report

    settings = load_settings()
    log_to_file(settings)
    filters = filter_options(
        languages=languages,
        min_words=min_words,
        max_words=max_words,
        min_tokens=min_tokens,
        personal_data=personal_data,
        drop_toxic=drop_toxic,
        near_duplicates=near_duplicates,
        drop_strangest=drop_strangest,
        drop_plainest=drop_plainest,
    )
    options = DataOptions(data, recipe, template, wording, held_out, seed, filters, caps, weights)
    version = prepare_data(settings, options, base)
    if json:
        import json as json_module

        from .training.data.recipe import recipe_to_json
        from .training.data.report import report_to_json

        content = {
            "id": version.id,
            "folder": str(version.folder),
            "recipe": recipe_to_json(version.recipe),
            "report": report_to_json(version.report),
        }
        typer.echo(json_module.dumps(content, indent=1, ensure_ascii=False))
        return
    print_whole_report(version, samples)


def filter_options(
    *,
    languages: list[str] | None,
    min_words: int | None,
    max_words: int | None,
    min_tokens: int | None,
    personal_data: str | None,
    drop_toxic: bool,
    near_duplicates: float | None,
    drop_strangest: float | None,
    drop_plainest: float | None,
) -> dict[str, Any]:
    """Return the settings of `FilterRecipe` that a person gave; what was not given is not in it."""
    given: dict[str, Any] = {
        "languages": languages or None,
        "min_words": min_words,
        "max_words": max_words,
        "min_tokens": min_tokens,
        "personal_data": personal_data,
        "toxicity": drop_toxic or None,
        "highest_perplexity_share": drop_strangest,
        "lowest_perplexity_share": drop_plainest,
    }
    filters = {name: value for name, value in given.items() if value is not None}
    if near_duplicates is not None:
        filters["near_duplicates"] = near_duplicates or None
    return filters


def prepare_data(settings: Settings, options: DataOptions, base: str | None) -> DataVersion:
    """Make a data version of what the options name, with the stages shown.

    Args:
        settings: Where data and models are kept.
        options: Sources and recipe.
        base: The model that measures rows; None where none is known.

    Raises:
        ConfigError: The options contradict each other or name nothing.
        DatasetError: A source or the recipe can't be used, or no row is left.
    """
    from .core.errors import ConfigError
    from .stage_progress import stages
    from .training.data.prepare import prepare

    named, recipe = _read(options, base)
    sources = [_source(settings, source, options) for source in named]
    measures = None
    if recipe.filters.needs_model:
        from .training.bases import find_base
        from .training.row_measures import RowMeasures

        if base is None:
            raise ConfigError(
                "Tokens and perplexity are a model's: which one is meant?", "Name it: --base smollm2-135m."
            )
        measures = RowMeasures(find_base(settings, base))
    try:
        with stages() as on_stage:
            return prepare(
                sources,
                recipe,
                settings.home,
                lambda done, total, stage: on_stage(stage, done, total, ""),
                count_tokens=measures.count_tokens if measures else None,
                perplexity=measures.perplexity if measures else None,
            )
    except ValueError as exc:
        raise ConfigError(f"The data can't be prepared so: {exc}.") from exc


def _read(options: DataOptions, base: str | None) -> tuple[list[NamedSource], Recipe]:
    """Return the sources, those of the recipe's file first, and the recipe, over which the options go."""
    from .core.errors import ConfigError
    from .training.data.recipe import recipe_from_json
    from .training.data.recipe_file import RecipeFile, parse_source, read_recipe_file

    file = read_recipe_file(options.recipe) if options.recipe else RecipeFile((), {})
    named = [*file.sources, *(parse_source(words) for words in options.data or ())]
    if not named:
        raise ConfigError(
            "There are no data.", "Give --data FILE, --data feedback, or a --recipe with sources."
        )
    raw = dict(file.recipe)
    raw |= {
        name: value
        for name, value in (("held_out_share", options.held_out), ("seed", options.seed))
        if value is not None
    }
    filters = raw.get("filters", {})
    if options.filters and isinstance(filters, Mapping):
        raw["filters"] = {**filters, **options.filters}
    mix = raw.get("mix") or {}
    if (options.caps or options.weights) and isinstance(mix, Mapping):
        raw["mix"] = {**mix, **_mix(options, mix)}
    recipe = recipe_from_json(raw)
    if recipe.filters.needs_model and base and not recipe.filters.measured_by:
        raw["filters"] = {**raw["filters"], "measured_by": base}
        recipe = recipe_from_json(raw)
    return named, recipe


def _mix(options: DataOptions, mix: Mapping[str, Any]) -> dict[str, Any]:
    """Return the mixture's settings that `--cap` and `--weight` give, beside those of the recipe's file."""
    given: dict[str, Any] = {}
    caps = dict(mix.get("caps", {}))
    for words in options.caps or ():
        task, equals, number = words.rpartition("=")
        if equals:
            caps[task] = _number("--cap", words, number)
        else:
            given["cap"] = _number("--cap", words, number)
    weights = dict(mix.get("weights", {}))
    for words in options.weights or ():
        task, _, number = words.rpartition("=")
        weights[task] = _number("--weight", words, number if task else "")
    return given | {name: value for name, value in (("caps", caps), ("weights", weights)) if value}


def _number(option: str, words: str, number: str) -> float:
    from .core.errors import ConfigError

    try:
        return float(number)
    except ValueError as exc:
        raise ConfigError(f"{option} {words} makes no sense.", f"Write {option} summarization=2.") from exc


def _source(settings: Settings, named: NamedSource, options: DataOptions) -> Source:
    from .core.conversations import ConversationStore
    from .training.data.recipe_file import FEEDBACK
    from .training.data.sources import FeedbackSource

    if named.file == FEEDBACK:
        return FeedbackSource(ConversationStore(settings.conversations_path).feedback.all())
    return named.opened(options.template or "", options.wording)
