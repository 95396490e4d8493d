"""`localsmith evaluate`: figures for answers whose gold answers are known.

Place in the data's way: `cli.py` mounts this group; `cli_evaluate_rag.py` measures answers from documents,
`cli_evaluate_strategies.py` every strategy on questions of any kind.

Example: `localsmith evaluate cot gsm8k.jsonl --limit 100 --json cot.json`
"""

from __future__ import annotations

import typer

from .cli_evaluate_rag import rag
from .cli_evaluate_strategies import COMMANDS

app = typer.Typer(help="Measure answers against questions with known answers.", no_args_is_help=True)
app.command()(rag)
for name, command in COMMANDS.items():
    app.command(name)(command)


@app.callback()
def _group() -> None:
    """Measure answers against questions with known answers."""
