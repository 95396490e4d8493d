"""Bytes of a text file to characters, whatever the encoding.

Place in the data's way: used by every loader of a text format. A byte-order mark decides, then strict
UTF-8, then the pattern of zero bytes that UTF-16 leaves, then a statistical guess, which is reported as
one.

Example:
    >>> decode("naïve".encode("utf-16"), "note.txt").text
    'naïve'
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

from ...core.errors import LoadError

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_GUESS_BYTES = 65_536
_CONTROL = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
MAX_CONTROL_SHARE = 0.01


@dataclass(frozen=True, slots=True)
class Decoded:
    r"""A text and what had to be assumed for it.

    Attributes:
        text: The characters, line ends as `\n`.
        warnings: The encoding where it was guessed, in words for people.
    """

    text: str
    warnings: tuple[str, ...] = ()


def decode(content: bytes, name: str, *, is_whole: bool = True) -> Decoded:
    """Decode a text file.

    Args:
        content: Its bytes.
        name: Its name, for messages.
        is_whole: False for the beginning of a file, which may end within a character.

    Returns:
        The text.

    Raises:
        LoadError: The bytes are not text.
    """
    encoding = next((name for bom, name in _BOMS if content.startswith(bom)), None)
    if encoding is None:
        try:
            return _checked(_strict(content, "utf-8", is_whole), name, ())
        except UnicodeDecodeError:
            encoding = _utf16_pattern(content)
    if encoding is not None:
        return _checked(_loose(content, encoding, is_whole), name, ())
    if content.count(0) > len(content) * MAX_CONTROL_SHARE:
        raise _not_text(name)
    encoding = _guess(content[:_GUESS_BYTES])
    return _checked(content.decode(encoding, "replace"), name, (f"The encoding was guessed: {encoding}.",))


def _strict(content: bytes, encoding: str, is_whole: bool) -> str:
    return codecs.getincrementaldecoder(encoding)("strict").decode(content, is_whole)


def _loose(content: bytes, encoding: str, is_whole: bool) -> str:
    return codecs.getincrementaldecoder(encoding)("replace").decode(content, is_whole)


def _utf16_pattern(content: bytes) -> str | None:
    sample = content[: min(len(content), 4096) & ~1]
    half = len(sample) // 2
    if half < 4:
        return None
    zeros_low, zeros_high = sample[::2].count(0), sample[1::2].count(0)
    if zeros_high > 0.7 * half and zeros_low < 0.05 * half:
        return "utf-16-le"
    if zeros_low > 0.7 * half and zeros_high < 0.05 * half:
        return "utf-16-be"
    return None


def _guess(sample: bytes) -> str:
    from charset_normalizer import from_bytes

    best = from_bytes(sample).best()
    return best.encoding if best is not None else "cp1252"


def _checked(text: str, name: str, warnings: tuple[str, ...]) -> Decoded:
    sample = text[:200_000]
    suspicious = len(_CONTROL.findall(sample)) + sample.count("\ufffd")
    if suspicious > max(2, len(sample) * MAX_CONTROL_SHARE):
        raise _not_text(name)
    return Decoded(text.replace("\r\n", "\n").replace("\r", "\n"), warnings)


def _not_text(name: str) -> LoadError:
    return LoadError(
        f"{name} holds binary data, not text.",
        "unsupported",
        hint="PDF, DOCX, PPTX, XLSX, CSV, HTML, Markdown, TXT, EPUB, EML, RTF and ODT can be read.",
    )
