r"""JSON strings with a pattern, a format or a length, as GBNF.

Place in the data's way: `schema_grammar` asks for the strings that a schema allows, quotes and escapes
included.

Example:
    >>> from .gbnf import Rules
    >>> string_rule(Rules(), {"maxLength": 2}, "code")
    '"\\"" char{0,2} "\\""'
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .gbnf import ALL, MAX_REPEATS, Intervals, Rules, char_set, common, literal, repeat, union, without
from .regex import RegexWriter, parse_regex

_QUOTE = r'"\""'
# What stands for itself inside a JSON string; DEL is left out, as no one writes it on purpose.
_RAW = without(ALL, [(1, 31), (34, 34), (92, 92), (127, 127)])
_HEX = "[0-9A-Fa-f]"
# Half a surrogate pair is left out: it is no character, and Python can't encode it.
_ESCAPE = rf'"\\" (["\\/bfnrt] | "u" ([0-9A-CEFa-cef] {_HEX}{{3}} | [Dd] [0-7] {_HEX}{{2}}))'
_SHORT_ESCAPES = {8: r"\b", 9: r"\t", 10: r"\n", 12: r"\f", 13: r"\r", 34: r"\"", 92: r"\\"}

_DATE = (
    r"\d{4}-((0[13578]|1[02])-(0[1-9]|[12]\d|3[01])|(0[469]|11)-(0[1-9]|[12]\d|30)|02-(0[1-9]|1\d|2[0-8]))"
)
_TIME = r"([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,6})?"
_ZONE = r"(Z|[+-]([01]\d|2[0-3]):[0-5]\d)"
_OCTET = r"(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_MAIL = "[A-Za-z0-9_+-]"
_FORMATS = {
    # 29 February is left out: only one year in four has it. The year 0 does not exist.
    "date": "(?:" + _DATE.replace(r"\d{4}", r"(0\d\d[1-9]|0\d[1-9]0|0[1-9]00|[1-9]\d{3})", 1) + ")",
    "time": _TIME + _ZONE,
    "duration": r"P(\d{1,4}D(T\d{1,2}H(\d{1,2}M)?)?|T\d{1,4}(H(\d{1,2}M(\d{1,2}S)?)?|M(\d{1,2}S)?|S))",
    "email": rf"{_MAIL}{{1,32}}(\.{_MAIL}{{1,16}})?@{_LABEL}(\.{_LABEL}){{0,2}}\.[A-Za-z]{{2,12}}",
    "hostname": rf"{_LABEL}(\.{_LABEL}){{0,4}}",
    "ipv4": rf"{_OCTET}(\.{_OCTET}){{3}}",
    "ipv6": r"([0-9A-Fa-f]{1,4}:){7}[0-9A-Fa-f]{1,4}",
    "uri": rf"https?://{_LABEL}(\.{_LABEL}){{0,4}}(:[1-9]\d{{0,3}})?(/[A-Za-z0-9._~-]*)*(\?[A-Za-z0-9._~=&-]*)?(#[A-Za-z0-9._~-]*)?",
    "uuid": r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
}
_FORMATS["date-time"] = f"{_FORMATS['date']}T{_TIME}{_ZONE}"
_FORMATS |= {"uuid4": r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"}
_FREE_FORMATS = frozenset({"password", "path", "file-path", "directory-path", "text", "textarea"})
"""Formats that any text has."""


def any_string(rules: Rules) -> str:
    """Return the rule for any JSON string."""
    return rules.add("string", f"{_QUOTE} {_char(rules)}* {_QUOTE}")


def string_rule(rules: Rules, schema: dict[str, Any], name: str) -> str:
    """Return the expression for the strings that `pattern`, `format`, `minLength` and `maxLength` allow.

    Raises:
        ValueError: The pattern or format is unknown here, or stands beside another of the four.
    """
    low, high = schema.get("minLength", 0), schema.get("maxLength")
    form = schema.get("format")
    form = None if form in _FREE_FORMATS else form
    for key, value in (("minLength", low), ("maxLength", high)):
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
            raise ValueError(f"{key!r} must be a whole number, not {value!r}")
        if value is not None and value > MAX_REPEATS:
            raise ValueError(f"{key!r} is over {MAX_REPEATS}")
    if high is not None and low > high:
        raise ValueError("'minLength' is greater than 'maxLength'")
    is_given = {
        "pattern": "pattern" in schema,
        "format": form is not None,
        "minLength": low > 0,
        "maxLength": high is not None,
    }
    given = [key for key, is_there in is_given.items() if is_there]
    if len(given) > 1 and given != ["minLength", "maxLength"]:
        raise ValueError(f"{given[0]!r} beside {given[1]!r} is not possible: put both into one 'pattern'")
    if "pattern" in schema:
        return _quoted(rules, str(schema["pattern"]), name, is_search=True)
    if form:
        if form not in _FORMATS:
            raise ValueError(f"the 'format' {form!r} is unknown; known are {', '.join(sorted(_FORMATS))}")
        return _quoted(rules, _FORMATS[form], str(form), is_search=False)
    if high is None and not low:
        return any_string(rules)
    return f"{_QUOTE} {repeat(_char(rules), low, high)} {_QUOTE}" if high != 0 else r'"\"\""'


def key_other_than(rules: Rules, names: Iterable[str]) -> str:
    """Return the rule for strings, written without escapes, that are none of `names`."""
    anything = f"{char_set(_RAW)}*"

    def node(tails: set[str]) -> str:
        heads = {tail[0] for tail in tails if tail}
        own = union((ord(head), ord(head)) for head in heads)
        parts = [f"{char_set(without(_RAW, own))} {anything}"]
        for head in sorted(heads):
            if common(_RAW, [(ord(head), ord(head))]):
                parts.append(f"{literal(head)} {node({tail[1:] for tail in tails if tail[:1] == head})}")
        return rules.add("other", " | ".join(parts + ([] if "" in tails else ['""'])))

    return rules.add("key", f"{_QUOTE} {node(set(names))} {_QUOTE}")


def _quoted(rules: Rules, pattern: str, name: str, *, is_search: bool) -> str:
    writer = RegexWriter(rules, name, lambda intervals: _inside_string(rules, intervals))
    return rules.add(name, f"{_QUOTE} {writer.write(parse_regex(pattern, is_search=is_search))} {_QUOTE}")


def _inside_string(rules: Rules, intervals: Intervals) -> str:
    """Return the expression for one character of a set as it is written inside a JSON string."""
    raw = common(_RAW, intervals)
    parts = [char_set(raw)] if raw else []
    for first, last in common(intervals, [(1, 31), (34, 34), (92, 92), (127, 127)]):
        parts += [literal(_SHORT_ESCAPES.get(code, f"\\u{code:04x}")) for code in range(first, last + 1)]
    if len(parts) == 1:
        only = raw and raw[0][0] == raw[0][1] and len(raw) == 1
        return literal(chr(raw[0][0])) if only else parts[0]
    return rules.add("char", " | ".join(parts))


def _char(rules: Rules) -> str:
    return rules.add("char", f"{char_set(_RAW)} | {_ESCAPE}")
