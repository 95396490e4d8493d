"""SQL over the person's uploaded tables, as two tools: which tables there are, and a query.

Place in the data's way: the question's collection -> its CSV and XLSX files -> `tables.load_tables` -> rows
for the model. Only SELECT runs; a query is limited in time and rows.

Example:
    tools = sql_tools(library_tables(library))
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from ...core.errors import RetrievalError, ToolArgumentError, ToolExecutionError
from ...core.types import Document, Question
from .tables import Table, TableFile, Tables, load_tables
from .tool import FunctionTool, Observation, ToolContext

MAX_ROWS = 20
MAX_CELL_CHARS = 120
TableFiles = Callable[[Question], Sequence[TableFile]]
"""Tells which files with tables a question is asked over."""

_MEDIA_TYPES = {
    "text/csv": ".csv",
    "text/tab-separated-values": ".csv",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": ".xlsx",
}


class DocumentFiles(Protocol):
    """Where documents lie; `retrieval.library.Library` is one."""

    def documents(self, collection: str) -> list[Document]:
        """Return the documents of a collection."""
        ...

    def document_path(self, document_id: str) -> Path:
        """Return the file of a document as it was given."""
        ...


def library_tables(library: DocumentFiles) -> TableFiles:
    """Return what finds the tables among the documents that a question is asked over."""

    def find(question: Question) -> list[TableFile]:
        if question.collection is None:
            return []
        return [
            TableFile(_named(document), library.document_path(document.id))
            for document in library.documents(question.collection)
            if document.media_type in _MEDIA_TYPES
            and (not question.document_ids or document.id in question.document_ids)
        ]

    return find


def _named(document: Document) -> str:
    """Return the document's name with the ending of what it was recognised as."""
    ending = _MEDIA_TYPES[document.media_type]
    return document.name if document.name.lower().endswith(ending) else f"{document.name}{ending}"


def sql_tools(files: TableFiles) -> list[FunctionTool]:
    """Return the tools that list and query tables.

    Args:
        files: Tells which files a question is asked over.
    """
    shelf = _Shelf(files)

    def list_tables(arguments: Mapping[str, Any], context: ToolContext) -> Observation:
        tables = shelf.tables(context.question)
        return Observation("\n".join(map(_described, tables.tables)) or "There are no tables.")

    def query(arguments: Mapping[str, Any], context: ToolContext) -> Observation:
        tables = shelf.tables(context.question)
        if not tables.tables:
            raise ToolExecutionError("There are no tables.")
        try:
            result = tables.query(str(arguments["sql"]), MAX_ROWS, cancel=context.cancel)
        except ToolArgumentError as exc:
            known = "\n".join(map(_described, tables.tables[:6]))
            raise ToolArgumentError(f"{exc} The tables are:\n{known}") from exc
        lines = [" | ".join(result.columns), *(" | ".join(map(_shown, row)) for row in result.rows)]
        more = [f"(more than {MAX_ROWS} rows; the rest is left out)"] if result.is_cut else []
        return Observation("\n".join([*lines, *more, *([] if result.rows else ["(no rows)"])]))

    return [
        FunctionTool(
            name="list_tables",
            description="List the tables in the person's files, with columns. Call it before query_tables.",
            parameters={"type": "object", "properties": {}, "additionalProperties": False},
            function=list_tables,
            timeout_s=30.0,
        ),
        FunctionTool(
            name="query_tables",
            description="Run one SQL SELECT (SQLite) over the tables: sums, counts, averages, look-ups.",
            parameters={
                "type": "object",
                "properties": {"sql": {"type": "string", "minLength": 6, "maxLength": 500}},
                "required": ["sql"],
            },
            function=query,
            timeout_s=40.0,
        ),
    ]


class _Shelf:
    """Keeps the tables that were loaded last, for a run queries the same ones several times."""

    def __init__(self, files: TableFiles) -> None:
        self._files = files
        self._lock = threading.Lock()
        self._key: tuple[tuple[str, str, int, int], ...] | None = None
        self._loaded: Tables | None = None

    def tables(self, question: Question) -> Tables:
        """Return the tables of a question's files.

        Raises:
            ToolExecutionError: A file is gone, too large or damaged.
        """
        with self._lock:
            try:
                files = self._files(question)
                stats = [file.path.stat() for file in files]
            except (OSError, RetrievalError) as exc:
                raise ToolExecutionError(f"The tables can't be read: {exc}") from exc
            key = tuple(
                (file.name, str(file.path), stat.st_mtime_ns, stat.st_size)
                for file, stat in zip(files, stats, strict=True)
            )
            if self._loaded is None or key != self._key:
                # The old ones may be in use in another run; they are freed when it is done with them.
                self._loaded, self._key = load_tables(files), key
            return self._loaded


def _described(table: Table) -> str:
    columns = ", ".join(f"{name} {kind}" for name, kind in table.columns)
    return f"{table.name}({columns}): {table.num_rows} rows{', more were left out' if table.is_cut else ''}"


def _shown(cell: Any) -> str:
    if cell is None:
        return "NULL"
    text = f"{cell:.12g}" if isinstance(cell, float) else " ".join(str(cell).split())
    return text if len(text) <= MAX_CELL_CHARS else f"{text[: MAX_CELL_CHARS - 1]}…"
