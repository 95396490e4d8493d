"""The data that flow from a file to an answer, as frozen dataclasses.

Place in the data's way: every folder passes these and nothing else across its border. A file becomes a
`Document` of `Chunk`s; a `Question` finds `Passage`s; a strategy streams `Event`s, the last of which carries
the `Answer`.

Example:
    >>> Question("What is a trace tree?", collection="papers").text
    'What is a trace tree?'
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]
StopReason: TypeAlias = Literal[
    "answered", "abstained", "cancelled", "step_limit", "time_limit", "needs_approval"
]
FinishReason: TypeAlias = Literal["stop", "length", "cancelled", "deadline"]
ProgramStatus: TypeAlias = Literal["ok", "error", "timeout", "memory", "output", "crashed"]
Priority: TypeAlias = Literal["interactive", "batch"]
StepKind: TypeAlias = Literal[
    "rewrite",
    "search",
    "budget",
    "generate",
    "check",
    "plan",
    "sample",
    "vote",
    "program",
    "tool",
    "remember",
]
Stage: TypeAlias = Literal[
    "loading",
    "rewriting",
    "searching",
    "reading",
    "answering",
    "checking",
    "planning",
    "thinking",
    "programming",
    "running",
    "voting",
]

DEFAULT_COLLECTION = "default"


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle on a page, in fractions of the page's width and height, origin at the top left.

    Attributes:
        page: Page number, from 1.
        left: Left edge, 0 to 1.
        top: Top edge, 0 to 1.
        right: Right edge, 0 to 1, greater than `left`.
        bottom: Bottom edge, 0 to 1, greater than `top`.
    """

    page: int
    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True, slots=True)
class Document:
    """A file in a collection of the library, as listed to people.

    Attributes:
        id: Stable identifier, unique across collections.
        collection: Name of the collection that holds it.
        name: File name as given by the person, without directories.
        media_type: IANA media type recognised from the content.
        content_sha256: SHA-256 of the file's bytes, lower-case hex.
        size_bytes: Size of the file.
        num_pages: Pages, slides or sheets; None where the format has none.
        num_chunks: Chunks that can be found by search.
        added_at: Seconds since the epoch, UTC.
        warnings: What could not be read, in words for people.
    """

    id: str
    collection: str
    name: str
    media_type: str
    content_sha256: str
    size_bytes: int
    num_pages: int | None
    num_chunks: int
    added_at: float
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Chunk:
    """A stretch of a document's text, small enough for the embedding model.

    Attributes:
        id: Unique identifier across the library.
        document_id: The document that holds it.
        position: Order within the document, from 0.
        text: The text itself, `document_text[start_char:end_char]`.
        start_char: First character in the document's text.
        end_char: One past the last character.
        page: First page it stands on, from 1; None where the format has no pages.
        headings: Titles of the sections around it, outermost first.
        num_tokens: Length by the embedding model's tokenizer, without special tokens.
        boxes: Where its lines stand on the page; empty for formats without layout.
    """

    id: str
    document_id: str
    position: int
    text: str
    start_char: int
    end_char: int
    page: int | None
    headings: tuple[str, ...]
    num_tokens: int
    boxes: tuple[Box, ...] = ()


@dataclass(frozen=True, slots=True)
class Passage:
    """A chunk that a search returned.

    Attributes:
        chunk: The chunk.
        document_name: Name of its document, for people.
        rank: Place in the result, from 1.
        score: Fused score; higher is better, comparable within one result only.
        dense_rank: Rank in the vector search, from 1; None where it was not found there.
        lexical_rank: Rank in the BM25 search, from 1; None where it was not found there.
        similarity: Cosine similarity of question and chunk, -1 to 1; None where it was not computed.
    """

    chunk: Chunk
    document_name: str
    rank: int
    score: float
    dense_rank: int | None = None
    lexical_rank: int | None = None
    similarity: float | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """What a person asks, with all that a strategy may use to answer it.

    Attributes:
        text: The question as typed.
        history: Earlier turns of the conversation, oldest first, without the question.
        collection: The collection to search; None for none.
        document_ids: Only these documents; empty for all of the collection.
        user: Who asks; the engine shares itself fairly between users. "" where there is but one.
        priority: "interactive" where a person waits, "batch" for work that gives way.
        conversation_id: The conversation, whose running summary stands for its oldest turns; "" for none.
        turn_id: Its turn in the conversation, kept with what is remembered of it; "" where it is not stored.
    """

    text: str
    history: tuple[Message, ...] = ()
    collection: str | None = DEFAULT_COLLECTION
    document_ids: tuple[str, ...] = ()
    user: str = ""
    priority: Priority = "interactive"
    conversation_id: str = ""
    turn_id: str = ""


