"""The engine as a LangChain chat model: messages, templates, tool calls."""
