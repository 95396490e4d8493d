"""A page of a PDF as a picture, with what was cited marked.

Place in the data's way: the chat shows it when a citation is opened. Files come from strangers: call it
through `parser_process.ParserProcess.render_page`.

Example:
    >>> png = render_page(Path("paper.pdf"), 1, [Box(1, 0.1, 0.2, 0.9, 0.3)])  # doctest: +SKIP
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from ..core.errors import LoadError
from ..core.types import Box

MIN_WIDTH_PX, MAX_WIDTH_PX = 50, 4000
MARK_COLOUR = (255, 221, 51)
MARK_PADDING = 0.003


def render_page(path: Path, page: int, boxes: Sequence[Box] = (), width_px: int = 900) -> bytes:
    """Draw a page.

    Args:
        path: The PDF.
        page: Page number, from 1.
        boxes: What to highlight; boxes of other pages are left out.
        width_px: Width of the picture, 50 to 4000; a very long page comes out narrower.

    Returns:
        A PNG file.

    Raises:
        LoadError: Not a PDF, encrypted, damaged, or without this page.
        ValueError: `width_px` is out of range.
    """
    from PIL import Image, ImageChops, ImageDraw

    from .loaders.pdfium import open_pdf

    if not MIN_WIDTH_PX <= width_px <= MAX_WIDTH_PX:
        raise ValueError(f"width_px must be {MIN_WIDTH_PX} to {MAX_WIDTH_PX}, got {width_px}")
    _require_pdf(path)
    with open_pdf(path, path.name) as pdf:
        if not 1 <= page <= pdf.num_pages:
            raise LoadError(
                f"{path.name} has no page {page}; it has {pdf.num_pages}.",
                "corrupt",
                hint="Choose another page.",
            )
        picture = pdf.render(page, width_px)
    marks = Image.new("RGB", picture.size, "white")
    draw = ImageDraw.Draw(marks)
    width, height = picture.size
    for box in boxes:
        if box.page == page:
            left, top = (box.left - MARK_PADDING) * width, (box.top - MARK_PADDING) * height
            right, bottom = (box.right + MARK_PADDING) * width, (box.bottom + MARK_PADDING) * height
            draw.rectangle((left, top, max(right, left), max(bottom, top)), fill=MARK_COLOUR)
    # Multiplied, a mark colours the paper and leaves the letters black, like a felt pen.
    output = io.BytesIO()
    ImageChops.multiply(picture, marks).save(output, "PNG", compress_level=3)
    return output.getvalue()


def _require_pdf(path: Path) -> None:
    try:
        with path.open("rb") as file:
            head = file.read(1024)
    except OSError as exc:
        raise LoadError(f"{path.name} can't be opened: {exc.strerror}.", "corrupt") from exc
    if b"%PDF-" not in head:
        raise LoadError(
            f"{path.name} is not a PDF; only PDF pages can be shown.",
            "unsupported",
            hint="Read the passage instead.",
        )
