"""Web pages, without scripts, navigation and network.

Place in the data's way: `load_document` calls `load_html`; `mail` reads HTML bodies with `html_blocks`. The
standard library's tokenizer is fed and nothing is fetched: pictures, frames and style sheets stay where
they are.

Example:
    >>> [(b.kind, b.text) for b in html_blocks("<h1>Tea</h1><p>Boil <b>it</b>.<script>x</script>")]
    [('heading', 'Tea'), ('paragraph', 'Boil it.')]
"""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Literal

from ..loaded import Block, LoadedDocument
from .encoding import decode
from .recognise import FileKind
from .table import table_text

_SKIPPED = {"script", "style", "noscript", "template", "svg", "math", "head", "iframe", "object", "select"}
_NAVIGATION = {"nav", "footer", "aside", "button"}
_BREAKING = {
    *("p", "div", "section", "article", "main", "header", "body", "blockquote", "figure", "figcaption", "ul"),
    *(
        "ol",
        "dl",
        "dt",
        "dd",
        "li",
        "table",
        "caption",
        "hr",
        "pre",
        "address",
        "details",
        "summary",
        "center",
    ),
    *("h1", "h2", "h3", "h4", "h5", "h6", "center", "fieldset", "tr", "thead", "tbody"),
}
_VOID = {"br", "hr", "img", "input", "meta", "link", "area", "base", "col", "embed", "source", "track", "wbr"}
_CHARSET = re.compile(rb"""<meta[^>]+charset=["']?([\w\-]+)""", re.I)
_BULLET = re.compile(r"^(?:-|\d+\.)$")
_SPACE = re.compile(r"[ \t\n\r\f\u00a0]+")
MAX_DEPTH = 200
MAX_COLSPAN = 50

_Kind = Literal["heading", "paragraph", "list", "table", "code"]


def load_html(path: Path, name: str, kind: FileKind) -> LoadedDocument:
    """Read a web page.

    Args:
        path: The file.
        name: Its name, for messages.
        kind: Its format.

    Raises:
        LoadError: Not text.
    """
    content = path.read_bytes()
    declared = _CHARSET.search(content[:4096])
    decoded = decode(_recoded(content, declared.group(1).decode("ascii")) if declared else content, name)
    page = _Page()
    page.feed(decoded.text)
    page.close()
    return LoadedDocument(kind.value, page.finish(), None, page.title, decoded.warnings)


def html_blocks(text: str) -> tuple[Block, ...]:
    """Cut a page's text into blocks."""
    page = _Page()
    page.feed(text)
    page.close()
    return page.finish()


def _recoded(content: bytes, encoding: str) -> bytes:
    # The declaration counts where the bytes are not UTF-8, which is what pages without it mostly are.
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        try:
            return content.decode(encoding).encode("utf-8")
        except (LookupError, UnicodeDecodeError):
            return content
    return content