@dataclass(frozen=True, slots=True)
class Citation:
    """A `[n]` in an answer and what it points to.

    Attributes:
        number: The n in the answer's text, from 1.
        passage: The passage it names.
        claim: The sentence of the answer that carries the citation.
        quote: The sentence of the passage that supports the claim best.
        support: Share of the claim's content words found in the passage, 0 to 1.
        is_supported: Whether the passage passes the check.
        start_char: First character of the quote in the document's text.
        end_char: One past its last character.
        is_attached: Whether the check added it; False where the model wrote it.
        similarity: Cosine of claim and passage, -1 to 1, where the check added it for its meaning, though the
            passage says it in other words; None everywhere else.
    """

    number: int
    passage: Passage
    claim: str
    quote: str
    support: float
    is_supported: bool
    start_char: int = 0
    end_char: int = 0
    is_attached: bool = False
    similarity: float | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """What a generation, or several added up, cost.

    Attributes:
        prompt_tokens: Tokens of the rendered prompt.
        cached_tokens: Those of them whose KV cache was already there.
        completion_tokens: Tokens generated.
        time_to_first_token_s: From submission to the first generated token; 0 where there was none.
        prefill_s: Time the model spent reading the prompt.
        decode_s: Time the model spent generating.
    """

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    time_to_first_token_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        """Add counts and model times; the time to the first token is that of the later generation."""
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.cached_tokens + other.cached_tokens,
            self.completion_tokens + other.completion_tokens,
            other.time_to_first_token_s,
            self.prefill_s + other.prefill_s,
            self.decode_s + other.decode_s,
        )


