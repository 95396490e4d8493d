"""`localsmith traces`: list the runs, show one, export them, forget them."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from .core.traces import Trace, TraceStore

PAGE_SIZE = 25
SECONDS_PER_DAY = 86_400.0

app = typer.Typer(help="Every run, step by step: list, show, export, forget.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(help="Identifier of the run, as listed; its beginning suffices.")]
Text = Annotated[str, typer.Option("--text", help="Words that question, answer or error contain.")]
Strategy = Annotated[str, typer.Option(help="Only runs of this strategy.")]
Days = Annotated[float | None, typer.Option(help="Only runs of the last so many days.")]


@app.command("list")
def list_traces(
    text: Text = "",
    strategy: Strategy = "",
    days: Days = None,
    page: Annotated[int, typer.Option(min=1, help="Page of the list.")] = 1,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object a run.")] = False,
) -> None:
    """List the runs, newest first."""
    from .terminal import console

    with _store() as store:
        found = store.list(
            text=text, strategy=strategy, since=_since(days), limit=PAGE_SIZE, offset=(page - 1) * PAGE_SIZE
        )
    if json:
        from dataclasses import asdict
        from json import dumps

        for info in found.traces:
            sys.stdout.write(dumps(asdict(info)) + "\n")
        return
    for info in found.traces:
        tokens = f"{info.prompt_tokens}+{info.completion_tokens}"
        _write(
            f"{info.id[:12]}  {_when(info.begun_at)}  {info.strategy:<10} {info.status:<11} "
            f"{info.duration_s:7.1f} s {tokens:>12}  {_line(info.question)}"
        )
    console.print(f"{found.total} runs, page {page} of {max(1, -(-found.total // PAGE_SIZE))}", markup=False)


@app.command()
def show(
    trace_id: Id,
    texts: Annotated[bool, typer.Option("--texts", help="Print prompts and outputs, too.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Show one run: its steps as a tree, with times and tokens."""
    with _store() as store:
        trace = _found(store, trace_id)
    if json:
        from dataclasses import asdict
        from json import dumps

        sys.stdout.write(dumps(asdict(trace), indent=2) + "\n")
        return
    _print_trace(trace, texts)


@app.command()
def export(
    trace_ids: Annotated[
        list[str] | None, typer.Argument(help="Identifiers of runs; none for all that fit.")
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(help="OpenTelemetry collector, as http://127.0.0.1:4318; else traces.otlp_endpoint."),
    ] = None,
    json: Annotated[
        Path | None, typer.Option("--json", help="Write OTLP JSON to this file instead, a line a run.")
    ] = None,
    texts: Annotated[bool, typer.Option("--texts", help="Questions, prompts and answers, too.")] = False,
    text: Text = "",
    strategy: Strategy = "",
    days: Days = None,
) -> None:
    """Send runs to an OpenTelemetry collector, or to a file.

    The file is in the form that a collector reads.
    """
    from .core.errors import ConfigError
    from .core.settings import load_settings
    from .terminal import console

    endpoint = to or load_settings().traces.otlp_endpoint
    if json is None and not endpoint:
        raise ConfigError(
            "Nothing says where the runs go.", hint="Give --to http://HOST:4318 or --json FILE."
        )
    with _store() as store:
        if trace_ids:
            traces = iter([_found(store, trace_id) for trace_id in trace_ids])
        else:
            traces = _fitting(store, text, strategy, _since(days))
        if json is not None:
            num, where = _write_file(traces, json, texts), str(json)
        else:
            from .core.telemetry import TraceExporter

            exporter = TraceExporter(endpoint, with_texts=texts)
            num, where = exporter.export(traces), exporter.url
    console.print(f"{num} runs to {where}", markup=False)


@app.command()
def forget(
    trace_ids: Annotated[list[str] | None, typer.Argument(help="Identifiers of runs.")] = None,
    older_than: Annotated[float | None, typer.Option(help="All runs older than so many days.")] = None,
    all_runs: Annotated[bool, typer.Option("--all", help="Every run.")] = False,
) -> None:
    """Remove runs for good, from the disk as well."""
    from .terminal import console

    if sum((bool(trace_ids), older_than is not None, all_runs)) != 1:
        raise typer.BadParameter("give identifiers, or --older-than DAYS, or --all")
    with _store() as store:
        if trace_ids:
            num = store.forget([_found(store, trace_id).info.id for trace_id in trace_ids])
        else:
            num = store.forget_before(_since(older_than))
    console.print(f"Forgot {num} {'run' if num == 1 else 'runs'}.", markup=False)


