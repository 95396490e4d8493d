"""What goes into the tools of the MCP server and what comes out, as an assistant reads it.

Place in the data's way: the schemas that `tools/list` shows are made from these classes; arguments are
checked against them before a tool runs, and results are written in them.

Example:
    >>> SearchArguments(query="trace trees").k
    5
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ...core.types import DEFAULT_COLLECTION, Answer, Citation, Passage, ProgramResult

MAX_QUESTION_CHARS = 20_000
MAX_QUERY_CHARS = 2_000
MAX_PROGRAM_CHARS = 100_000
MAX_NAME_CHARS = 200
MAX_K = 50
MAX_TIMEOUT_S = 60.0

_COLLECTION = Field(
    DEFAULT_COLLECTION,
    min_length=1,
    max_length=MAX_NAME_CHARS,
    description="Collection of documents; list_collections names those there are.",
)


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AskArguments(_Form):
    """Arguments of `ask`."""

    question: str = Field(
        min_length=1, max_length=MAX_QUESTION_CHARS, description="The question, complete in itself."
    )
    collection: str = _COLLECTION
    strategy: str = Field(
        "rag", max_length=MAX_NAME_CHARS, description="How to answer; rag reads documents and cites them."
    )


class SearchArguments(_Form):
    """Arguments of `search`."""

    query: str = Field(min_length=1, max_length=MAX_QUERY_CHARS, description="What to look for, in words.")
    collection: str = _COLLECTION
    k: int = Field(5, ge=1, le=MAX_K, description="Passages wanted.")


class ProgramArguments(_Form):
    """Arguments of `run_python`."""

    program: str = Field(
        min_length=1,
        max_length=MAX_PROGRAM_CHARS,
        description="Python source; what it prints is its result. It has no files and no network.",
    )
    timeout_s: float | None = Field(
        None, gt=0, le=MAX_TIMEOUT_S, description="Most seconds it may take; the sandbox's own where null."
    )


class NoArguments(_Form):
    """Arguments of `list_collections`."""


class CitationForm(_Form):
    """A `[n]` of the answer."""

    number: int = Field(description="The n.")
    document: str = Field(description="Name of the document.")
    document_id: str
    uri: str = Field(description="The document as a resource of this server.")
    page: int | None = Field(description="Page from 1; null where the format has none.")
    quote: str = Field(description="The sentence that supports the claim.")
    start_char: int = Field(description="First character of the quote in the document's text.")
    end_char: int = Field(description="One past its last.")
    claim: str = Field(description="The sentence of the answer.")
    is_supported: bool = Field(description="Whether the passage says so, by the check of the citations.")


class AnswerForm(_Form):
    """Result of `ask`."""

    answer: str = Field(description="The answer with its [n].")
    stop_reason: str = Field(description="Why the run ended; answered and abstained are the good ones.")
    citations: list[CitationForm]
    strategy: str
    model: str
    trace_id: str
    duration_s: float


class PassageForm(_Form):
    """One find of `search`."""

    rank: int
    document: str
    document_id: str
    uri: str
    page: int | None
    start_char: int
    end_char: int
    headings: list[str]
    score: float
    text: str


class PassagesForm(_Form):
    """Result of `search`."""

    passages: list[PassageForm]


class ProgramForm(_Form):
    """Result of `run_python`."""

    status: str = Field(description="ok, or what stopped it: error, timeout, memory, output, crashed.")
    stdout: str
    error: str
    duration_s: float


class CollectionForm(_Form):
    """One collection."""

    name: str
    num_documents: int


class CollectionsForm(_Form):
    """Result of `list_collections`."""

    collections: list[CollectionForm]


def document_uri(document_id: str) -> str:
    """Return the address of a document as a resource."""
    return f"localsmith://documents/{document_id}"


def answer_form(answer: Answer, strategy: str) -> AnswerForm:
    """Return an answer as its form."""
    return AnswerForm(
        answer=answer.text,
        stop_reason=answer.stop_reason,
        citations=[_citation_form(citation) for citation in answer.citations],
        strategy=strategy,
        model=answer.model,
        trace_id=answer.trace_id,
        duration_s=round(answer.duration_s, 3),
    )


def passage_form(passage: Passage) -> PassageForm:
    """Return a find as its form."""
    chunk = passage.chunk
    return PassageForm(
        rank=passage.rank,
        document=passage.document_name,
        document_id=chunk.document_id,
        uri=document_uri(chunk.document_id),
        page=chunk.page,
        start_char=chunk.start_char,
        end_char=chunk.end_char,
        headings=list(chunk.headings),
        score=passage.score,
        text=chunk.text,
    )


def program_form(result: ProgramResult) -> ProgramForm:
    """Return what a program did as its form."""
    return ProgramForm(
        status=result.status, stdout=result.stdout, error=result.error, duration_s=round(result.duration_s, 3)
    )


def fault_of(exc: ValidationError) -> str:
    """Return what is wrong with the arguments, without repeating them: they may be long."""
    first: Any = exc.errors(include_url=False, include_context=False, include_input=False)[0]
    name = ".".join(str(part) for part in first["loc"]) or "arguments"
    return f"{name}: {first['msg']}."


def _citation_form(citation: Citation) -> CitationForm:
    chunk = citation.passage.chunk
    return CitationForm(
        number=citation.number,
        document=citation.passage.document_name,
        document_id=chunk.document_id,
        uri=document_uri(chunk.document_id),
        page=chunk.page,
        quote=citation.quote,
        start_char=citation.start_char,
        end_char=citation.end_char,
        claim=citation.claim,
        is_supported=citation.is_supported,
    )
