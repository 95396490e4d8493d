"""The words that carry a text's meaning: what overlap between texts is counted in.

Place in the data's way: the budget compares passages with it, citations compare claims with passages, and the
strategy sees whether a rewritten question kept the words of the question. Lexical on purpose: it costs
microseconds, and what it decides can be read off the texts.

Example:
    >>> sorted(content_words("The 8,646 miles that Luther walked"))
    ['8646', 'luther', 'mil', 'walk']
"""

from __future__ import annotations

import re
import unicodedata

_CJK = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\u0e00-\u0eff"
_TOKEN = re.compile(rf"\d+(?:[.,:]\d+)+|[{_CJK}]+|[^\W_{_CJK}]+(?:['’][^\W\d_]+)?")
_IS_CJK = re.compile(rf"[{_CJK}]")
_ORDINAL = re.compile(r"(\d+)(?:st|nd|rd|th|s)")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")

_NUMBER_WORDS = {
    word: str(value)
    for value, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
        "sixteen seventeen eighteen nineteen twenty".split()
    )
    if word != "one"  # as often a pronoun as a number
}

STOPWORDS = frozenset(
    """a about above after again all also although am an and any are as at be because been before being below
    between both but by can could did do does doing don down during each either else etc ever few for from
    further get gets got had has have having he her here hers herself him himself his how however i if in into
    is it its itself just let like may me might more most much must my myself neither no nor not of off on
    once one only or other others ought our ours ourselves out over own per rather same shall she should since
    so some such than that the their theirs them themselves then there these they this those though through
    thus to too under until up upon us very was we were what when where whether which while who whom whose why
    will with within without would yes yet you your yours yourself
    according answer called known many passage document documents question""".split()
)


def content_words(text: str) -> set[str]:
    """Return the stems of the words that are not stop words, numbers in one form."""
    return set(_stems(text))


def numbers(text: str) -> set[str]:
    """Return the numbers of a text, "8,646" as "8646", "six" as "6", "50th" as "50"."""
    return {stem for stem in _stems(text) if stem[0].isdigit()}


def names(text: str) -> set[str]:
    """Return the stems of words written as names: capitalised in mid-sentence, or with inner capitals."""
    found = set()
    is_start = True
    for match in _TOKEN.finditer(text):
        word = match.group()
        between = text[: match.start()].rstrip()[-1:]
        is_start = not between or between in ".!?:;\"“'*([-•"
        is_name = (word[0].isupper() and not is_start) or any(char.isupper() for char in word[1:])
        if is_name and len(word) > 1 and word.casefold() not in STOPWORDS:
            found.update(_stems(word))
    return found


def _stems(text: str) -> list[str]:
    stems = []
    for word in _TOKEN.findall(unicodedata.normalize("NFKC", text)):
        if _IS_CJK.match(word):
            stems += [word[i : i + 2] for i in range(max(1, len(word) - 1))]
            continue
        word = word.casefold().replace("’", "'")
        if word in STOPWORDS or word.split("'")[0] in STOPWORDS:
            continue
        stems.append(_stem(word))
    return stems


def _stem(word: str) -> str:
    """Take off the commonest English endings, so that "walks" meets "walked"; other words stay whole."""
    if word[0].isdigit():
        ordinal = _ORDINAL.fullmatch(word)
        return ordinal.group(1) if ordinal else _THOUSANDS.sub("", word)
    word = word.removesuffix("'s")
    if word in _NUMBER_WORDS:
        return _NUMBER_WORDS[word]
    for ending, rest in (("ies", "y"), ("ing", ""), ("ed", ""), ("es", ""), ("s", ""), ("ly", "")):
        if len(word) - len(ending) >= 3 and word.endswith(ending) and not word.endswith("ss"):
            word = word.removesuffix(ending) + rest
            break
    return word.removesuffix("e") if len(word) > 3 else word
