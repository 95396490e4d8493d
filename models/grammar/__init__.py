"""What a completion may look like, as GBNF: from schemas, regular expressions, choices and tool calls."""
