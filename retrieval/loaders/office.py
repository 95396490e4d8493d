"""DOCX, XLSX, EPUB, ODT and RTF, by kreuzberg.

Place in the data's way: `load_document` calls `load_office`; the only file that knows kreuzberg, whose tree
of nodes becomes our blocks. Why this extractor: docs/decisions/0003-document-loaders.md.
`archive.check_archive` has passed the zip-based formats before.

Example:
    >>> load_office(Path("handbook.docx"), "handbook.docx", FileKind.DOCX).num_pages is None  # doctest: +SKIP
    True
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...core.errors import LoadError
from ..loaded import Block, LoadedDocument
from .recognise import FileKind
from .table import table_text

# In a run; the tab stops of a paragraph have attributes.
_TAB = re.compile(rb"<w:(?:tab|ptab)\s*/>")
_SPACE_RUN = b'<w:t xml:space="preserve"> </w:t>'
_NO_BREAK_HYPHEN = re.compile(rb"<w:noBreakHyphen\s*/>")
_SPACE = re.compile(r"[ \t\u00a0]+")
MAX_SHEET_TITLES = 12
_BREAK = "\x01"  # kreuzberg's mark of a line break within a heading


def load_office(path: Path, name: str, kind: FileKind) -> LoadedDocument:
    """Read a document by its structure: headings, paragraphs, lists, tables, notes.

    Args:
        path: The file.
        name: Its name, for messages.
        kind: Its format; a workbook's sheets count as pages.

    Raises:
        LoadError: Damaged or encrypted.
    """
    import kreuzberg

    config = kreuzberg.ExtractionConfig(
        use_cache=False, include_document_structure=True, output_format="plain"
    )
    try:
        # The type is given: the extractor would judge by the path, which may have no extension.
        content = _with_tabs(path) if kind is FileKind.DOCX else path.read_bytes()
        result = kreuzberg.extract_bytes_sync(content, kind.value, config)
    except (kreuzberg.KreuzbergError, zipfile.BadZipFile, RuntimeError, ValueError, OSError) as exc:
        raise _translated(name, exc) from exc
    nodes: Sequence[Mapping[str, Any]] = result.document["nodes"] if result.document else ()
    metadata: dict[str, Any] = dict(result.metadata)
    title = metadata.get("title")
    sheets = [str(sheet) for sheet in metadata.get("sheet_names") or ()] if kind is FileKind.XLSX else []
    blocks = tuple(_sheet_blocks(nodes, sheets) if kind is FileKind.XLSX else _blocks(nodes))
    return LoadedDocument(
        kind.value, blocks, len(sheets) or None, title if isinstance(title, str) else "", _warnings(result)
    )


def _with_tabs(path: Path) -> bytes:
    """Return a DOCX with its tabs written as spaces and without pictures.

    kreuzberg 4.10.4 drops tabs, so that "345<tab>Money" would become "345Money".
    """
    output = io.BytesIO()
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(output, "w") as target:
        for member in source.infolist():
            if member.filename.startswith(("word/media/", "word/embeddings/")):
                continue
            content = source.read(member)
            if member.filename.startswith("word/") and member.filename.endswith(".xml"):
                content = _NO_BREAK_HYPHEN.sub(b"<w:t>-</w:t>", _TAB.sub(_SPACE_RUN, content))
            target.writestr(member.filename, content)
    return output.getvalue()


def _translated(name: str, exc: Exception) -> LoadError:
    words = str(exc).lower()
    if "password" in words or "encrypt" in words:
        return LoadError(
            f"{name} is protected with a password.", "encrypted", hint="Save a copy without the password."
        )
    return LoadError(
        f"{name} is damaged or cut short.", "corrupt", hint="Open it in its own program and save it anew."
    )


def _warnings(result: Any) -> tuple[str, ...]:
    return tuple(str(getattr(warning, "message", warning)) for warning in result.processing_warnings or ())


def _blocks(nodes: Sequence[Mapping[str, Any]]) -> Iterator[Block]:
    items: list[str] = []
    ordered: dict[int, int] = {}
    for node in nodes:
        content = node["content"]
        kind = content["node_type"]
        if kind == "list_item":
            items.append(_bullet(nodes, node, ordered) + _plain(content.get("text", "")).replace("\n", " "))
            continue
        if items and kind != "list":
            yield Block("\n".join(items), "list")
            items = []
        yield from _block(kind, content)
    if items:
        yield Block("\n".join(items), "list")


def _bullet(nodes: Sequence[Mapping[str, Any]], node: Mapping[str, Any], ordered: dict[int, int]) -> str:
    parent = node.get("parent")
    if not isinstance(parent, int) or not nodes[parent]["content"].get("ordered"):
        return "- "
    ordered[parent] = ordered.get(parent, 0) + 1
    return f"{ordered[parent]}. "


def _block(kind: str, content: Mapping[str, Any]) -> Iterator[Block]:
    text = _plain(content.get("text") or "")
    if kind == "table":
        table = _table(content["grid"], max_titles=0)
        if table:
            yield Block(table, "table")
    elif not text:
        return
    elif kind in ("heading", "title"):
        yield Block(text.replace("\n", " "), "heading", int(content.get("level") or 1))
    elif kind == "code":
        yield Block(text, "code")
    elif kind == "footnote":
        yield Block(f"Note: {text}")
    else:
        yield Block(text)


def _sheet_blocks(nodes: Sequence[Mapping[str, Any]], sheets: Sequence[str]) -> Iterator[Block]:
    page = 0
    for node in nodes:
        content = node["content"]
        if content["node_type"] == "heading":
            name = str(content["text"])
            # Sheets come in order; blank ones are left out.
            page = sheets.index(name, page) + 1 if name in sheets[page:] else page + 1
            yield Block(_plain(name) or f"Sheet {page}", "heading", 1, page)
        elif content["node_type"] == "table":
            table = _table(content["grid"], max_titles=MAX_SHEET_TITLES)
            if table:
                yield Block(table, "table", 0, max(page, 1))


def _table(grid: Mapping[str, Any], max_titles: int) -> str:
    rows = [[""] * int(grid["cols"]) for _ in range(int(grid["rows"]))]
    for cell in grid["cells"]:
        row, column = int(cell["row"]), int(cell["col"])
        if row < len(rows) and column < len(rows[row]):
            rows[row][column] = str(cell["content"])
    return table_text(rows, max_titles=max_titles)


def _plain(text: str) -> str:
    lines = (_SPACE.sub(" ", line).strip() for line in text.replace(_BREAK, "\n").split("\n"))
    return "\n".join(filter(None, lines))
