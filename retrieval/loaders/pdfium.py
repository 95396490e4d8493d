"""PDF files through pypdfium2: lines of text with their boxes, and pictures of pages.

Place in the data's way: `pdf` turns these lines into blocks, `page_image` shows a page; the only file that
knows pypdfium2. PDFium is C++ that parses what strangers wrote, so both run in the parser process.

Example:
    >>> with open_pdf(Path("paper.pdf"), "paper.pdf") as pdf:  # doctest: +SKIP
    ...     print(pdf.num_pages, pdf.page(1).lines[0].text)
    14 Trace-based Just-in-Time Type Specialization for Dynamic
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.errors import LoadError

if TYPE_CHECKING:
    from PIL.Image import Image

_GRID = 1_000_000  # PDFium gives device coordinates as integers: a millionth of the page is fine enough
_LINE = re.compile("[^\r\n\ufffe]+\ufffe?")
_BOLD_WEIGHT = 600
HYPHEN = "\ufffe"
MAX_PAGE_CHARS = 2_000_000
MAX_PIXELS = 20_000_000


@dataclass(frozen=True, slots=True)
class Line:
    """A line of text on a page.

    Attributes:
        text: Its characters; `HYPHEN` at the end where PDFium saw a word divided there.
        left: Left edge, as a fraction of the page's width; may lie outside 0 to 1, as may the others.
        top: Top edge, as a fraction of the page's height.
        right: Right edge.
        bottom: Bottom edge.
        size: Height of its letters in points.
        is_bold: Whether it begins and ends in bold.
    """

    text: str
    left: float
    top: float
    right: float
    bottom: float
    size: float
    is_bold: bool


@dataclass(frozen=True, slots=True)
class Page:
    """A page's text.

    Attributes:
        number: From 1.
        lines: In the order PDFium reads them.
        has_picture: Whether a picture stands on it; looked up only where there are no lines.
    """

    number: int
    lines: tuple[Line, ...]
    has_picture: bool = False


class PdfFile:
    """An open PDF."""

    def __init__(self, document: Any) -> None:
        self._document = document

    @property
    def num_pages(self) -> int:
        """Number of pages, as the file says."""
        return len(self._document)

    @property
    def title(self) -> str:
        """Title from the metadata, or ""."""
        return str(self._document.get_metadata_value("Title") or "").strip()

    @property
    def num_attachments(self) -> int:
        """Files attached to the PDF."""
        return int(self._document.count_attachments())

    def outline(self) -> Iterator[tuple[int, str, int]]:
        """Yield (level from 1, title, page number from 1) of the bookmarks that point to a page.

        Broken bookmarks end the list; they are a help, not content.
        """
        import pypdfium2 as pdfium  # type: ignore[import-untyped]

        try:
            for mark in self._document.get_toc(max_depth=6):
                target = mark.get_dest()
                index = target.get_index() if target is not None else None
                if index is not None:
                    yield mark.level + 1, mark.get_title(), index + 1
        except (pdfium.PdfiumError, UnicodeDecodeError, RecursionError):
            return

    def page(self, number: int) -> Page | None:
        """Return a page's lines, or None where the page can't be read."""
        import pypdfium2 as pdfium

        try:
            page = self._document[number - 1]
            try:
                text_page = page.get_textpage()
                try:
                    lines = tuple(_lines(page, text_page))
                finally:
                    text_page.close()
                return Page(number, lines, not lines and _has_picture(page))
            finally:
                page.close()
        except (pdfium.PdfiumError, UnicodeDecodeError):
            return None

    def render(self, number: int, width_px: int) -> Image:
        """Return a picture of a page, at most `MAX_PIXELS` large.

        Args:
            number: Page number, from 1.
            width_px: Width asked for.

        Raises:
            LoadError: The page can't be drawn.
        """
        import pypdfium2 as pdfium

        try:
            page = self._document[number - 1]
            width, height = page.get_size()
            if not (width > 0 and height > 0):
                raise LoadError(f"Page {number} has no area.", "corrupt")
            scale = min(width_px / width, (MAX_PIXELS / (width * height)) ** 0.5)
            picture: Image = page.render(scale=scale, may_draw_forms=False).to_pil().convert("RGB")
            return picture
        except (pdfium.PdfiumError, ValueError) as exc:
            raise LoadError(f"Page {number} is damaged and can't be drawn.", "corrupt") from exc


@contextmanager
def open_pdf(path: Path, name: str) -> Iterator[PdfFile]:
    """Open a PDF; one that asks for a password only before changes opens too.

    Args:
        path: The file.
        name: Its name, for messages.

    Raises:
        LoadError: Encrypted or damaged.
    """
    import pypdfium2 as pdfium
    import pypdfium2.raw as raw  # type: ignore[import-untyped]

    try:
        document = pdfium.PdfDocument(path)
    except pdfium.PdfiumError as exc:
        if exc.err_code in (raw.FPDF_ERR_PASSWORD, raw.FPDF_ERR_SECURITY):
            raise LoadError(
                f"{name} is protected with a password.", "encrypted", hint="Save a copy without the password."
            ) from exc
        raise LoadError(
            f"{name} is damaged or cut short: its pages can't be found.",
            "corrupt",
            hint="Download it again, or open it in a PDF viewer and print it to a new PDF.",
        ) from exc
    try:
        yield PdfFile(document)
    finally:
        document.close()


def _lines(page: Any, text_page: Any) -> Iterator[Line]:
    import pypdfium2.raw as raw

    num_chars = min(text_page.count_chars(), MAX_PAGE_CHARS)
    if num_chars <= 0:
        return
    buffer = ctypes.create_string_buffer(2 * (num_chars + 1))
    written = raw.FPDFText_GetText(
        text_page, 0, num_chars, ctypes.cast(buffer, ctypes.POINTER(ctypes.c_ushort))
    )
    units = buffer.raw[: 2 * max(written - 1, 0)]
    text = units.decode("utf-16-le", "replace")
    is_plain = 2 * len(text) == len(units)  # no surrogate pairs: a character is a code unit
    for match in _LINE.finditer(text):
        line = match.group()
        if not line.strip(" \t\x00" + HYPHEN):
            continue
        skipped = len(line) - len(line.lstrip())
        start = match.start() + skipped
        unit = start if is_plain else len(text[:start].encode("utf-16-le")) // 2
        length = len(line.strip(HYPHEN + " ")) if is_plain else len(line.strip().encode("utf-16-le")) // 2
        first = raw.FPDFText_GetCharIndexFromTextIndex(text_page, unit)
        box = _box(page, text_page, first if first >= 0 else unit, length)
        if box is not None:
            first = max(first, 0)
            size = _size(text_page, first, length)
            yield Line(line[skipped:].rstrip(), *box, size, _is_bold(text_page, first, length))


def _box(page: Any, text_page: Any, first: int, length: int) -> tuple[float, float, float, float] | None:
    import pypdfium2.raw as raw

    count = raw.FPDFText_CountRects(text_page, first, length)
    edges = [ctypes.c_double() for _ in range(4)]
    left = bottom = float("inf")
    right = top = float("-inf")
    for index in range(count):
        if raw.FPDFText_GetRect(text_page, index, *(ctypes.byref(edge) for edge in edges)):
            left, top = min(left, edges[0].value), max(top, edges[1].value)
            right, bottom = max(right, edges[2].value), min(bottom, edges[3].value)
    if not (left <= right and bottom <= top):
        return None
    (x0, y0), (x1, y1) = _on_page(page, left, top), _on_page(page, right, bottom)
    return min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)


def _on_page(page: Any, x: float, y: float) -> tuple[float, float]:
    # PDFium does the sums for the crop box and the page's rotation, so boxes fit the picture it renders.
    import pypdfium2.raw as raw

    device_x, device_y = ctypes.c_int(), ctypes.c_int()
    raw.FPDF_PageToDevice(page, 0, 0, _GRID, _GRID, 0, x, y, ctypes.byref(device_x), ctypes.byref(device_y))
    return device_x.value / _GRID, device_y.value / _GRID


def _size(text_page: Any, first: int, length: int) -> float:
    import pypdfium2.raw as raw

    # Several letters are asked, for a single sign of another font (in a formula) may be far taller.
    box = raw.FS_RECTF()
    heights = []
    for index in range(first, first + length, max(length // 6, 1)):
        if raw.FPDFText_GetLooseCharBox(text_page, index, box):
            height = abs(box.top - box.bottom)
            if height > 0.5:  # generated spaces have none
                heights.append(float(height))
    return round(sorted(heights)[(len(heights) - 1) // 2], 1) if heights else 0.0


def _is_bold(text_page: Any, first: int, length: int) -> bool:
    import pypdfium2.raw as raw

    weights = (raw.FPDFText_GetFontWeight(text_page, index) for index in (first, first + max(length - 1, 0)))
    return all(weight >= _BOLD_WEIGHT for weight in weights)


def _has_picture(page: Any) -> bool:
    import pypdfium2.raw as raw

    return next(page.get_objects(filter=[raw.FPDF_PAGEOBJ_IMAGE], max_depth=3), None) is not None
