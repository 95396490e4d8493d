"""Search in the person's documents as a tool; what it finds becomes citations of the answer.

Place in the data's way: the model's query -> the `Retriever` -> passages, which `ReactRun` numbers over the
whole run and the answer cites as [n].

Example:
    tool = search_documents(library)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...core.contracts import Retriever
from ...core.errors import RetrievalError, ToolArgumentError, ToolExecutionError
from .tool import FunctionTool, Observation, ToolContext

NAME = "search_documents"


def search_documents(retriever: Retriever, k: int = 3) -> FunctionTool:
    """Return the tool that searches the collection, or the documents, that the question is asked over.

    Args:
        retriever: Finds passages.
        k: Passages a search returns; several searches return different ones.
    """

    def run(arguments: Mapping[str, Any], context: ToolContext) -> Observation:
        query, question = str(arguments["query"]).strip(), context.question
        if not query:
            raise ToolArgumentError("The query is empty.")
        if question.collection is None:
            raise ToolExecutionError("This question is asked without documents.")
        try:
            found = retriever.search(query, question.collection, k, question.document_ids)
        except RetrievalError as exc:
            raise ToolExecutionError(str(exc), hint=exc.hint) from exc
        return Observation("" if found else "Nothing was found.", tuple(found))

    return FunctionTool(
        name=NAME,
        description="Find passages in the person's documents. Use a few key words or a short question.",
        parameters={
            "type": "object",
            "properties": {"query": {"type": "string", "minLength": 2, "maxLength": 160}},
            "required": ["query"],
        },
        function=run,
    )
