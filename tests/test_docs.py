"""The documents say what is so: snippets run, links lead somewhere, the reference pages are complete."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "tests" / "data" / "README.md"])
README = ROOT / "README.md"
SNIPPET_TIMEOUT_S = 280


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(
        rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```|`[^`\n]*`", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """Return the anchors that a page's headings make on GitHub."""
    found = set()
    for heading in re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE):
        found.add(re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-"))
    return found


def dead_links(page: Path) -> list[str]:
    dead = []
    for target in re.findall(r"\]\(<?([^)>\s]+)>?\)", without_code(page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            dead.append(f"{page.relative_to(page.anchor)}: {target}")
    return dead


@pytest.fixture(scope="module")
def reference() -> Any:
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        return importlib.import_module("reference")
    finally:
        sys.path.remove(str(ROOT / "scripts"))


@pytest.fixture(scope="module")
def app() -> Any:
    import typer.main

    from localsmith.cli import app

    return typer.main.get_command(app)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page: Path) -> None:
    assert dead_links(page) == []


def test_a_dead_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One\n[a](page.md#one) [b](page.md#two) [c](gone.md) `[d](code.md)` [e](http://x.y/)\n")
    assert [link.rpartition(" ")[2] for link in dead_links(page)] == ["page.md#two", "gone.md"]


def test_every_page_can_be_reached_from_the_readme() -> None:
    seen, todo = set(), [README]
    while todo:
        page = todo.pop()
        if page in seen or not page.exists():
            continue
        seen.add(page)
        for target in re.findall(r"\]\(([^)#\s]+\.md|[^)#\s:]+/)", page.read_text(encoding="utf-8")):
            path = (page.parent / target).resolve()
            todo += path.glob("*.md") if path.is_dir() else [path]
    assert [str(page.relative_to(ROOT)) for page in PAGES if "docs" in page.parts and page not in seen] == []


def test_the_settings_page_is_complete(reference: Any) -> None:
    written = (ROOT / "docs" / "reference" / "settings.md").read_text(encoding="utf-8")
    assert written == reference.settings_page(), "run `make reference`"


def test_the_command_page_is_complete(reference: Any) -> None:
    written = (ROOT / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
    assert written == reference.cli_page(), "run `make reference`"


def test_every_setting_and_command_says_what_it_is(reference: Any) -> None:
    from localsmith.core.settings import Settings

    for section in Settings.model_fields.values():
        for name, field in getattr(section.annotation, "model_fields", {}).items():
            assert field.description, f"{name} has no description"
    empty = re.findall(r"^\| (`[^|]+`) \|\s*\|$", reference.cli_page(), re.MULTILINE)
    assert empty == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_in_the_pages_exist(page: Path, app: Any) -> None:
    rules = re.findall(r"^([a-z -]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    targets = {name for rule in rules for name in rule.split()}
    for line in "".join([*blocks(page, "bash"), *blocks(page, "sh")]).splitlines():
        words = [word for word in shlex.split(line, comments=True) if not re.match(r"[A-Z_]+=", word)]
        if words[:1] == ["make"]:
            assert words[1] in targets, f"{page}: {line}"
        if words[:1] == ["localsmith"]:
            check_command(app, words[1:], f"{page}: {line}")


def check_command(command: Any, words: list[str], where: str) -> None:
    """Parse the words as click would, without running anything."""
    while getattr(command, "commands", None) and words and not words[0].startswith("-"):
        assert words[0] in command.commands, where
        command, words = command.commands[words[0]], words[1:]
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    used = {word.partition("=")[0] for word in words if word.startswith("--")}
    assert used <= known | {"--help"}, where


@pytest.mark.real_model
@pytest.mark.parametrize("number", range(len(blocks(README, "python"))))
def test_the_python_of_the_readme_runs(
    number: int, tmp_path: Path, models_home: Path, small_model_path: Path, embedder_path: Path
) -> None:
    """With the small model: that the lines run is tested here, that answers are right is tested elsewhere."""
    shutil.copy(ROOT / "tests" / "data" / "documents" / "tracemonkey.pdf", tmp_path)
    home = tmp_path / "home"
    home.mkdir()
    (home / "models").symlink_to(models_home / "models")
    environment = {
        "LOCALSMITH_HOME": str(home),
        "LOCALSMITH_MODEL__NAME": "smollm2-135m",
        "LOCALSMITH_ANSWER__MAX_TOKENS": "8",
        "LOCALSMITH_ANSWER__SECONDS_TO_FIRST_TOKEN": "2",
    }
    done = subprocess.run(
        [sys.executable, "-c", blocks(README, "python")[number]],
        cwd=tmp_path,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=SNIPPET_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip(), "the snippet printed nothing"
