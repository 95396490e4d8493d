"""PDF to blocks: paragraphs and headings with the boxes of their lines.

Place in the data's way: `load_document` calls `load_pdf`; `pdfium` gives the lines, `pdf_layout` says what
they are.

Example:
    >>> load_pdf(Path("paper.pdf"), "paper.pdf", FileKind.PDF).num_pages  # doctest: +SKIP
    14
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...core.errors import LoadError
from ..loaded import LoadedDocument
from .pdf_layout import layout
from .pdfium import Page, open_pdf
from .recognise import FileKind

MAX_PAGES = 20_000
MAX_UNREADABLE_SHARE = 0.3


def load_pdf(path: Path, name: str, kind: FileKind) -> LoadedDocument:
    """Read a PDF's text layer.

    Args:
        path: The file.
        name: Its name, for messages.
        kind: Its format.

    Raises:
        LoadError: Encrypted, damaged, or without any text (a scan).
    """
    with open_pdf(path, name) as pdf:
        num_pages = pdf.num_pages
        if num_pages > MAX_PAGES:
            raise LoadError(
                f"{name} has {num_pages:,} pages; the limit is {MAX_PAGES:,}.",
                "too_large",
                hint="Split the file.",
            )
        pages: list[Page] = []
        damaged, scans, garbled = [], [], []
        for number in range(1, num_pages + 1):
            page = pdf.page(number)
            if page is None:
                damaged.append(number)
            elif _is_garbled(page):
                garbled.append(number)
            elif page.lines:
                pages.append(page)
            elif page.has_picture:
                scans.append(number)
        title, num_attachments = pdf.title, pdf.num_attachments
        outline = tuple(pdf.outline())
    blocks = layout(pages, outline)
    if not blocks:
        raise _no_text(name, num_pages, damaged, scans, garbled)
    warnings = []
    if scans:
        warnings.append(f"{_pages(scans)} a scan without text, not read; OCR is not available yet.")
    if garbled:
        warnings.append(f"{_pages(garbled)} not read: the fonts don't say which letters they show.")
    if damaged:
        warnings.append(f"{_pages(damaged)} not read: damaged.")
    if num_attachments:
        warnings.append(f"Attached files were not read ({num_attachments}); add them as files.")
    return LoadedDocument(kind.value, blocks, num_pages, title, tuple(warnings))


def _is_garbled(page: Page) -> bool:
    text = "".join(line.text for line in page.lines)
    # Private-use characters, control characters and U+FFFD are what remains of letters without a Unicode map.
    bad = sum(1 for char in text if "\ue000" <= char <= "\uf8ff" or char == "\ufffd" or char < " ")
    return bad > max(5, MAX_UNREADABLE_SHARE * len(text))


def _no_text(
    name: str, num_pages: int, damaged: Sequence[int], scans: Sequence[int], garbled: Sequence[int]
) -> LoadError:
    if scans:
        return LoadError(
            f"{name} holds no text: {_pages(scans).lower()} a scan without text; OCR is not available yet.",
            "no_text",
            hint="Run it through an OCR program that adds a text layer, then add it again.",
        )
    if garbled:
        return LoadError(
            f"{name} can't be read: its fonts don't say which letters they show.",
            "no_text",
            hint="Save it anew from the program that made it, or run it through an OCR program.",
        )
    if damaged:
        return LoadError(
            f"{name} is damaged: {_pages(damaged).lower()} unreadable.",
            "corrupt",
            hint="Download it again, or open it in a PDF viewer and print it to a new PDF.",
        )
    return LoadError(
        f"{name} holds no text on its {num_pages} page{'s' * (num_pages != 1)}.",
        "no_text",
        hint="If you see letters on it, they are drawings: run it through an OCR program.",
    )


def _pages(numbers: Sequence[int]) -> str:
    """Return for example "Pages 1, 3-5 are"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    words = ", ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in runs)
    return f"Page {words} is" if len(numbers) == 1 else f"Pages {words} are"
