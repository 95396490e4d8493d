"""PowerPoint presentations, a slide as a page.

Place in the data's way: `load_document` calls `load_slides`. Read from the XML with the standard library,
for the extractor behind `office` neither tells the slides apart nor keeps the speaker's notes (see
docs/decisions/0003-document-loaders.md). `archive.check_archive` has passed the file before.

Example:
    >>> load_slides(Path("talk.pptx"), "talk.pptx", FileKind.PPTX).num_pages  # doctest: +SKIP
    12
"""

from __future__ import annotations

import posixpath
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from ...core.errors import LoadError
from ..loaded import Block, LoadedDocument
from .recognise import FileKind
from .table import table_text

_A = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
_P = "{http://schemas.openxmlformats.org/presentationml/2006/main}"
_R = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"
_REL = "{http://schemas.openxmlformats.org/package/2006/relationships}Relationship"
_TITLES = {"title", "ctrTitle"}
_FURNITURE = {"dt", "ftr", "sldNum", "hdr"}


def load_slides(path: Path, name: str, kind: FileKind) -> LoadedDocument:
    """Read a presentation: titles, text, tables and notes of every slide in order.

    Args:
        path: The file.
        name: Its name, for messages.
        kind: Its format.

    Raises:
        LoadError: Damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            slides = _slide_paths(archive)
            blocks: list[Block] = []
            missing = []
            for number, slide in enumerate(slides, 1):
                try:
                    blocks += _slide(archive, slide, number)
                except (KeyError, ElementTree.ParseError):
                    missing.append(number)
    except (zipfile.BadZipFile, ElementTree.ParseError, KeyError, OSError, ValueError, zlib.error) as exc:
        raise LoadError(
            f"{name} is damaged or cut short.", "corrupt", hint="Open it in PowerPoint and save it anew."
        ) from exc
    warnings = tuple(f"Slide {number} is damaged and was not read." for number in missing)
    title = next((block.text for block in blocks if block.kind == "heading"), "")
    return LoadedDocument(kind.value, tuple(blocks), len(slides), title, warnings)


def _slide_paths(archive: zipfile.ZipFile) -> list[str]:
    main = next(iter(_related(archive, "", "officeDocument").values()), "ppt/presentation.xml")
    targets = _related(archive, main, "slide")
    root = ElementTree.fromstring(archive.read(main))
    ids = [element.get(f"{_R}id", "") for element in root.iter(f"{_P}sldId")]
    return [targets[key] for key in ids if key in targets]


def _related(archive: zipfile.ZipFile, part: str, kind: str) -> dict[str, str]:
    folder, base = posixpath.split(part)
    path = posixpath.join(folder, "_rels", f"{base}.rels")
    if path not in archive.namelist():
        return {}
    found = {}
    for element in ElementTree.fromstring(archive.read(path)).iter(_REL):
        if element.get("Type", "").endswith(f"/{kind}") and element.get("TargetMode") != "External":
            target = posixpath.normpath(posixpath.join("/", folder, element.get("Target", "")))
            found[element.get("Id", "")] = target.lstrip("/")
    return found


def _slide(archive: zipfile.ZipFile, path: str, number: int) -> Iterator[Block]:
    root = ElementTree.fromstring(archive.read(path))
    shapes = list(root.iter(f"{_P}sp"))
    title = next((shape for shape in shapes if _role(shape) in _TITLES), None)
    text = " ".join(_paragraphs(title)) if title is not None else ""
    blocks = [Block(text or f"Slide {number}", "heading", 1, number)]
    tree = root.find(f"{_P}cSld/{_P}spTree")
    for element in tree.iter() if tree is not None else ():
        if element.tag == f"{_P}sp" and element is not title and _role(element) not in _FURNITURE:
            lines = list(_paragraphs(element))
            if lines:
                blocks.append(Block("\n".join(lines), "list" if len(lines) > 1 else "paragraph", 0, number))
        elif element.tag == f"{_A}tbl":
            rows = [
                [" ".join(_paragraphs(cell)) for cell in row.iter(f"{_A}tc")]
                for row in element.iter(f"{_A}tr")
            ]
            content = table_text(rows)
            if content:
                blocks.append(Block(content, "table", 0, number))
    for notes in _related(archive, path, "notesSlide").values():
        lines = []
        for shape in ElementTree.fromstring(archive.read(notes)).iter(f"{_P}sp"):
            if _role(shape) == "body":
                lines += _paragraphs(shape)
        if lines:
            blocks.append(Block("Notes: " + "\n".join(lines), "paragraph", 0, number))
    if len(blocks) > 1 or text:
        yield from blocks


def _role(shape: Element) -> str:
    placeholder = shape.find(f"{_P}nvSpPr/{_P}nvPr/{_P}ph")
    return "" if placeholder is None else placeholder.get("type", "body")


def _paragraphs(element: Element) -> Iterator[str]:
    for paragraph in element.iter(f"{_A}p"):
        parts = []
        for node in paragraph.iter():
            if node.tag == f"{_A}t":
                parts.append(node.text or "")
            elif node.tag in (f"{_A}br", f"{_A}tab"):
                parts.append(" ")
        text = " ".join("".join(parts).split())
        if text:
            yield text
