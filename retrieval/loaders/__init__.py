r"""Any file in, its text in blocks out, or a `LoadError` that says why not.

Place in the data's way: file -> `load_document` -> `LoadedDocument` -> chunking. The type is recognised by
the content, never by the name alone. Files come from strangers: call this through
`parser_process.ParserProcess`, which puts limits on time and memory; it is a plain function so that it can
be tested and debugged as one.

Example:
    >>> import tempfile
    >>> note = Path(tempfile.mkdtemp()) / "note.md"
    >>> _ = note.write_text("# Tea\n\nBoil the water.", encoding="utf-8")
    >>> [block.kind for block in load_document(note, "note.md").blocks]
    ['heading', 'paragraph']
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ...core.errors import LoadError
from ..loaded import Block, LoadedDocument
from .recognise import FileKind, recognise

__all__ = ["load_document"]

MAX_FILE_BYTES = 200_000_000
MAX_TEXT_CHARS = 20_000_000

# Imported when the first file of the kind comes, so that a worker starts at once and a text file never pays
# for pdfium.
_LOADERS = {
    FileKind.PDF: ("pdf", "load_pdf"),
    FileKind.DOCX: ("office", "load_office"),
    FileKind.XLSX: ("office", "load_office"),
    FileKind.EPUB: ("office", "load_office"),
    FileKind.ODT: ("office", "load_office"),
    FileKind.RTF: ("office", "load_office"),
    FileKind.PPTX: ("slides", "load_slides"),
    FileKind.HTML: ("html", "load_html"),
    FileKind.EMAIL: ("mail", "load_mail"),
    FileKind.CSV: ("plain", "load_csv"),
    FileKind.MARKDOWN: ("plain", "load_markdown"),
    FileKind.TEXT: ("plain", "load_text"),
}


def load_document(
    path: Path,
    name: str,
    *,
    max_file_bytes: int = MAX_FILE_BYTES,
    max_text_chars: int = MAX_TEXT_CHARS,
) -> LoadedDocument:
    """Read one file.

    Args:
        path: Where it lies.
        name: What the person calls it; its extension breaks ties between kinds of text, nothing more.
        max_file_bytes: Larger files are refused.
        max_text_chars: Longer texts are refused.

    Returns:
        The content; its text is never blank.

    Raises:
        LoadError: The file can't be read; `reason` and the message say why.
    """
    _check_size(path, name, max_file_bytes)
    found = recognise(path, name)
    module, function = _LOADERS[found.kind]
    loader: Callable[[Path, str, FileKind], LoadedDocument] = getattr(
        importlib.import_module(f".{module}", __name__), function
    )
    document = loader(path, name, found.kind)
    blocks = tuple(block for block in map(_clean, document.blocks) if block is not None)
    if not blocks:
        raise LoadError(f"{name} holds no text.", "no_text", hint="Open it and see whether it shows text.")
    num_chars = sum(len(block.text) + 2 for block in blocks)
    if num_chars > max_text_chars:
        raise LoadError(
            f"{name} holds {num_chars:,} characters of text; the limit is {max_text_chars:,}.",
            "too_large",
            hint="Split the file, or raise retrieval.max_text_chars.",
        )
    return replace(document, blocks=blocks, warnings=found.warnings + document.warnings)


def _check_size(path: Path, name: str, max_file_bytes: int) -> None:
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise LoadError(f"{name} is not a file.", "unsupported", hint="Choose a file, not a folder.")
    except OSError as exc:
        raise LoadError(
            f"{name} can't be opened: {exc.strerror}.", "corrupt", hint="Check the path and its permissions."
        ) from exc
    if size == 0:
        raise LoadError(f"{name} is empty (0 bytes).", "empty", hint="Save or download it again.")
    if size > max_file_bytes:
        raise LoadError(
            f"{name} has {size:,} bytes; the limit is {max_file_bytes:,}.",
            "too_large",
            hint="Split the file, or raise retrieval.max_file_bytes.",
        )


# Lone surrogates can't be written as UTF-8, and control characters only disturb the model and the screen.
_UNWANTED = dict.fromkeys([*range(0x09), 0x0B, 0x0C, *range(0x0E, 0x20), 0x7F, 0xFEFF, 0xFFFE, 0xFFFF])


def _clean(block: Block) -> Block | None:
    if block.lines:  # the PDF loader has cleaned it already, and its boxes count characters
        return block if block.text else None
    text = block.text.translate(_UNWANTED).encode("utf-8", "replace").decode("utf-8").strip()
    return replace(block, text=text) if text else None
