"""Uploaded CSV and XLSX files as tables of an in-memory database that can only be read.

Place in the data's way: a collection's table files -> `load_tables` -> `sql.py`, which runs the model's
queries. The files themselves are never opened by SQLite, and the database never touches the disk.

Example:
    with closing(load_tables([TableFile("sales.csv", path)])) as tables:
        print(tables.query("SELECT region, sum(sales) FROM sales GROUP BY region", max_rows=20))
"""

from __future__ import annotations

import csv
import re
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...core.errors import LoadError, ToolArgumentError, ToolExecutionError
from ...retrieval.loaders.encoding import decode
from .workbook import MAX_COLUMNS, Cell, Sheet, read_workbook

MAX_ROWS = 200_000
MAX_TABLES = 24
MAX_FILE_BYTES = 50_000_000
MAX_CELL_CHARS = 20_000
STATEMENT_S = 5.0
_PROGRESS_STEPS = 2000
_INTEGER = re.compile(r"[+-]?\d{1,15}")
_REAL = re.compile(r"[+-]?(\d+\.\d*|\.?\d+)([eE][+-]?\d{1,3})?")
_CODE = re.compile(r"0\d")  # 0049 is a code, no number
_NAME = re.compile(r"[^\w]+", re.ASCII)

_ALLOWED = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE}
_REFUSED_FUNCTIONS = {"load_extension", "readfile", "writefile", "edit", "fts3_tokenizer"}
# What one query may ask of SQLite; the names are those of sqlite3_limit.
_LIMITS = (
    (sqlite3.SQLITE_LIMIT_LENGTH, 1_000_000),
    (sqlite3.SQLITE_LIMIT_SQL_LENGTH, 4_000),
    (sqlite3.SQLITE_LIMIT_COLUMN, 2_000),
    (sqlite3.SQLITE_LIMIT_EXPR_DEPTH, 100),
    (sqlite3.SQLITE_LIMIT_COMPOUND_SELECT, 30),
    (sqlite3.SQLITE_LIMIT_ATTACHED, 0),
    (sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 200),
    (sqlite3.SQLITE_LIMIT_WORKER_THREADS, 0),
)


@dataclass(frozen=True, slots=True)
class TableFile:
    """A file with tables.

    Attributes:
        name: File name for people; the tables are named after it.
        path: Where it lies.
    """

    name: str
    path: Path


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the database.

    Attributes:
        name: Its name in SQL.
        columns: (name, type) pairs in SQL.
        num_rows: Its rows.
        source: The file, and the sheet where it has several.
        is_cut: Whether the file has more rows than were read.
    """

    name: str
    columns: tuple[tuple[str, str], ...]
    num_rows: int
    source: str
    is_cut: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """What a query gave.

    Attributes:
        columns: Names of the columns.
        rows: Its rows, at most as many as were asked for.
        is_cut: Whether there are more.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    is_cut: bool


class Tables:
    """A database of tables, read-only from the start; any thread may query it, one at a time."""

    def __init__(self, connection: sqlite3.Connection, tables: tuple[Table, ...]) -> None:
        """Take over a filled database and close it to everything but SELECT."""
        self.tables = tables
        self._connection = connection
        self._lock = threading.Lock()
        connection.execute("PRAGMA query_only=ON")
        for limit, most in _LIMITS:
            connection.setlimit(limit, most)
        connection.set_authorizer(_authorize)

    def query(
        self,
        sql: str,
        max_rows: int,
        *,
        cancel: threading.Event | None = None,
        timeout_s: float = STATEMENT_S,
    ) -> Result:
        """Run one SELECT.

        Args:
            sql: The statement.
            max_rows: Rows returned at most.
            cancel: Setting it ends the statement.
            timeout_s: A statement that takes longer is ended, in seconds.

        Raises:
            ToolArgumentError: It is no valid SELECT over these tables.
            ToolExecutionError: It took too long, or was cancelled.
        """
        with self._lock:
            ends = time.monotonic() + timeout_s
            self._connection.set_progress_handler(
                lambda: time.monotonic() > ends or (cancel is not None and cancel.is_set()), _PROGRESS_STEPS
            )
            cursor = self._connection.cursor()
            try:
                cursor.execute(sql)
                if cursor.description is None:
                    raise ToolArgumentError("The query is empty: write a SELECT.")
                rows = cursor.fetchmany(max_rows + 1)
                columns = tuple(column[0] for column in cursor.description)
            except sqlite3.OperationalError as exc:
                if "interrupted" in str(exc):
                    raise ToolExecutionError(f"The query took longer than {timeout_s:g} s.") from exc
                raise ToolArgumentError(f"The query is not valid: {exc}.") from exc
            except (sqlite3.Error, sqlite3.Warning) as exc:
                words = "only a SELECT is allowed" if "not authorized" in str(exc) else str(exc)
                raise ToolArgumentError(f"The query is not valid: {words}.") from exc
            finally:
                cursor.close()
                self._connection.set_progress_handler(None, 0)
        return Result(columns, tuple(map(tuple, rows[:max_rows])), len(rows) > max_rows)

    def close(self) -> None:
        """Free the database."""
        with self._lock:
            self._connection.close()


