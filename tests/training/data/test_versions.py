"""A data version is whole or not there, names its content, and is made in one call."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from localsmith.core.errors import DatasetError, StorageError
from localsmith.training.data import versions
from localsmith.training.data.filter_recipe import FilterRecipe
from localsmith.training.data.mix import MixRecipe
from localsmith.training.data.prepare import prepare
from localsmith.training.data.recipe import Recipe, recipe_from_json, recipe_to_json
from localsmith.training.data.sources import FileSource
from localsmith.training.data.versions import FOLDER, DataVersion, list_versions, load_version

DATA = Path(__file__).parents[2] / "data" / "training"
SOURCES = [FileSource(DATA / f"{name}.jsonl") for name in ("dialogsum", "gsm8k", "seed_tasks")]
RECIPE = Recipe(
    filters=FilterRecipe(languages=("en",), personal_data="redact", max_tokens=400),
    mix=MixRecipe(cap=6),
    held_out_share=0.3,
)


def num_words(text: str) -> int:
    return len(text.split())


def prepared(home: Path, recipe: Recipe = RECIPE) -> DataVersion:
    return prepare(SOURCES, recipe, home, count_tokens=num_words)


def files_below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_one_call_goes_the_whole_way(tmp_path: Path) -> None:
    told: list[tuple[int, int, str]] = []
    version = prepare(
        SOURCES,
        RECIPE,
        tmp_path,
        lambda *call: told.append(call),
        count_tokens=num_words,
    )
    report = version.report
    assert [stage.num_rows for stage in report.imports] == [16, 12, 4]
    assert [stage.name for stage in report.filters] == [
        "exact duplicates",
        "length",
        "language",
        "repetition",
        "personal data",
        "near-duplicates",
    ]
    left = report.filters[-1].num_before - report.filters[-1].num_dropped
    assert sum(share.num_before for share in report.mix) + report.num_held_out == left
    train, held_out = list(version.train_rows()), list(version.held_out_rows())
    assert (len(train), len(held_out)) == (report.num_train, report.num_held_out)
    assert dict(report.train_tasks)["question_answering"] == 6
    assert not {row.id for row in train} & {row.id for row in held_out}
    stages = list(dict.fromkeys(stage for _, _, stage in told))
    assert stages == ["import dialogsum.jsonl", "import gsm8k.jsonl", "import seed_tasks.jsonl"] + [
        *(stage.name for stage in report.filters),
        "split",
    ]
    assert all(0 <= done <= total for done, total, _ in told)


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    version = prepared(tmp_path)
    assert load_version(tmp_path, version.id) == version
    assert version.recipe == RECIPE
    assert [source["file"] for source in version.sources] == [source.path.name for source in SOURCES]
    assert list_versions(tmp_path) == [version]


def test_the_same_input_gives_the_same_id_and_is_not_written_twice(tmp_path: Path) -> None:
    first = prepared(tmp_path / "a")
    times = {path: path.stat().st_mtime_ns for path in first.folder.iterdir()}
    again = prepared(tmp_path / "a")
    assert again == first
    assert {path: path.stat().st_mtime_ns for path in first.folder.iterdir()} == times
    assert prepared(tmp_path / "b").id == first.id


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(filters=RECIPE.filters, mix=RECIPE.mix, held_out_share=0.3, seed=8),
        Recipe(filters=RECIPE.filters, mix=RECIPE.mix, held_out_share=0.31),
        Recipe(filters=RECIPE.filters, held_out_share=0.3),
        Recipe(filters=FilterRecipe(measured_by="other"), mix=RECIPE.mix, held_out_share=0.3),
    ],
)
def test_another_recipe_is_another_version(tmp_path: Path, recipe: Recipe) -> None:
    first, other = prepared(tmp_path), prepared(tmp_path, recipe)
    assert first.id != other.id
    assert {version.id for version in list_versions(tmp_path)} == {first.id, other.id}
    assert list_versions(tmp_path)[0] == other


def test_another_mixture_leaves_the_held_out_rows_as_they_are(tmp_path: Path) -> None:
    one = prepared(tmp_path)
    other = prepared(tmp_path, Recipe(RECIPE.filters, MixRecipe(num_rows=100), held_out_share=0.3))
    assert list(one.held_out_rows()) == list(other.held_out_rows())
    assert len(list(other.train_rows())) == 100


@pytest.mark.parametrize("name", ["train.jsonl", "held_out.jsonl", "recipe.json", "report.json"])
@pytest.mark.parametrize("damage", ["changed", "cut", "gone"])
def test_a_damaged_file_is_found_and_made_good_by_preparing_again(
    tmp_path: Path, name: str, damage: str
) -> None:
    version = prepared(tmp_path)
    path = version.folder / name
    whole = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        middle = len(whole) // 2
        path.write_bytes(whole[:middle] + (b"" if damage == "cut" else b"\x01" + whole[middle + 1 :]))
    with pytest.raises(DatasetError) as caught:
        load_version(tmp_path, version.id)
    assert str(version.folder) in str(caught.value)
    assert "Prepare the data again" in caught.value.hint
    assert prepared(tmp_path).id == version.id
    assert load_version(tmp_path, version.id).id == version.id


def test_rows_can_not_move_between_train_and_held_out(tmp_path: Path) -> None:
    version = prepared(tmp_path)
    train, held_out = version.folder / "train.jsonl", version.folder / "held_out.jsonl"
    first, _, rest = held_out.read_bytes().partition(b"\n")
    train.write_bytes(train.read_bytes() + first + b"\n")
    held_out.write_bytes(rest)
    with pytest.raises(DatasetError, match="damaged"):
        load_version(tmp_path, version.id)


@pytest.mark.parametrize("name", ["0" * 16, "../datasets", "", "zz"])
def test_an_unknown_version_is_told_with_those_there_are(tmp_path: Path, name: str) -> None:
    version = prepared(tmp_path)
    with pytest.raises(DatasetError, match="no data version") as caught:
        load_version(tmp_path, name)
    assert version.id in caught.value.hint
    assert list_versions(tmp_path / "nowhere") == []


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        prepared(tmp_path)
    assert files_below(tmp_path / FOLDER) in ([], [".lock"])


def test_a_stopped_preparation_leaves_nothing_behind(tmp_path: Path) -> None:
    class Stopped(Exception):
        pass

    def stop(done: int, total: int, stage: str) -> None:
        if stage == "split":
            raise Stopped

    with pytest.raises(Stopped):
        prepare(SOURCES, Recipe(), tmp_path, stop)
    assert list_versions(tmp_path) == []
    assert not (tmp_path / FOLDER).exists()


CHILD = """
import os, signal, sys
from pathlib import Path
from localsmith.training.data.prepare import prepare
from localsmith.training.data.recipe import Recipe
from localsmith.training.data.sources import FileSource

