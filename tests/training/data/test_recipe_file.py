"""A person's recipe as a file, and sources as they are named on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from localsmith.core.errors import DatasetError
from localsmith.training.data.recipe import recipe_from_json
from localsmith.training.data.recipe_file import NamedSource, parse_source, read_recipe_file

RECIPE = """
held_out_share = 0.2

[[sources]]
file = "dialogues.jsonl"
template = "summarization"
wording = "plain"

[[sources]]
file = "sub/labels.csv"
template = "mine.toml"
fields = { text = "claim" }
constants = { labels = ["yes", "no"] }

[[sources]]
file = "feedback"

[filters]
languages = ["en", "de"]
min_words = 5

[mix]
temperature = 2.0
caps = { summarization = 500 }
weights = { classification = 3 }
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_recipe_file_names_sources_from_its_folder_and_settings(tmp_path: Path) -> None:
    file = read_recipe_file(written(tmp_path, RECIPE))
    assert file.sources == (
        NamedSource(str(tmp_path / "dialogues.jsonl"), "summarization", wording="plain"),
        NamedSource(
            str(tmp_path / "sub/labels.csv"),
            str(tmp_path / "mine.toml"),
            fields={"text": "claim"},
            constants={"labels": ["yes", "no"]},
        ),
        NamedSource("feedback"),
    )
    recipe = recipe_from_json(file.recipe)
    assert recipe.filters.languages == ("en", "de") and recipe.filters.min_words == 5
    assert recipe.mix is not None and recipe.mix.weights == {"classification": 3.0}
    assert (recipe.held_out_share, recipe.seed) == (0.2, 7)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = ", "is not valid TOML"),
        ("[[sources]]\nfil = 'a.jsonl'", "0.fil: there is no such setting; did you mean file?"),
        ("[[sources]]\nfile = 3", "0.file: Input should be a valid string"),
    ],
)
def test_what_is_no_recipe_file_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DatasetError) as caught:
        read_recipe_file(written(tmp_path, text))
    assert said in str(caught.value)


def test_an_unknown_setting_has_the_nearest_named() -> None:
    with pytest.raises(
        DatasetError, match="filters.langages: there is no such setting; did you mean languages"
    ):
        recipe_from_json({"filters": {"langages": ["en"]}})


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="none.toml can't be read: No such file"):
        read_recipe_file(tmp_path / "none.toml")


def test_a_template_stands_behind_a_colon_unless_a_file_is_named_so(tmp_path: Path) -> None:
    assert parse_source("a.jsonl") == NamedSource("a.jsonl")
    assert parse_source("a.jsonl:summarization") == NamedSource("a.jsonl", "summarization")
    assert parse_source("feedback") == NamedSource("feedback")
    odd = tmp_path / "a:b.jsonl"
    odd.write_text("")
    assert parse_source(str(odd)) == NamedSource(str(odd))


def test_a_sources_own_template_and_wording_win_over_the_commands() -> None:
    source = NamedSource("a.jsonl", "summarization", wording="all").opened("classification", "one")
    assert source.template is not None and source.template.task == "summarization"
    assert source.wording == "all"
    other = NamedSource("a.jsonl").opened("classification", "plain")
    assert other.template is not None and other.template.task == "classification"
    assert other.wording == "plain"
    with pytest.raises(DatasetError, match="There is no template summaries"):
        NamedSource("a.jsonl", "summaries").opened()
