r"""Untrusted text made safe to show: names, questions, document text and the model's own words.

Place in the data's way: everything that comes from a document, a person or the model passes here before it
reaches Streamlit, whose labels and messages are Markdown (a document named `![x](http://host/a.png).pdf`
would otherwise make the browser fetch that picture).

Example:
    >>> plain("*a*.pdf")
    '\\*a\\*\\.pdf'
    >>> safe_markdown("See ![a](http://host/a.png)")
    'See !\\[a](http://host/a.png)'
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

from ..core.types import Citation

_PUNCTUATION = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>~:$&^=])")
_CODE = re.compile(r"(```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)|`[^`\n]+`)", re.DOTALL)
_MONEY = re.compile(r"(?<!\\)\$(?=\s?\d)")
_MARKER = re.compile(r"\[(\d{1,3})\](?!\()")


def plain(text: str) -> str:
    """Return Markdown that shows `text` letter by letter, on one line."""
    return _PUNCTUATION.sub(r"\\\1", " ".join(text.split()))


def escaped(text: str) -> str:
    """Return HTML that shows `text` letter by letter, line breaks kept by the style sheet."""
    return html.escape(text, quote=True)


def safe_markdown(text: str) -> str:
    """Return `text` as Markdown that loads nothing from anywhere.

    Pictures are the one thing in Markdown that the browser fetches without a click, and no picture can
    begin without "![". So every "![" is broken, in code too: whoever skipped code would have to read code
    fences exactly as the browser's Markdown parser does, and a text that the two read differently would slip
    through. It is left alone only where no link target stands anywhere in the text.
    """
    if "](" in text or "][" in text or "]:" in text:
        text = text.replace("![", "!\\[")
    return "".join(part if is_code else _MONEY.sub(r"\\$", part) for part, is_code in _code_and_prose(text))


def with_markers(text: str, citations: Iterable[Citation]) -> str:
    """Return safe Markdown in which the `[n]` of real citations stand out, unsupported ones marked "?"."""
    supported: dict[int, bool] = {}
    for citation in citations:
        supported[citation.number] = supported.get(citation.number, True) and citation.is_supported

    def badge(match: re.Match[str]) -> str:
        number = int(match.group(1))
        if number not in supported:
            return match.group(0)
        return f":blue-badge[{number}]" if supported[number] else f":orange-badge[{number}?]"

    return "".join(
        part if is_code else _MARKER.sub(badge, part)
        for part, is_code in _code_and_prose(safe_markdown(text))
    )


def highlighted(text: str, quote: str) -> str:
    """Return HTML of `text` with `quote` marked, white space in the two compared loosely."""
    words = [re.escape(word) for word in quote.split()]
    match = re.search(r"\s+".join(words), text) if words else None
    if match is None:
        return escaped(text)
    before, after = text[: match.start()], text[match.end() :]
    return f"{escaped(before)}<mark>{escaped(match.group(0))}</mark>{escaped(after)}"


def _code_and_prose(text: str) -> list[tuple[str, bool]]:
    return [(part, index % 2 == 1) for index, part in enumerate(_CODE.split(text))]
