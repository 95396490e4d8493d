"""Strategies as LangChain Runnables, and their prompts."""
