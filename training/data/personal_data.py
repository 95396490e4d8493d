"""Finds what points to a person or their money: e-mail, phone, bank account, credit card, network address.

Place in the data's way: one stage of the quality filter, before anything is written to disk. What a model was
trained on it may say to anyone.

Example:
    >>> redacted("Write to ann@example.org or call +49 30 901820.")[0]
    'Write to [EMAIL] or call [PHONE].'
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, TypeAlias

from ...core.types import Message
from .filter import Judgement
from .rows import TrainingRow, spans_of

PersonalDataAction: TypeAlias = Literal["keep", "redact", "drop"]

# Every repetition is bounded and every start is at a border, so that no text takes more than linear time.
_EMAIL = re.compile(
    r"(?<![\w.%+-])[\w.%+-]{1,64}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,8}[A-Za-z]{2,24}\b"
)
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")
_CARD = re.compile(r"(?<![\w.-])\d(?:[ -]?\d){12,18}(?![\w-])")
_IPV4 = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w.]*\d)")
_IPV6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?![\w:])")
# With a country's code, with brackets or in the American form, or from 0 on: bare figures stay.
_PHONE = re.compile(
    r"(?<![\w.+-])(?<!\d )(?:"
    r"\+\d(?:[ ./-]?\(?\d\)?){6,14}"
    r"|\((?:0\d{1,4}|\d{3})\)[ -]?\d{2,4}(?:[ -]?\d{2,4}){1,2}"
    r"|\d{3}([-.])\d{3}\1\d{4}"
    r"|0\d{1,4}[ /-]\d{2,4}(?:[ -]?\d{2,4}){1,3}"
    r")(?![\w-])"
)


class PersonalDataRule:
    """Drops or redacts rows with personal data.

    Names, postal addresses and numbers of other kinds are not found, nor is what is spelled out or broken by
    line ends. A version such as 1.2.3.4 is taken for a machine's address, and one in ten other numbers of 13
    to 19 digits for a card's.
    """

    name = "personal data"

    def __init__(self, action: PersonalDataAction = "redact") -> None:
        """Keep what to do.

        Raises:
            ValueError: `action` is neither "redact" nor "drop".
        """
        if action not in ("redact", "drop"):
            raise ValueError(f"action must be 'redact' or 'drop', not {action!r}")
        self._action = action

    def judge(self, rows: Iterable[TrainingRow]) -> Iterator[Judgement]:
        """Judge each row by itself; the reason names the kinds that were found."""
        for row in rows:
            done = [redacted(message.content) for message in row.messages]
            references = [redacted(text) for text in row.reference]
            kinds = sorted({kind for _, found in (*done, *references) for kind in found})
            if not kinds:
                yield Judgement(row)
            elif self._action == "drop":
                yield Judgement(None, ", ".join(kinds))
            else:
                messages = tuple(
                    Message(m.role, text) for m, (text, _) in zip(row.messages, done, strict=True)
                )
                reference = tuple(text for text, _ in references)
                changed = dataclasses.replace(
                    row, messages=messages, reference=reference, spans=_moved(row, messages)
                )
                yield Judgement(changed, f"redacted: {', '.join(kinds)}")


def _moved(row: TrainingRow, messages: tuple[Message, ...]) -> tuple[tuple[int, int, int], ...]:
    """Return where the row's own texts stand in the redacted messages."""
    own: dict[bool, list[str]] = {False: [], True: []}
    for i, start, end in row.spans:
        own[i == len(messages) - 1].append(redacted(row.messages[i].content[start:end])[0])
    return spans_of(messages, own[False], own[True])


def redacted(text: str) -> tuple[str, frozenset[str]]:
    """Return (the text with each find replaced by its kind in brackets, the kinds found)."""
    found: set[str] = set()
    for kind, pattern, is_real in _KINDS:

        def replacement(match: re.Match[str], kind: str = kind, is_real: _Check = is_real) -> str:
            end = next((end for end in _ends(match[0]) if is_real(match[0][:end])), 0)
            if not end:
                return match[0]
            found.add(kind)
            return f"[{kind}]{match[0][end:]}"

        text = pattern.sub(replacement, text)
    return text, frozenset(found)


_Check: TypeAlias = Callable[[str], bool]


def _ends(text: str) -> list[int]:
    """Return where a find may end: at its end, or before a space, for it may have taken in the next word."""
    return [len(text), *(place for place in range(len(text) - 1, 0, -1) if text[place] == " ")]


def _is_iban(text: str) -> bool:
    """Check the two digits after the country. Source: ISO 13616, ISO 7064 MOD 97-10."""
    compact = text.replace(" ", "")
    digits = "".join(str(int(character, 36)) for character in compact[4:] + compact[:4])
    return 15 <= len(compact) <= 34 and int(digits) % 97 == 1


def _is_card(text: str) -> bool:
    """Check the last digit. Source: ISO/IEC 7812-1, annex B (Luhn)."""
    digits = [int(character) for character in text if character.isdigit()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return len(digits) >= 13 and any(digits) and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _is_address(text: str) -> bool:
    """Check that it names a machine; loopback addresses don't, and without a digit it may be `Abc::Def`."""
    if not any(character.isdigit() for character in text):
        return False
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_unspecified)


def _is_phone(text: str) -> bool:
    """Check the number of digits: a date written from the day has 8. Source: ITU-T E.164, at most 15."""
    num_digits = sum(character.isdigit() for character in text)
    return (7 if text.startswith("+") else 9) <= num_digits <= 15


# In this order: an account or card number may contain what looks like a phone's.
_KINDS: tuple[tuple[str, re.Pattern[str], _Check], ...] = (
    ("EMAIL", _EMAIL, lambda text: True),
    ("IBAN", _IBAN, _is_iban),
    ("CREDIT CARD", _CARD, _is_card),
    ("IP ADDRESS", _IPV4, _is_address),
    ("IP ADDRESS", _IPV6, _is_address),
    ("PHONE", _PHONE, _is_phone),
)