os.replace = lambda *paths: os.kill(os.getpid(), signal.SIGKILL)
prepare([FileSource(Path(sys.argv[1]))], Recipe(), Path(sys.argv[2]))
"""


def test_a_killed_preparation_leaves_no_half_version(tmp_path: Path) -> None:
    path = DATA / "gsm8k.jsonl"
    done = subprocess.run([sys.executable, "-c", CHILD, str(path), str(tmp_path)], check=False)
    assert done.returncode == -9
    assert list_versions(tmp_path) == []
    assert any(name.startswith(".partial-") for name in files_below(tmp_path / FOLDER))
    version = prepare([FileSource(path)], Recipe(), tmp_path)
    assert load_version(tmp_path, version.id) == version
    assert not any(name.startswith(".partial-") for name in files_below(tmp_path / FOLDER))


def test_a_filter_that_leaves_nothing_says_which_rule_it_was(tmp_path: Path) -> None:
    recipe = Recipe(filters=FilterRecipe(languages=("de",)))
    with pytest.raises(DatasetError, match="language dropped 12 of 12 \\(language en\\)") as caught:
        prepare([FileSource(DATA / "gsm8k.jsonl")], recipe, tmp_path)
    assert caught.value.hint


def test_all_held_out_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "one.jsonl"
    path.write_text('{"prompt": "a", "completion": "b"}\n')
    seeds = range(50)
    errors = 0
    for seed in seeds:
        try:
            prepare([FileSource(path)], Recipe(held_out_share=0.5, seed=seed), tmp_path)
        except DatasetError as exc:
            errors += "would be held out" in str(exc)
    assert 0 < errors < len(seeds)


def test_no_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="sources"):
        prepare([], Recipe(), tmp_path)


def test_a_recipe_comes_back_from_json_and_defaults_need_not_be_named() -> None:
    assert recipe_from_json(json.loads(json.dumps(recipe_to_json(RECIPE)))) == RECIPE
    assert recipe_from_json({}) == Recipe()
    assert recipe_from_json({"mix": {"cap": 3}}).mix == MixRecipe(cap=3)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({"sed": 1}, "sed"),
        ({"filters": {"langages": ["en"]}}, "langages"),
        ({"held_out_share": 2}, "held_out_share"),
        ({"filters": {"personal_data": "eat"}}, "personal_data"),
        ({"mix": {"cap": 0}}, "cap"),
        ([], "recipe"),
    ],
)
def test_a_recipe_that_can_not_be_followed_is_an_error(raw: object, words: str) -> None:
    with pytest.raises(DatasetError, match=words):
        recipe_from_json(raw)


def test_the_id_does_not_depend_on_the_process() -> None:
    """String hashes differ between processes; the split and the ids must not lean on them."""
    code = (
        "import tempfile; from pathlib import Path\n"
        "from localsmith.training.data.prepare import prepare\n"
        "from localsmith.training.data.recipe import Recipe\n"
        "from localsmith.training.data.sources import FileSource\n"
        f"source = FileSource(Path({str(DATA / 'dialogsum.jsonl')!r}))\n"
        "import sys; sys.stdout.write(prepare([source], Recipe(), Path(tempfile.mkdtemp())).id)"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1
    assert len(found.pop()) == versions.HASH_CHARS


def test_importing_loads_nothing_heavy() -> None:
    code = (
        "import sys; import localsmith.training.data.prepare\n"
        "heavy = {'torch', 'transformers', 'datasketch', 'py3langid', 'datasets', 'scipy', 'numpy'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
