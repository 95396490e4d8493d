r"""What a ReAct turn looks like: a thought, then a call or the answer; as a grammar, and read back.

Place in the data's way: `turn_grammar` constrains every completion of `ReactStrategy`, so that a call can
only name a tool there is, with arguments that its schema allows; `parse_turn` reads the text. Only a call
that is complete is read as one: what was cut at the token limit never runs.

Source:
    Yao et al., "ReAct: Synergizing Reasoning and Acting in Language Models", ICLR 2023, section 2.

Example:
    >>> turn = parse_turn('Thought: I need 6*7.\nAction: calculator\nInput: {"expression": "6*7"}')
    >>> turn.call
    Call(tool='calculator', arguments='{"expression": "6*7"}')
    >>> parse_turn("Thought: I know it.\nAnswer: 42").answer
    '42'
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...core.errors import ConfigError, OutputParseError
from ...models.grammar.check import check_grammar
from ...models.grammar.gbnf import ALL, char_set, literal, rules_with_root, without
from ...models.grammar.schema import SchemaWriter
from ..tools.arguments import longest_chars, writable_schema
from ..tools.tool import Tool

MAX_THOUGHT_CHARS = 240
THOUGHT, ACTION, INPUT, ANSWER = "Thought: ", "Action: ", "Input: ", "Answer: "
STOP = ("\nThought:", "\nObservation", "\nQuestion:")
"""Where a small model goes on with turns that are not its own, the completion ends."""

# Even code and numbers have more characters than this a token, in every tokenizer we ship.
_MIN_CHARS_PER_TOKEN = 1.5
_MARKUP_TOKENS = 32
_TOOL_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_VISIBLE = without(ALL, [(1, 32), (0x7F, 0xA0), (0x2028, 0x2029)])
_LINE = without(ALL, [(1, 31), (0x7F, 0x9F), (0x2028, 0x2029)])
_CALL = re.compile(
    rf"{THOUGHT}(?P<thought>[^\n]*)\n{ACTION}(?P<tool>[A-Za-z0-9_.-]{{1,64}})\n{INPUT}(?P<arguments>\{{.*\}})",
    re.S,
)
_SAID = re.compile(rf"(?:{THOUGHT}(?P<thought>[^\n]*)\n)?{ANSWER}(?P<answer>.*)", re.S)


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a tool.

    Attributes:
        tool: Name of the tool.
        arguments: JSON of an object.
    """

    tool: str
    arguments: str

    @property
    def values(self) -> dict[str, Any]:
        """The arguments, parsed."""
        values: dict[str, Any] = json.loads(self.arguments)
        return values


@dataclass(frozen=True, slots=True)
class Turn:
    """What the model wrote: a thought, and a call or an answer.

    Attributes:
        thought: One line; "" where there is none.
        call: The call; None where it answered.
        answer: The answer; None where it called.
    """

    thought: str
    call: Call | None = None
    answer: str | None = None


def turn_grammar(tools: Sequence[Tool]) -> str:
    """Return the grammar of a turn with these tools.

    Raises:
        ConfigError: A name is malformed or given twice, or no grammar can be made of a tool's schema.
    """
    rules = rules_with_root()
    calls = []
    names: set[str] = set()
    for i, tool in enumerate(tools):
        if not _TOOL_NAME.fullmatch(tool.name):
            raise ConfigError(
                f"A tool can't be called {tool.name!r}.", hint='Use letters, digits, "_", "-" and ".".'
            )
        if tool.name in names:
            raise ConfigError(f"Two tools are called {tool.name!r}.")
        names.add(tool.name)
        arguments = SchemaWriter(writable_schema(tool.parameters), rules, f"tool-{i}").write()
        head = literal(f"{tool.name}\n{INPUT}")
        calls.append(rules.add(f"call-{i}", f"{head} {arguments}"))
    rest = MAX_THOUGHT_CHARS - 1
    thought = rules.add("thought", f"{char_set(_VISIBLE)} {char_set(_LINE)}{{0,{rest}}}")
    parts = [f"{literal(ANSWER)} {_answer(rules)}"]
    if calls:
        parts.insert(0, f"{literal(ACTION)} {rules.add('which', ' | '.join(calls))}")
    return _checked(rules.text(f'{literal(THOUGHT)} {thought} "\\n" {rules.add("act", " | ".join(parts))}'))


def answer_grammar() -> str:
    """Return the grammar of a turn that has to answer."""
    rules = rules_with_root()
    return _checked(rules.text(f"{literal(ANSWER)} {_answer(rules)}"))


def _answer(rules: Any) -> str:
    whole = without(ALL, [(1, 8), (11, 31), (0x7F, 0x9F)])
    return str(rules.add("answer", f"{char_set(_VISIBLE)} {char_set(whole)}*"))


def _checked(grammar: str) -> str:
    try:
        check_grammar(grammar)
    except ValueError as exc:
        raise ConfigError(f"The tools can't be turned into a grammar: {exc}") from exc
    return grammar


def turn_tokens(tools: Sequence[Tool]) -> int:
    """Return how many tokens the longest turn with a call takes, answers left out."""
    longest = max((longest_chars(writable_schema(tool.parameters)) for tool in tools), default=0)
    return int((MAX_THOUGHT_CHARS + longest) / _MIN_CHARS_PER_TOKEN) + _MARKUP_TOKENS


def parse_turn(text: str) -> Turn:
    """Read a completion.

    Raises:
        OutputParseError: It is neither a complete call nor an answer, because it was cut.
    """
    if said := _SAID.fullmatch(text):
        return Turn((said["thought"] or "").strip(), answer=said["answer"].strip())
    if called := _CALL.fullmatch(text.rstrip()):
        try:
            arguments = json.loads(called["arguments"])
        except ValueError:
            arguments = None
        if isinstance(arguments, dict):
            canonical = json.dumps(arguments, ensure_ascii=False)
            return Turn(called["thought"].strip(), Call(called["tool"], canonical))
    raise OutputParseError(f"The turn is neither a complete call nor an answer: {text[-200:]!r}")


def thought_of(text: str) -> str:
    """Return the thought of a turn that was cut, or ""."""
    return text.partition("\n")[0].removeprefix(THOUGHT).strip() if text.startswith(THOUGHT) else ""


def answer_start(text: str) -> int | None:
    """Return where the answer begins in a turn that may not be complete; None where there is none yet.

    Only the second line can begin an answer, or the first where the grammar leaves the thought away, so that
    the word inside a thought or an argument opens nothing.
    """
    if text.startswith(ANSWER):
        return len(ANSWER)
    end = text.find("\n")
    if end >= 0 and text.startswith(ANSWER, end + 1):
        return end + 1 + len(ANSWER)
    return None
