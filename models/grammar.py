"""JSON schemas as GBNF grammars, for completions that always parse.

Place in the data's way: `ChatLocalsmith.with_structured_output` turns a schema into `SamplingParams.grammar`.

Example:
    >>> "root" in json_schema_grammar({"type": "boolean"})
    True
"""

from __future__ import annotations

import json
from typing import Any


def json_schema_grammar(schema: dict[str, Any]) -> str:
    """Return the GBNF grammar of a JSON schema.

    Args:
        schema: The schema; references must point into itself.

    Raises:
        ValueError: The schema uses something that llama.cpp's converter doesn't know.

    Source:
        llama.cpp, grammars/README.md, "JSON Schemas -> GBNF".
    """
    from llama_cpp.llama_grammar import json_schema_to_gbnf

    try:
        return str(json_schema_to_gbnf(json.dumps(schema)))
    except (AssertionError, KeyError, ValueError, AttributeError, RuntimeError) as exc:
        raise ValueError(f"This JSON schema can't be turned into a grammar: {exc}") from exc
