r"""E-mails: headers, body and the attachments that are text.

Place in the data's way: `load_document` calls `load_mail`. Other attachments are named in a warning;
whoever wants them searched adds them as files.

Example:
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "m.eml"
    >>> _ = path.write_text("From: a@example.org\nSubject: Tea\n\nAt four?")
    >>> load_mail(path, "m.eml", FileKind.EMAIL).title
    'Tea'
"""

from __future__ import annotations

from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from pathlib import Path
from typing import cast

from ...core.errors import LoadError
from ..loaded import Block, LoadedDocument
from .encoding import decode
from .html import html_blocks
from .plain import csv_blocks, markdown_blocks, text_blocks
from .recognise import FileKind

_HEADERS = ("From", "To", "Cc", "Date", "Subject")
MAX_PARTS = 1000


def load_mail(path: Path, name: str, kind: FileKind) -> LoadedDocument:
    """Read an e-mail as saved by a mail program.

    Args:
        path: The file.
        name: Its name, for messages.
        kind: Its format.

    Raises:
        LoadError: The message is too broken to be cut into parts.
    """
    try:
        with path.open("rb") as file:
            message = BytesParser(policy=policy.default).parse(file)
        return _read(message, name, kind)
    except (ValueError, LookupError, AttributeError, TypeError, RecursionError) as exc:
        # The standard library's parser raises all of these on malformed headers and parts.
        raise LoadError(f"{name} is a damaged e-mail.", "corrupt", hint="Save it anew.") from exc


def _read(message: EmailMessage, name: str, kind: FileKind) -> LoadedDocument:
    headers = [f"{key}: {value}" for key in _HEADERS if (value := _header(message, key))]
    subject = _header(message, "Subject")
    blocks = [Block(subject, "heading", 1)] if subject else []
    blocks += [Block("\n".join(headers))] if headers else []
    blocks += _body(message, name)
    warnings = []
    for number, part in enumerate(message.walk()):
        if number >= MAX_PARTS:
            warnings.append(f"Only the first {MAX_PARTS} parts of the e-mail were read.")
            break
        title = part.get_filename()
        if not title and not (part.get_content_disposition() == "attachment"):
            continue
        attached = _attachment(part, title or "attachment")
        if attached is None:
            warnings.append(f"The attachment {title or 'without a name'} was not read; add it as a file.")
        else:
            blocks += [Block(f"Attachment: {title}", "heading", 2), *attached]
    return LoadedDocument(kind.value, tuple(blocks), None, subject, tuple(warnings))


def _header(message: EmailMessage, key: str) -> str:
    value = message.get(key)
    return " ".join(str(value).split()) if value else ""


def _body(message: EmailMessage, name: str) -> list[Block]:
    body = message.get_body(preferencelist=("plain", "html"))
    if body is None:
        return []
    text = _text(cast(EmailMessage, body), name)
    return list(html_blocks(text) if body.get_content_subtype() == "html" else text_blocks(text))


def _attachment(part: EmailMessage, title: str) -> list[Block] | None:
    if part.get_content_maintype() != "text":
        return None
    try:
        text = _text(part, title)
        suffix = Path(title).suffix.lower()
        if part.get_content_subtype() == "html":
            return list(html_blocks(text))
        if suffix in (".csv", ".tsv"):
            return list(csv_blocks(text, title))
        return list(markdown_blocks(text) if suffix == ".md" else text_blocks(text))
    except LoadError:
        return None


def _text(part: EmailMessage, name: str) -> str:
    content = part.get_payload(decode=True)
    if not isinstance(content, bytes):
        return ""
    charset = part.get_content_charset()
    if charset:
        try:
            return content.decode(charset).replace("\r\n", "\n")
        except (LookupError, UnicodeDecodeError):
            pass  # a wrong label; the bytes are looked at instead
    return decode(content, name).text if content else ""
