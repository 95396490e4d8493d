"""Finds zip bombs before a parser unpacks them, and says which document a zip file is.

Place in the data's way: `recognise` calls this for every file that begins like a zip (DOCX, PPTX, XLSX,
EPUB, ODT). The central directory's sizes are checked first; then every member is inflated piece by piece
and its real bytes are counted, because the directory may lie. Archives within the archive count into the
same total.

Example:
    >>> Limits().max_unpacked_bytes
    1000000000
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from xml.etree import ElementTree

from ...core.errors import LoadError

_PIECE_BYTES = 1 << 20
_LOCAL_HEADER = struct.Struct("<4s22xHH")
_CONTENT_TYPES = "[Content_Types].xml"
_OOXML = (
    ("wordprocessingml.document", "wordprocessingml.document"),
    ("wordprocessingml.template", "wordprocessingml.document"),
    ("ms-word.document.macroenabled", "wordprocessingml.document"),
    ("ms-word.template.macroenabled", "wordprocessingml.document"),
    ("presentationml.presentation", "presentationml.presentation"),
    ("presentationml.slideshow", "presentationml.presentation"),
    ("presentationml.template", "presentationml.presentation"),
    ("ms-powerpoint.presentation.macroenabled", "presentationml.presentation"),
    ("ms-powerpoint.slideshow.macroenabled", "presentationml.presentation"),
    ("spreadsheetml.sheet", "spreadsheetml.sheet"),
    ("spreadsheetml.template", "spreadsheetml.sheet"),
    ("ms-excel.sheet.macroenabled", "spreadsheetml.sheet"),
    ("ms-excel.template.macroenabled", "spreadsheetml.sheet"),
)


@dataclass(frozen=True, slots=True)
class Limits:
    """What an honest document never reaches.

    Attributes:
        max_members: Files in one archive, those of archives inside included.
        max_unpacked_bytes: All of them unpacked.
        max_ratio: Unpacked size over packed size of one member, looked at above `ratio_from_bytes`. Office
            XML reaches about 30, sheets of equal rows 100; DEFLATE cannot exceed 1032.
        ratio_from_bytes: Smaller members may have any ratio.
        max_depth: Archives within archives.
    """

    max_members: int = 20_000
    max_unpacked_bytes: int = 1_000_000_000
    max_ratio: float = 200.0
    ratio_from_bytes: int = 10_000_000
    max_depth: int = 2


@dataclass
class _Tally:
    members: int = 0
    unpacked_bytes: int = 0


def check_archive(path: Path, name: str, limits: Limits | None = None) -> None:
    """Refuse a zip file that would unpack to far more than it is.

    Args:
        path: The file.
        name: Its name, for messages.
        limits: What is allowed; None for the defaults.

    Raises:
        LoadError: A bomb, encrypted, or damaged.
    """
    with path.open("rb") as file:
        _check(file, name, limits or Limits(), _Tally(), depth=0)


def main_media_type(path: Path, name: str) -> str:
    """Return the media type that the archive's own declaration gives, or "" where it has none.

    Args:
        path: A file that `check_archive` has passed.
        name: Its name, for messages.

    Raises:
        LoadError: Damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = set(archive.namelist())
            if "mimetype" in members:
                return archive.read("mimetype")[:200].decode("ascii", "replace").strip()
            if "META-INF/container.xml" in members:
                return "application/epub+zip"
            if _CONTENT_TYPES not in members:
                return ""
            declared = {
                element.get("ContentType", "").lower()
                for element in ElementTree.fromstring(archive.read(_CONTENT_TYPES)).iter()
            }
    except (zipfile.BadZipFile, ElementTree.ParseError, OSError, ValueError, zlib.error) as exc:
        raise _damaged(name) from exc
    for fragment, kind in _OOXML:
        if any(fragment + ".main+xml" in media_type for media_type in declared):
            return "application/vnd.openxmlformats-officedocument." + kind
    return ""


