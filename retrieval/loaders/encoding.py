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
# What people's files are in. Others (EBCDIC, the old Macintosh) fit almost any bytes and are wrong guesses.
_CANDIDATES = (
    *("cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp1258", "koi8_r"),
    *("shift_jis", "euc_jp", "iso2022_jp", "gb18030", "big5", "euc_kr", "cp874"),
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
    encoding = next((mark for bom, mark in _BOMS if content.startswith(bom)), None)
    has_zeros = content.count(0) > len(content) * MAX_CONTROL_SHARE
    if encoding is None and has_zeros:
        encoding = _utf16_without_mark(content)
    if encoding is not None:
        return _checked(_loose(content, encoding, is_whole), name, ())
    try:
        return _checked(_strict(content, "utf-8", is_whole), name, ())
    except UnicodeDecodeError as exc:
        if has_zeros:
            raise _not_text(name) from exc
    encoding = _guess(content[:_GUESS_BYTES])
    return _checked(content.decode(encoding, "replace"), name, (f"The encoding was guessed: {encoding}.",))


def _strict(content: bytes, encoding: str, is_whole: bool) -> str:
    return codecs.getincrementaldecoder(encoding)("strict").decode(content, is_whole)


def _loose(content: bytes, encoding: str, is_whole: bool) -> str:
    return codecs.getincrementaldecoder(encoding)("replace").decode(content, is_whole)


def _utf16_without_mark(content: bytes) -> str | None:
    sample = content[: min(len(content), 4096) & ~1]
    for encoding in ("utf-16-le", "utf-16-be"):
        text = sample.decode(encoding, "replace")
        spaces = sum(text.count(char) for char in " \n\u3000\u3002")
        # Half of all 16-bit numbers are letters of some script, so spaces, which are not, decide.
        if "\ufffd" not in text[:-1] and spaces > 0.02 * len(text) and not _CONTROL.search(text):
            return encoding
    return None


def _guess(sample: bytes) -> str:
    from charset_normalizer import from_bytes

    best = from_bytes(sample, cp_isolation=list(_CANDIDATES)).best()
    return best.encoding if best is not None else _CANDIDATES[0]


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
