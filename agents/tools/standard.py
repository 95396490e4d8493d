"""The tools that come with Localsmith, as a list for `ReactStrategy`.

Place in the data's way: the front door says what it has (a library, a sandbox, hosts that may be fetched
from) and gets the tools that can be used with it, the ones most often needed first.

Example:
    tools = standard_tools(retriever=library, sandbox=sandbox)
"""

from __future__ import annotations

from collections.abc import Sequence

from ...core.contracts import Retriever, Sandbox
from .calculator import calculator
from .dates import dates
from .documents import search_documents
from .python import run_python
from .sql import TableFiles, sql_tools
from .tool import Tool
from .units import units
from .web import web_fetch


def standard_tools(
    *,
    retriever: Retriever | None = None,
    sandbox: Sandbox | None = None,
    tables: TableFiles | None = None,
    allowed_hosts: Sequence[str] = (),
    k: int = 3,
) -> list[Tool]:
    """Return the tools that come with Localsmith.

    Args:
        retriever: Searches the person's documents; None for no search.
        sandbox: Runs the model's programs; None for no Python.
        tables: Finds the person's CSV and XLSX files; None for no SQL.
        allowed_hosts: Hosts whose pages may be fetched, each with a person's approval; empty for no web.
        k: Passages that one search returns.
    """
    tools: list[Tool] = [search_documents(retriever, k)] if retriever is not None else []
    tools += [calculator(), dates(), units()]
    if sandbox is not None:
        tools.append(run_python(sandbox))
    if tables is not None:
        tools += sql_tools(tables)
    if allowed_hosts:
        tools.append(web_fetch(allowed_hosts))
    return tools