@dataclass(frozen=True, slots=True)
class BudgetPart:
    """One part of the prompt and its share of the context window.

    Attributes:
        name: "system", "examples", "history", "passages" or "question".
        used_tokens: Tokens it takes in the rendered prompt, template markup included.
        num_items: Items of it that went in.
        num_cut: Items of it that stayed out or were shortened.
        cut_tokens: Tokens that stayed out.
        reason: Why something was cut: "window", "time", "redundant" or "" where nothing was.
    """

    name: str
    used_tokens: int
    num_items: int
    num_cut: int = 0
    cut_tokens: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class BudgetReport:
    """How the context window was spent on one prompt.

    Attributes:
        n_ctx: The window, in tokens.
        prompt_limit_tokens: Tokens the prompt was allowed: the smaller of window less reserve and time limit.
        limited_by: Which of the two set the limit, "window" or "time".
        prompt_tokens: Tokens of the rendered prompt, exact.
        reserved_tokens: Tokens kept free for the completion.
        parts: The parts in prompt order; their `used_tokens` add up to `prompt_tokens`.
    """

    n_ctx: int
    prompt_limit_tokens: int
    limited_by: Literal["window", "time"]
    prompt_tokens: int
    reserved_tokens: int
    parts: tuple[BudgetPart, ...]

    @property
    def is_over_limit(self) -> bool:
        """Whether the prompt takes longer to read than allowed, since one passage always goes in."""
        return self.prompt_tokens > self.prompt_limit_tokens


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a strategy's run, kept for the trace; the steps of a run are a tree.

    Attributes:
        kind: What was done: "generate" and "sample" are completions, "program" is one that the sandbox ran,
            "tool" a call with its observation, "plan" the choice of a strategy, "vote" that among samples.
        summary: What happened, in one line for people.
        duration_s: Wall time of the step.
        usage: What the model did in it, its inner steps not counted; None where no model ran.
        begun_s: Seconds from the beginning of the run.
        prompt: What the model, the tool or the sandbox was given; "" where it is not kept.
        output: What came back: completion, observation, printed text.
        is_error: Whether it failed; the run went on with what the error says.
        steps: The inner steps, in order.
    """

    kind: StepKind
    summary: str
    duration_s: float
    usage: Usage | None = None
    begun_s: float = 0.0
    prompt: str = ""
    output: str = ""
    is_error: bool = False
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What a strategy returns.

    Attributes:
        text: The answer, with its `[n]` markers.
        stop_reason: Why the run ended; "abstained" where the documents don't answer the question.
        citations: Every `[n]` of the text in order of appearance.
        passages: The passages the model read; passage n is `passages[n - 1]`.
        steps: What the strategy did.
        usage: The whole run's.
        budget: How the window was spent; None where the strategy had no budget to keep.
        model: Name of the model that answered.
        trace_id: Identifier of the run, for logs and feedback.
        duration_s: Wall time of the whole run.
        time_to_first_text_s: From the run's beginning to the first text of the answer that was shown; 0 where
            it is not known or there was none. Programs and votes show nothing before their end.
    """

    text: str
    stop_reason: StopReason
    citations: tuple[Citation, ...] = ()
    passages: tuple[Passage, ...] = ()
    steps: tuple[Step, ...] = ()
    usage: Usage = field(default_factory=Usage)
    budget: BudgetReport | None = None
    model: str = ""
    trace_id: str = ""
    duration_s: float = 0.0
    time_to_first_text_s: float = 0.0

    def __add__(self, later: Answer) -> Answer:
        """Join two pieces of a stream: the texts together, everything else as the later one has it."""
        return replace(later, text=self.text + later.text)

    def __str__(self) -> str:
        """Return the text, so that `print(answer)` prints what a person wants to read."""
        return self.text


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How completion tokens are chosen and when to stop.

    Attributes:
        max_tokens: Longest completion; reserved in the context window.
        temperature: 0 for greedy decoding.
        top_k: Keep the k likeliest tokens; 0 for all.
        top_p: Keep the likeliest tokens that sum to p; 1 for all.
        min_p: Drop tokens less likely than min_p times the likeliest; 0 for none.
        repeat_penalty: Divides the logits of the last 64 tokens; 1 for none.
        presence_penalty: Taken once from the logit of every token among the last 64; 0 for none.
        frequency_penalty: Taken from a token's logit for each of its times among the last 64; 0 for none.
        logit_bias: (token, bias) pairs, added to the logits.
        seed: Seed of the sampler.
        stop: Texts that end the completion; they are not part of it.
        grammar: GBNF grammar that the completion obeys; "" for none.
        grammar_trigger: The grammar holds from the first time the completion contains this text, which it
            has to begin with; "" to hold from the start.
        num_logprobs: Report each token's log-probability and this many alternatives; None for neither.
    """

    max_tokens: int = 400
    temperature: float = 0.0
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    repeat_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    seed: int = 7
    stop: tuple[str, ...] = ()
    grammar: str = ""
    grammar_trigger: str = ""
    num_logprobs: int | None = None


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token and how likely the model held it.

    Attributes:
        token: The bytes it stands for; may end inside a UTF-8 character.
        logprob: Natural logarithm of its probability at temperature 1, before penalties and cuts; at most 0.
        top: The likeliest tokens in its place, likeliest first, without alternatives of their own.
    """

    token: bytes
    logprob: float
    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class EngineStats:
    """What an engine does now and has done since it started.

    Attributes:
        num_running: Requests in the batch.
        num_waiting: Requests in the queue.
        kv_cells: Cells of the KV cache; one token of one prefix takes one.
        kv_cells_used: Cells held by running requests and by cached prefixes.
        sequences: Sequences the KV cache can tell apart.
        sequences_used: Sequences held by running requests and by cached prefixes.
        prompt_tokens: Prompt tokens of all requests so far.
        cached_tokens: Those of them found in the KV cache.
        completion_tokens: Tokens generated.
        draft_tokens: Tokens proposed by prompt lookup.
        accepted_draft_tokens: Those of them that the model agreed with.
        finished: (finish reason, requests) pairs; reason "failed" for errors.
        num_steps: Calls of `llama_decode`.
        decode_s: Seconds inside `llama_decode`.
        sampling_s: Seconds spent choosing tokens.
        busy_s: Seconds in which at least one request was running.
    """

    num_running: int = 0
    num_waiting: int = 0
    kv_cells: int = 0
    kv_cells_used: int = 0
    sequences: int = 0
    sequences_used: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    draft_tokens: int = 0
    accepted_draft_tokens: int = 0
    finished: tuple[tuple[str, int], ...] = ()
    num_steps: int = 0
    decode_s: float = 0.0
    sampling_s: float = 0.0
    busy_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Prefill:
    """How far the model has read the prompt.

    Attributes:
        done: Prompt tokens read or found in the KV cache.
        total: Prompt tokens.
        cached: Those found in the KV cache.
    """

    done: int
    total: int
    cached: int


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands: the stage and, where they are known, n of m.

    Attributes:
        stage: What is being done.
        done: Units done; None where the stage has no units.
        total: Units in all.
        detail: A few words for people, or "".
        eta_s: Expected seconds left in the stage; None where unknown.
    """

    stage: Stage
    done: int | None = None
    total: int | None = None
    detail: str = ""
    eta_s: float | None = None


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of the answer's text, to be appended to what came before.

    Attributes:
        text: The text; "" where a token's text is held back for now.
        logprobs: The tokens sampled since the last piece, where `SamplingParams.num_logprobs` asks for them.
    """

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class ProgramResult:
    """What a program did in the sandbox.

    Attributes:
        status: "ok" where it ended by itself without an error; else what stopped it.
        stdout: What it printed, cut at the sandbox's limit.
        error: The traceback's end or the limit passed, in words for the model; "" where it ended well.
        duration_s: Wall time of the run.
    """

    status: ProgramStatus
    stdout: str = ""
    error: str = ""
    duration_s: float = 0.0


@dataclass(frozen=True, slots=True)
class StepEnded:
    """A step of the run has ended; the same step is in the answer's `steps`."""

    step: Step


@dataclass(frozen=True, slots=True)
class ApprovalNeeded:
    """A tool waits for a person's word; the run ends here and goes on with `resume`.

    Attributes:
        run_id: The run to resume, its answer's `trace_id`.
        tool: Name of the tool.
        arguments: What it would be called with, JSON.
        reason: Why it needs approval, for people.
        call: Which call of the run it is, from 1, so that a word on it can't be taken for the next one's.
    """

    run_id: str
    tool: str
    arguments: str
    reason: str = ""
    call: int = 0


@dataclass(frozen=True, slots=True)
class Final:
    """The last event of a run."""

    answer: Answer


Event: TypeAlias = Progress | Delta | StepEnded | ApprovalNeeded | Final
