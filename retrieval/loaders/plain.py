r"""Plain text, Markdown and tables in text form.

Place in the data's way: `load_document` calls these for the text formats; `mail` reads attachments with
them.

Example:
    >>> [(block.kind, block.text) for block in markdown_blocks("# Tea\n\n- green\n- black")]
    [('heading', 'Tea'), ('list', '- green\n- black')]
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

from ...core.errors import LoadError
from ..loaded import Block, LoadedDocument
from .encoding import decode
from .recognise import FileKind
from .table import table_text

_BLANK_LINES = re.compile(r"\n[ \t]*\n\s*")
_ATX = re.compile(r"^ {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*$")
_SETEXT = re.compile(r"^ {0,3}(=+|-+)[ \t]*$")
_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})")
_LIST = re.compile(r"^\s*(?:[-*+]|\d{1,9}[.)])\s+\S")
_TABLE_RULE = re.compile(r"^\s*\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?\s*$")
_LINK = re.compile(r"!?\[([^\]\[]*)\]\([^()\s]*(?:\s+\"[^\"]*\")?\)")
_EMPHASIS = re.compile(r"(\*\*|__)(?=\S)(.+?)(?<=\S)\1")
_FRONT_MATTER = re.compile(r"\A---[ \t]*\n.*?\n(?:---|\.\.\.)[ \t]*\n", re.S)


def load_text(path: Path, name: str, kind: FileKind) -> LoadedDocument:
    """Read plain text; a blank line ends a paragraph.

    Args:
        path: The file.
        name: Its name, for messages.
        kind: Its format.

    Raises:
        LoadError: Not text.
    """
    decoded = decode(path.read_bytes(), name)
    return LoadedDocument(kind.value, text_blocks(decoded.text), None, warnings=decoded.warnings)


def load_markdown(path: Path, name: str, kind: FileKind) -> LoadedDocument:
    """Read Markdown.

    Args:
        path: The file.
        name: Its name, for messages.
        kind: Its format.

    Raises:
        LoadError: Not text.
    """
    decoded = decode(path.read_bytes(), name)
    blocks = markdown_blocks(decoded.text)
    title = next((block.text for block in blocks if block.level == 1), "")
    return LoadedDocument(kind.value, blocks, None, title, decoded.warnings)


def load_csv(path: Path, name: str, kind: FileKind) -> LoadedDocument:
    """Read comma-, semicolon-, tab- or bar-separated values.

    Args:
        path: The file.
        name: Its name, for messages.
        kind: Its format.

    Raises:
        LoadError: Not text, or not a table.
    """
    decoded = decode(path.read_bytes(), name)
    return LoadedDocument(kind.value, csv_blocks(decoded.text, name), None, warnings=decoded.warnings)


def text_blocks(text: str) -> tuple[Block, ...]:
    """Cut plain text at blank lines."""
    return tuple(Block(part.strip()) for part in _BLANK_LINES.split(text) if part.strip())


def csv_blocks(text: str, name: str) -> tuple[Block, ...]:
    """Write a table's rows one a line; see `table.table_text`.

    Args:
        text: The file's text.
        name: Its name, for messages.

    Raises:
        LoadError: The text can't be cut into rows.
    """
    try:
        dialect: type[csv.Dialect] | csv.Dialect = csv.Sniffer().sniff(text[:20_000], delimiters=",;\t|")
    except csv.Error:
        dialect = csv.excel
    csv.field_size_limit(10_000_000)
    try:
        rows = list(
            csv.reader(text.splitlines(keepends=True), delimiter=dialect.delimiter, skipinitialspace=True)
        )
    except csv.Error as exc:
        raise LoadError(f"{name} is not a table: {exc}.", "corrupt", hint="Check its quotes.") from exc
    content = table_text(rows)
    return (Block(content, "table"),) if content else ()


def markdown_blocks(text: str) -> tuple[Block, ...]:
    """Cut Markdown into headings, paragraphs, lists, tables and code.

    Links keep their text and lose their address; other marks stay, for they rarely disturb.
    """
    lines = _FRONT_MATTER.sub("", text.expandtabs(4)).split("\n")
    blocks: list[Block] = []
    index = 0
    while index < len(lines):
        if not lines[index].strip():
            index += 1
            continue
        block, index = _next_block(lines, index)
        if block.text:
            blocks.append(block)
    return tuple(blocks)


def _next_block(lines: list[str], start: int) -> tuple[Block, int]:
    heading = _ATX.match(lines[start])
    if heading:
        return Block(_inline(heading.group(2) or ""), "heading", len(heading.group(1))), start + 1
    fence = _FENCE.match(lines[start])
    if fence:
        end = start + 1
        while end < len(lines) and not lines[end].strip().startswith(fence.group(1)):
            end += 1
        return Block("\n".join(lines[start + 1 : end]).strip("\n").strip(), "code"), end + 1
    end = start + 1
    while end < len(lines) and lines[end].strip() and not _starts_block(lines[end]):
        if _SETEXT.match(lines[end]) and not _LIST.match(lines[start]):
            level = 1 if lines[end].lstrip().startswith("=") else 2
            return Block(_inline(" ".join(lines[start:end])), "heading", level), end + 1
        end += 1
    part = lines[start:end]
    if len(part) > 1 and "|" in part[0] and _TABLE_RULE.match(part[1]):
        rows = [_row(line) for line in [part[0], *part[2:]]]
        return Block(table_text(rows, has_header=True), "table"), end
    return Block(_inline("\n".join(part)), "list" if _LIST.match(part[0]) else "paragraph"), end


def _starts_block(line: str) -> bool:
    return bool(_ATX.match(line) or _FENCE.match(line))


def _row(line: str) -> list[str]:
    return [_inline(cell.replace("\\|", "|")) for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]


def _inline(text: str) -> str:
    return _EMPHASIS.sub(r"\2", _LINK.sub(r"\1", text)).strip()
