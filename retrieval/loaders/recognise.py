"""Says what a file is by looking inside it.

Place in the data's way: the first step of `load_document`. Magic bytes and zip members decide; the name's
extension only tells kinds of text apart (a CSV from a Markdown file). Zip-based formats are searched for
bombs here, before any parser sees them.

Example:
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "x"
    >>> _ = path.write_bytes(b"%PDF-1.7 ...")
    >>> recognise(path, "report.pdf").kind.name
    'PDF'
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from ...core.errors import LoadError
from .archive import check_archive, main_media_type
from .encoding import decode

HEAD_BYTES = 65_536


class FileKind(Enum):
    """A format that can be read; the value is its IANA media type."""

    PDF = "application/pdf"
    DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
    PPTX = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
    XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
    EPUB = "application/epub+zip"
    ODT = "application/vnd.oasis.opendocument.text"
    RTF = "application/rtf"
    HTML = "text/html"
    EMAIL = "message/rfc822"
    CSV = "text/csv"
    MARKDOWN = "text/markdown"
    TEXT = "text/plain"


@dataclass(frozen=True, slots=True)
class Recognised:
    """What a file is.

    Attributes:
        kind: The format.
        warnings: Where name and content disagree, in words for people.
    """

    kind: FileKind
    warnings: tuple[str, ...] = ()


_EXTENSIONS = {
    ".pdf": FileKind.PDF,
    ".docx": FileKind.DOCX,
    ".docm": FileKind.DOCX,
    ".dotx": FileKind.DOCX,
    ".pptx": FileKind.PPTX,
    ".pptm": FileKind.PPTX,
    ".ppsx": FileKind.PPTX,
    ".xlsx": FileKind.XLSX,
    ".xlsm": FileKind.XLSX,
    ".epub": FileKind.EPUB,
    ".odt": FileKind.ODT,
    ".rtf": FileKind.RTF,
    ".html": FileKind.HTML,
    ".htm": FileKind.HTML,
    ".xhtml": FileKind.HTML,
    ".eml": FileKind.EMAIL,
    ".csv": FileKind.CSV,
    ".tsv": FileKind.CSV,
    ".md": FileKind.MARKDOWN,
    ".markdown": FileKind.MARKDOWN,
}
_TEXT_KINDS = {FileKind.HTML, FileKind.EMAIL, FileKind.CSV, FileKind.MARKDOWN, FileKind.TEXT}
_LABELS = {
    FileKind.PDF: "a PDF",
    FileKind.DOCX: "a Word document",
    FileKind.PPTX: "a PowerPoint presentation",
    FileKind.XLSX: "an Excel workbook",
    FileKind.EPUB: "an EPUB book",
    FileKind.ODT: "an OpenDocument text",
    FileKind.RTF: "an RTF document",
    FileKind.HTML: "a web page",
    FileKind.EMAIL: "an e-mail",
    FileKind.CSV: "a table",
    FileKind.MARKDOWN: "Markdown",
    FileKind.TEXT: "plain text",
}
_FOREIGN = (
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"II*\x00", "a TIFF picture"),
    (b"MM\x00*", "a TIFF picture"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"7z\xbc\xaf", "a 7-Zip archive"),
    (b"Rar!", "a RAR archive"),
    (b"\xfd7zXZ", "an xz archive"),
    (b"ID3", "an MP3 recording"),
    (b"OggS", "an Ogg recording"),
    (b"SQLite format 3", "an SQLite database"),
    (b"GGUF", "a model's weights"),
)
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_READABLE = "PDF, DOCX, PPTX, XLSX, CSV, HTML, Markdown, TXT, EPUB, EML, RTF and ODT can be read."
_MAIL_HEADER = re.compile(r"^(received|from|to|subject|date|message-id|mime-version|return-path):\s", re.I)


def recognise(path: Path, name: str) -> Recognised:
    """Find out what the file is.

    Args:
        path: The file.
        name: What the person calls it.

    Returns:
        The kind and, where the name promises another one, a warning.

    Raises:
        LoadError: No format that can be read, encrypted, damaged or a zip bomb.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    promised = _EXTENSIONS.get(Path(name).suffix.lower())
    kind = _binary_kind(path, name, head)
    if kind is None:
        if promised is not None and promised not in _TEXT_KINDS:
            raise LoadError(
                f"{name} is not {_LABELS[promised]}, although its name says so.",
                "corrupt",
                hint="It may be damaged or cut short: download or save it again.",
            )
        kind = _text_kind(head, name, promised)
    if promised is None or promised is kind:
        return Recognised(kind)
    return Recognised(
        kind, (f"{name} is {_LABELS[kind]}, not {_LABELS[promised]}; it was read as what it is.",)
    )


def _binary_kind(path: Path, name: str, head: bytes) -> FileKind | None:
    if b"%PDF-" in head[:1024]:
        return FileKind.PDF
    if head.lstrip()[:5] == rb"{\rtf":
        return FileKind.RTF
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return _zip_kind(path, name)
    if head.startswith(_OLE):
        _refuse_ole(path, name)
    for magic, label in _FOREIGN:
        # Two letters could begin a text too, so only a head with binary data counts as a program.
        if head.startswith(magic) and (len(magic) > 2 or b"\x00" in head):
            raise LoadError(f"{name} is {label}, which can't be read.", "unsupported", hint=_READABLE)
    return None


def _zip_kind(path: Path, name: str) -> FileKind:
    check_archive(path, name)
    media_type = main_media_type(path, name)
    for kind in (FileKind.DOCX, FileKind.PPTX, FileKind.XLSX, FileKind.EPUB, FileKind.ODT):
        if kind.value == media_type:
            return kind
    raise LoadError(f"{name} is a zip archive of a kind that can't be read.", "unsupported", hint=_READABLE)


def _refuse_ole(path: Path, name: str) -> None:
    with path.open("rb") as file:
        content = file.read(4_000_000)
    if "EncryptedPackage".encode("utf-16-le") in content:
        raise LoadError(
            f"{name} is protected with a password.", "encrypted", hint="Save a copy without the password."
        )
    raise LoadError(
        f"{name} is an Office file of before 2007, or a mail of Outlook.",
        "unsupported",
        hint="Save it as DOCX, XLSX, PPTX or EML and add it again.",
    )


def _text_kind(head: bytes, name: str, promised: FileKind | None) -> FileKind:
    text = decode(head, name, is_whole=len(head) < HEAD_BYTES).text.lstrip("\ufeff \t\r\n")
    start = text[:2000].lower()
    if start.startswith(("<!doctype html", "<html")) or (start.startswith("<?xml") and "<html" in start):
        return FileKind.HTML
    if promised is FileKind.HTML:
        return FileKind.HTML if re.search(r"<[a-z!/][^>]*>", text, re.I) else FileKind.TEXT
    if promised is FileKind.EMAIL or promised is None or promised is FileKind.TEXT:
        lines = text[:4000].splitlines()[:12]
        hits = {m.group(1).lower() for line in lines if (m := _MAIL_HEADER.match(line))}
        if len(hits) >= (1 if promised is FileKind.EMAIL else 3) and _MAIL_HEADER.match(lines[0]):
            return FileKind.EMAIL
        return FileKind.TEXT
    return promised