def load_tables(files: Sequence[TableFile]) -> Tables:
    """Load files into a new database.

    Args:
        files: CSV, TSV and XLSX files; the first row of each table names its columns.

    Raises:
        ToolExecutionError: A file is too large, or can't be read.
    """
    connection = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
    try:
        tables: list[Table] = []
        for source, sheet in _sheets(files):
            if len(tables) == MAX_TABLES:
                break
            if len(sheet.rows) > 1:
                tables.append(_create(connection, source, sheet, {table.name for table in tables}))
        return Tables(connection, tuple(tables))
    except LoadError as exc:
        connection.close()
        raise ToolExecutionError(str(exc), hint=exc.hint) from exc
    except BaseException:
        connection.close()
        raise


def _authorize(action: int, one: str | None, two: str | None, *_: str | None) -> int:
    """Allow what a SELECT does, and nothing else."""
    if action == sqlite3.SQLITE_FUNCTION:
        return sqlite3.SQLITE_DENY if (two or "").lower() in _REFUSED_FUNCTIONS else sqlite3.SQLITE_OK
    return sqlite3.SQLITE_OK if action in _ALLOWED else sqlite3.SQLITE_DENY


def _sheets(files: Sequence[TableFile]) -> Iterator[tuple[str, Sheet]]:
    for file in files:
        stem = file.name.rpartition(".")[0] or file.name
        if file.path.stat().st_size > MAX_FILE_BYTES:
            raise ToolExecutionError(f"{file.name} is larger than {MAX_FILE_BYTES // 10**6} MB.")
        if file.name.lower().endswith(".xlsx"):
            sheets = read_workbook(file.path, file.name, MAX_ROWS + 1)
            for sheet in sheets:
                yield (stem if len(sheets) == 1 else f"{stem} {sheet.name}"), sheet
        else:
            yield stem, _read_csv(file)


def _read_csv(file: TableFile) -> Sheet:
    text = decode(file.path.read_bytes(), file.name).text
    try:
        dialect: type[csv.Dialect] | csv.Dialect = csv.Sniffer().sniff(text[:20_000], delimiters=",;\t|")
    except csv.Error:
        dialect = csv.excel
    rows: list[tuple[Cell, ...]] = []
    try:
        lines = text.splitlines(keepends=True)
        for row in csv.reader(lines, delimiter=dialect.delimiter, skipinitialspace=True):
            if len(rows) > MAX_ROWS:
                return Sheet(file.name, tuple(rows), is_cut=True)
            if any(cell.strip() for cell in row):
                rows.append(tuple(row[:MAX_COLUMNS]))
    except csv.Error as exc:
        raise LoadError(f"{file.name} is no table: {exc}.", "corrupt") from exc
    return Sheet(file.name, tuple(rows))


def _create(connection: sqlite3.Connection, source: str, sheet: Sheet, taken: set[str]) -> Table:
    width = max(len(row) for row in sheet.rows)
    header = [*sheet.rows[0], *[None] * (width - len(sheet.rows[0]))]
    names: list[str] = []
    for place, title in enumerate(header, start=1):
        names.append(_identifier(str(title or f"column_{place}"), set(names)))
    rows = [tuple(map(_typed, (*row, *[None] * (width - len(row))))) for row in sheet.rows[1 : MAX_ROWS + 1]]
    columns = tuple((name, _type_of([row[i] for row in rows])) for i, name in enumerate(names))
    table = _identifier(source, taken)
    listed = ", ".join(f'"{name}" {kind}' for name, kind in columns)
    connection.execute(f'CREATE TABLE "{table}" ({listed})')
    connection.execute("BEGIN")
    connection.executemany(f'INSERT INTO "{table}" VALUES ({", ".join("?" * width)})', rows)
    connection.execute("COMMIT")
    is_cut = sheet.is_cut or len(sheet.rows) > MAX_ROWS + 1
    return Table(table, columns, len(rows), source, is_cut)


def _identifier(text: str, taken: set[str]) -> str:
    """Return a name that needs no quotes in SQL, unlike those taken; all others are made harmless."""
    name = _NAME.sub("_", text).strip("_").lower()[:60] or "table"
    name = f"t_{name}" if name[0].isdigit() or name in _KEYWORDS or name.startswith("sqlite") else name
    unique, count = name, 1
    while unique in taken:
        count += 1
        unique = f"{name}_{count}"
    return unique


_KEYWORDS = frozenset(
    "table select from where group order by limit join on as and or not in is null case when then else end "
    "index values set update delete insert into create drop union all distinct having between like".split()
)


def _typed(cell: Cell) -> Cell:
    """Return a text that is a number as one; an empty text as NULL."""
    if not isinstance(cell, str):
        return cell
    text = cell.strip()
    if not text:
        return None
    if _CODE.match(text):
        return text[:MAX_CELL_CHARS]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _REAL.fullmatch(text) else text[:MAX_CELL_CHARS]


def _type_of(cells: Sequence[Cell]) -> str:
    kinds = {type(cell) for cell in cells if cell is not None}
    return "INTEGER" if kinds == {int} else "REAL" if kinds and kinds <= {int, float} else "TEXT"