class _Page(HTMLParser):
    """Collects blocks; tables are collected row by row and written when the outermost one closes."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.title = ""
        self._blocks: list[Block] = []
        self._text: list[str] = []
        self._skipping: list[str] = []
        self._in_title = False
        self._kind: _Kind = "paragraph"
        self._level = 0
        self._lists: list[int | None] = []
        self._pre = 0
        self._tables = 0
        self._rows: list[list[str]] = []
        self._span = 1

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "title" and not self.title:
            self._in_title = True
        if tag == "body":
            self._skipping.clear()  # a head without its end tag ends here
        if self._skipping:
            if tag in _SKIPPED | _NAVIGATION and len(self._skipping) < MAX_DEPTH:
                self._skipping.append(tag)
            return
        if tag in _SKIPPED | _NAVIGATION:
            self._skipping.append(tag)
            return
        if tag in ("td", "th") and self._tables:
            self._cell()
            span = dict(attrs).get("colspan") or ""
            self._span = min(int(span), MAX_COLSPAN) if span.isdecimal() and len(span) < 5 else 1
        elif tag == "br":
            self._text.append("\n")
        elif tag in _BREAKING:
            self._open(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag == "title":
            self._in_title = False
        if tag in self._skipping:
            while self._skipping.pop() != tag:
                continue
            return
        if self._skipping:
            return
        if tag in ("td", "th") and self._tables:
            self._text.append(" ")
        elif tag in _BREAKING:
            self._close(tag)

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title = _SPACE.sub(" ", self.title + data).strip()
        if not self._skipping:
            # A line end in the source is white space; only <br> breaks a line.
            self._text.append(data if self._pre else _SPACE.sub(" ", data))

    def finish(self) -> tuple[Block, ...]:
        """Return the blocks; the page is done."""
        if self._tables:
            self._tables = 0
            self._end_table()
        self._flush()
        return tuple(self._blocks)

    def _open(self, tag: str) -> None:
        if tag == "table":
            if not self._tables:
                self._flush()
                self._rows = [[]]
            self._tables += 1
        elif self._tables:
            if tag == "tr":
                self._cell()
                self._rows.append([])
            self._text.append(" ")
            return
        self._flush()
        if tag in ("ul", "ol"):
            self._lists.append(0 if tag == "ol" else None)
        elif tag == "li":
            self._text.append(self._bullet())
            self._kind = "list"
        elif tag == "pre":
            self._pre += 1
            self._kind = "code"
        elif len(tag) == 2 and tag[0] == "h" and tag[1].isdigit():
            self._kind, self._level = "heading", int(tag[1])

    def _close(self, tag: str) -> None:
        if tag == "table" and self._tables:
            self._tables -= 1
            if not self._tables:
                self._end_table()
            return
        if self._tables:
            self._text.append(" ")
            return
        self._flush()
        if tag in ("ul", "ol") and self._lists:
            self._lists.pop()
        elif tag == "pre" and self._pre:
            self._pre -= 1

    def _bullet(self) -> str:
        if not self._lists or self._lists[-1] is None:
            return "- "
        self._lists[-1] += 1
        return f"{self._lists[-1]}. "

    def _cell(self) -> None:
        # The text so far belongs to the cell that was open before this tag.
        text = _SPACE.sub(" ", "".join(self._text)).strip()
        self._text.clear()
        if self._rows and self._rows[-1]:
            self._rows[-1][-1] = text
        elif text:
            self._rows[-1].append(text)
        # A cell over several columns keeps those after it below their names.
        self._rows[-1] += [""] * max(self._span, 1) if self._rows[-1] else [""]
        self._span = 1

    def _end_table(self) -> None:
        self._cell()
        rows, self._rows = [row for row in self._rows if any(row)], []
        self._text.clear()
        if rows and max(sum(map(bool, row)) for row in rows) <= 1:  # a table for layout, not for data
            self._blocks += [Block(next(filter(None, row))) for row in rows]
            return
        content = table_text(rows)
        if content:
            self._blocks.append(Block(content, "table"))

    def _flush(self) -> None:
        raw = "".join(self._text)
        self._text.clear()
        kind, level, self._kind, self._level = self._kind, self._level, "paragraph", 0
        if self._pre:
            text = raw.strip("\n")
        else:
            text = "\n".join(filter(None, (_SPACE.sub(" ", line).strip() for line in raw.split("\n"))))
        if kind == "list" and _BULLET.match(text):  # <li><p>: the text comes with the next tag
            self._text.append(raw)
            self._kind = "list"
            return
        if not text.strip():
            return
        if kind == "heading":
            text = text.replace("\n", " ")
        last = self._blocks[-1] if self._blocks else None
        if kind == "list" and last is not None and last.kind == "list":
            self._blocks[-1] = Block(f"{last.text}\n{text}", "list")
            return
        self._blocks.append(Block(text.strip(), kind, level))
