"""Writes docs/reference/settings.md and docs/reference/cli.md from the code, so that they can't go stale.

Place in the data's way: `make reference` after a setting or a command changes; a test compares the pages with
the code. Runs in the project's environment.

Example: `.venv/bin/python scripts/reference.py`
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

REFERENCE = Path(__file__).resolve().parent.parent / "docs" / "reference"
_MADE = "<!-- Made by `make reference`; edit the code instead. -->"


def settings_page() -> str:
    """Return the page of all settings with default, range and environment variable."""
    from localsmith.core.settings import Settings
    from pydantic import BaseModel

    parts = [
        f"# Settings\n\n{_MADE}\n",
        "One file, `localsmith.toml`, is read from the working directory, else from the data folder. What a\n"
        "program passes wins over the environment, that over the file, and that over the defaults.\n"
        "An unknown key stops the start and names the nearest one.\n",
        "```toml\n# localsmith.toml\n[answer]\nseconds_to_first_token = 30\n```\n",
        '```bash\nLOCALSMITH_ANSWER__SECONDS_TO_FIRST_TOKEN=30 localsmith ask "What is a trace tree?"\n```\n',
    ]
    top: list[str] = []
    for name, field in Settings.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            parts.append(_section(name, section))
        else:
            top.append(_row(name, field, f"LOCALSMITH_{name.upper()}"))
    parts.insert(4, _table("Top level", "Keys outside of any section.", top))
    return "\n".join(parts)


def _section(name: str, section: type[BaseModel]) -> str:
    rows = [
        _row(key, field, f"LOCALSMITH_{name.upper()}__{key.upper()}")
        for key, field in section.model_fields.items()
    ]
    return _table(f"[{name}]", inspect.getdoc(section) or "", rows)


def _table(title: str, text: str, rows: list[str]) -> str:
    head = "| Key | Default | Range | Meaning | Environment |\n|---|---|---|---|---|\n"
    return f"## {title}\n\n{text}\n\n{head}" + "".join(rows)


def _row(name: str, field: FieldInfo, variable: str) -> str:
    default = "the user's data folder" if field.default_factory else f"`{field.default!r}`".replace("'", '"')
    words = (field.description or "").replace("|", "\\|")
    return f"| `{name}` | {default} | {_range(field)} | {words} | `{variable}` |\n"


def _range(field: FieldInfo) -> str:
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    bounds = [
        f"{sign} {getattr(rule, key):,}"
        for rule in field.metadata
        for key, sign in signs.items()
        if getattr(rule, key, None) is not None
    ]
    choices = [
        f"`{choice}`" for choice in getattr(field.annotation, "__args__", ()) if isinstance(choice, str)
    ]
    return ", ".join(bounds or choices)


def cli_page() -> str:
    """Return the page of all commands with arguments and options."""
    import typer.main

    from localsmith.cli import app

    parts = [f"# Command line\n\n{_MADE}\n", "`localsmith COMMAND --help` says the same in the terminal.\n"]
    parts += [
        _command(path, command) for path, command in _commands(typer.main.get_command(app), "localsmith")
    ]
    return "\n".join(parts)


def _commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    subcommands = getattr(command, "commands", None)
    if subcommands is None or command.invoke_without_command:
        yield path, command
    for name, subcommand in sorted((subcommands or {}).items()):
        if not subcommand.hidden:
            yield from _commands(subcommand, f"{path} {name}")


def _command(path: str, command: Any) -> str:
    shown = [parameter for parameter in command.params if not getattr(parameter, "hidden", False)]
    arguments = [parameter for parameter in shown if parameter.param_type_name == "argument"]
    options = [parameter for parameter in shown if parameter.param_type_name == "option"]
    usage = " ".join(
        [path, *(_usage(argument) for argument in arguments), *(["[OPTIONS]"] if options else [])]
    )
    text = inspect.cleandoc(command.help or "").replace("\b", "").replace("\f", "").strip()
    rows = [f"| {_names(parameter)} | {_meaning(parameter)} |" for parameter in [*arguments, *options]]
    table = "\n".join(["| | |", "|---|---|", *rows]) + "\n" if rows else ""
    return f"## {path}\n\n```text\n{usage}\n```\n\n{text}\n\n{table}".rstrip() + "\n"


def _usage(argument: Any) -> str:
    name = f"{argument.name.upper()}{'...' if argument.nargs == -1 else ''}"
    return name if argument.required else f"[{name}]"


def _names(parameter: Any) -> str:
    names = [*parameter.opts, *parameter.secondary_opts]
    if parameter.param_type_name == "argument":
        names = [parameter.name.upper()]
    return ", ".join(f"`{name}`" for name in names)


def _meaning(parameter: Any) -> str:
    text = " ".join((getattr(parameter, "help", None) or "").split()).replace("|", "\\|")
    default = parameter.default
    is_told = default not in (None, "", (), [], False) and isinstance(default, str | int | float)
    return f"{text} Default: `{default}`." if is_told and not isinstance(default, bool) else text


def main() -> int:
    """Write both pages."""
    REFERENCE.mkdir(parents=True, exist_ok=True)
    (REFERENCE / "settings.md").write_text(settings_page(), encoding="utf-8")
    (REFERENCE / "cli.md").write_text(cli_page(), encoding="utf-8")
    sys.stdout.write(f"Wrote {REFERENCE}/settings.md and cli.md\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
