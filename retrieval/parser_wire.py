"""What the parser process and its parent say to each other, as JSON in frames.

Place in the data's way: between `parser_worker`, which may have been taken over by a hostile file, and
`parser_process`, which must not be. So nothing is unpickled: every value is checked on its way into our
dataclasses.

Example:
    >>> from .loaded import Block
    >>> document = LoadedDocument("text/plain", (Block("Tea"),), None)
    >>> decode_document(encode_document(document)) == document
    True
"""

from __future__ import annotations

import json
import struct
from typing import Any, cast, get_args

from ..core.errors import LoadError, LoadReason
from ..core.types import Box
from .loaded import Block, LineBox, LoadedDocument

HEADER = struct.Struct(">cQ")
"""Before every frame: its kind (one of the bytes below) and the length of its payload in bytes."""

READY, DOCUMENT, PICTURE, FAILURE = b"R", b"D", b"P", b"F"

_KINDS = ("heading", "paragraph", "list", "table", "code")


class WireError(Exception):
    """The other side said something that it never says when it is well."""


def encode_document(document: LoadedDocument) -> bytes:
    """Write a document as JSON."""
    blocks = [
        [
            block.text,
            block.kind,
            block.level,
            block.page,
            [
                [line.start_char, line.end_char, box.page, box.left, box.top, box.right, box.bottom]
                for line in block.lines
                for box in (line.box,)
            ],
        ]
        for block in document.blocks
    ]
    whole = [document.media_type, blocks, document.num_pages, document.title, document.warnings]
    return json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def decode_document(payload: bytes) -> LoadedDocument:
    """Read a document back.

    Args:
        payload: What `encode_document` wrote, or what a hostile file made of it.

    Raises:
        WireError: It is not a whole and consistent document.
    """
    try:
        media_type, blocks, num_pages, title, warnings = json.loads(payload)
        return LoadedDocument(
            _text(media_type),
            tuple(_block(block) for block in blocks),
            _optional_number(num_pages),
            _text(title),
            tuple(_text(warning) for warning in warnings),
        )
    except (ValueError, TypeError, KeyError, RecursionError) as exc:
        raise WireError("not a document") from exc


def encode_failure(error: LoadError) -> bytes:
    """Write an error as JSON."""
    return json.dumps([str(error), error.reason, error.hint]).encode()


def decode_failure(payload: bytes) -> LoadError:
    """Read an error back.

    Args:
        payload: What `encode_failure` wrote.

    Raises:
        WireError: It is not an error.
    """
    try:
        message, reason, hint = json.loads(payload)
        if reason not in get_args(LoadReason):
            raise WireError("an unknown reason")
        return LoadError(_text(message), cast(LoadReason, reason), _text(hint))
    except (ValueError, TypeError, RecursionError) as exc:
        raise WireError("not an error") from exc


def _block(value: Any) -> Block:
    text, kind, level, page, lines = value
    if kind not in _KINDS:
        raise ValueError(kind)
    boxes = tuple(_line(line, len(text)) for line in lines)
    return Block(_text(text), kind, _number(level), _optional_number(page), boxes)


def _line(value: Any, length: int) -> LineBox:
    start, end, page, *edges = value
    left, top, right, bottom = (float(edge) for edge in edges)
    if not (0 <= _number(start) <= _number(end) <= length):
        raise ValueError(value)
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise ValueError(value)
    return LineBox(start, end, Box(_number(page), left, top, right, bottom))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _number(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise TypeError(value)
    return value


def _optional_number(value: Any) -> int | None:
    return None if value is None else _number(value)