@contextmanager
def _store() -> Iterator[TraceStore]:
    """Open the trace store of the settings, and close it."""
    from .core.settings import load_settings
    from .core.traces import TraceStore

    settings = load_settings()
    with closing(TraceStore(settings.traces_path, settings.traces)) as store:
        yield store


def _since(days: float | None) -> float | None:
    return None if days is None else time.time() - days * SECONDS_PER_DAY


def _found(store: TraceStore, start: str) -> Trace:
    from .core.errors import IndexNotFoundError

    matching = store.ids(start)
    trace = store.get(matching[0]) if len(matching) == 1 else None
    if trace is None:
        raise IndexNotFoundError(
            f"{len(matching)} runs have an identifier that begins with {start!r}.",
            hint="`localsmith traces list` shows the identifiers.",
        )
    return trace


def _fitting(store: TraceStore, text: str, strategy: str, since: float | None) -> Iterator[Trace]:
    """Yield the runs that fit, oldest first, one in memory at a time."""
    until = time.time()
    infos = store.list(text=text, strategy=strategy, since=since, until=until, limit=-1).traces
    for info in reversed(infos):
        if (trace := store.get(info.id)) is not None:
            yield trace


def _write_file(traces: Iterator[Trace], path: Path, with_texts: bool) -> int:
    from .core.errors import StorageError
    from .core.spans import otlp_json

    num = 0
    try:
        with path.open("w", encoding="utf-8") as file:
            for trace in traces:
                file.write(otlp_json(trace, with_texts=with_texts) + "\n")
                num += 1
    except OSError as exc:
        raise StorageError(f"{path} can't be written: {exc.strerror}.", hint="Name another file.") from exc
    return num


def _print_trace(trace: Trace, with_texts: bool) -> None:
    from .core.trace_rows import flat

    info, answer = trace.info, trace.answer
    _write(f"{info.id}  {_when(info.begun_at)}  {info.strategy}, {info.status}, {info.duration_s:.1f} s")
    _write(f"Question: {_line(info.question, 1000) or 'not kept'}")
    if info.error_type:
        _write(f"Error: {info.error_type}: {_line(info.error, 1000)}")
    for depth, step in flat(answer.steps):
        usage = step.usage
        tokens = (
            f", read {usage.prompt_tokens} ({usage.cached_tokens} cached), wrote {usage.completion_tokens}"
            if usage is not None
            else ""
        )
        failed = " FAILED" if step.is_error else ""
        indent = "  " * depth
        _write(
            f"{step.begun_s:8.2f} s {indent}{step.kind}{failed} {step.duration_s:.2f} s{tokens}: "
            f"{_line(step.summary, 120)}"
        )
        if with_texts:
            for mark, said in ((">", step.prompt), ("<", step.output)):
                for line in said.splitlines():
                    _write(f"           {indent}{mark} {_shown(line)}")
    if answer.budget is not None:
        report = answer.budget
        parts = ", ".join(f"{part.name} {part.used_tokens}" for part in report.parts)
        _write(f"Window: {report.prompt_tokens} of {report.n_ctx} tokens ({parts})")
    for number, passage in enumerate(answer.passages, 1):
        page = f", page {passage.chunk.page}" if passage.chunk.page else ""
        _write(f"[{number}] {_line(passage.document_name)}{page}")
    if answer.text:
        _write("Answer:")
        for line in answer.text.splitlines():
            _write(f"  {_shown(line)}")


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _line(text: str, max_chars: int = 80) -> str:
    words = _shown(" ".join(text.split()))
    return words if len(words) <= max_chars else words[: max_chars - 1] + "…"


def _shown(text: str) -> str:
    """Return text without what a terminal would obey: it comes from documents and the model."""
    return "".join(char if char.isprintable() else "\ufffd" for char in text.expandtabs(4))


def _write(line: str) -> None:
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(line.encode(encoding, "replace").decode(encoding) + "\n")