def _check(file: IO[bytes], name: str, limits: Limits, tally: _Tally, depth: int) -> None:
    if depth > limits.max_depth:
        raise _bomb(name, f"archives are packed inside archives more than {limits.max_depth} deep")
    try:
        members = zipfile.ZipFile(file).infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as exc:
        raise _damaged(name) from exc
    if any(member.flag_bits & 1 for member in members):
        raise LoadError(
            f"{name} is protected with a password.", "encrypted", hint="Save a copy without the password."
        )
    tally.members += len(members)
    if tally.members > limits.max_members:
        raise _bomb(name, f"it holds more than {limits.max_members:,} files")
    declared = sum(member.file_size for member in members)
    if tally.unpacked_bytes + declared > limits.max_unpacked_bytes:
        raise _bomb(name, f"it unpacks to {declared:,} bytes")
    for member in members:
        _check_ratio(name, member.filename, member.file_size, member.compress_size, limits)
    _check_overlap(members, name)
    for member in members:
        _count(file, member, name, limits, tally, depth)


def _check_overlap(members: list[zipfile.ZipInfo], name: str) -> None:
    # Members that share bytes turn kilobytes into petabytes without nesting (Fifield, WOOT 2019).
    end = 0
    for member in sorted(members, key=lambda member: member.header_offset):
        if member.header_offset < end:
            raise _bomb(name, "its files share the same packed bytes")
        end = member.header_offset + _LOCAL_HEADER.size + member.compress_size


def _count(
    file: IO[bytes], member: zipfile.ZipInfo, name: str, limits: Limits, tally: _Tally, depth: int
) -> None:
    file.seek(member.header_offset)
    header = file.read(_LOCAL_HEADER.size)
    if len(header) < _LOCAL_HEADER.size or header[:4] != b"PK\x03\x04":
        raise _damaged(name)
    _, name_length, extra_length = _LOCAL_HEADER.unpack(header)
    file.seek(name_length + extra_length, io.SEEK_CUR)
    if member.compress_type == zipfile.ZIP_STORED:
        tally.unpacked_bytes += member.compress_size
        prefix = file.read(4) if member.compress_size >= 4 else b""
        file.seek(-len(prefix), io.SEEK_CUR)
        size = member.compress_size
    elif member.compress_type == zipfile.ZIP_DEFLATED:
        size, prefix = _inflate(file, member, name, limits, tally)
    else:
        raise LoadError(
            f"{name} is packed in a way that documents don't use.", "unsupported", hint="Save it again."
        )
    if size > member.file_size:
        raise _bomb(name, f"{member.filename} is larger than the archive says")
    if prefix == b"PK\x03\x04":
        with zipfile.ZipFile(file) as archive:
            inner = io.BytesIO(archive.read(member))
        _check(inner, name, limits, tally, depth + 1)


def _inflate(
    file: IO[bytes], member: zipfile.ZipInfo, name: str, limits: Limits, tally: _Tally
) -> tuple[int, bytes]:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    left, size, prefix = member.compress_size, 0, b""
    pending = b""
    while not inflater.eof and (left > 0 or pending):
        if not pending:
            pending = file.read(min(_PIECE_BYTES, left))
            left -= len(pending)
            if not pending:
                raise _damaged(name)
        try:
            piece = inflater.decompress(pending, _PIECE_BYTES)
        except zlib.error as exc:
            raise _damaged(name) from exc
        pending = inflater.unconsumed_tail
        prefix = prefix or piece[:4]
        size += len(piece)
        tally.unpacked_bytes += len(piece)
        if tally.unpacked_bytes > limits.max_unpacked_bytes:
            raise _bomb(name, f"it unpacks to more than {limits.max_unpacked_bytes:,} bytes")
        _check_ratio(name, member.filename, size, member.compress_size, limits)
    return size, prefix


def _check_ratio(name: str, member: str, size: int, packed: int, limits: Limits) -> None:
    if size > limits.ratio_from_bytes and size > limits.max_ratio * max(packed, 1):
        raise _bomb(name, f"{member} unpacks to {size / max(packed, 1):,.0f} times its size")


def _bomb(name: str, why: str) -> LoadError:
    return LoadError(
        f"{name} looks like a zip bomb: {why}.",
        "archive_bomb",
        hint="If you trust it, open it in its own program and save it anew.",
    )


def _damaged(name: str) -> LoadError:
    return LoadError(f"{name} is damaged or cut short.", "corrupt", hint="Download or save it again.")
