"""The prompts of the K-shift measurement: as the RAG strategy writes them, cut where passages begin and end.

Place in the data's way: SQuAD rows -> `Case` (question, passages) -> `CutPrompt` (tokens by part) ->
`kshift_blocks` computes it in several ways.

Example:
    cases = choose_cases(questions, articles)
    prompt = cut_prompt(ChatTemplate(runtime), runtime, cases[0])
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from localsmith.agents.answering.abstention import ABSTENTION
from localsmith.agents.prompts import load_prompt
from localsmith.core.types import Chunk, Message, Passage
from localsmith.evaluation.question_files import Article, GoldQuestion
from localsmith.models.chat.template import ChatTemplate
from localsmith.models.llama.runtime import LlamaRuntime
from localsmith.retrieval.words import content_words

NUM_PASSAGES = 3
_SEED = 7


@dataclass(frozen=True, slots=True)
class Case:
    """A question and the passages that are read for it.

    Attributes:
        question: The question with its answers.
        passages: The gold paragraph and the nearest others of its article, in the order of the prompt.
        gold_place: Place of the gold paragraph, from 1.
    """

    question: GoldQuestion
    passages: tuple[Passage, ...]
    gold_place: int


@dataclass(frozen=True, slots=True)
class CutPrompt:
    """A prompt's tokens: `prefix`, then each passage's marker and block, then `tail`.

    Attributes:
        prefix: The system's turn and the opening of the user's, the same in every request.
        markers: `[1]`, `[2]`, …: they belong to the request, for a passage may get another number next time.
        blocks: Document name and text of each passage, with what separates it from the next: the same in
            every request that reads the passage.
        block_ids: What is the same for equal blocks.
        tail: The question and the opening of the assistant's turn.
        is_ordinary: Whether the parts together are exactly the tokens of the uncut prompt.
    """

    prefix: tuple[int, ...]
    markers: tuple[tuple[int, ...], ...]
    blocks: tuple[tuple[int, ...], ...]
    block_ids: tuple[str, ...]
    tail: tuple[int, ...]
    is_ordinary: bool

    @property
    def tokens(self) -> tuple[int, ...]:
        """The whole prompt."""
        parts = chain.from_iterable(zip(self.markers, self.blocks, strict=True))
        return (*self.prefix, *chain.from_iterable(parts), *self.tail)


def choose_cases(questions: Sequence[GoldQuestion], articles: Sequence[Article]) -> list[Case]:
    """Return for each question its gold paragraph and the two of the article that share most words with it.

    The order is drawn with a fixed seed, so that the gold paragraph stands at every place equally often.
    """
    draw = random.Random(_SEED)
    cases = []
    for question in questions:
        article = articles[question.article]
        words = content_words(question.question)
        others = [index for index in range(len(article.paragraphs)) if index != question.paragraph]
        others.sort(key=lambda index: -len(words & content_words(article.paragraphs[index])))  # noqa: B023
        chosen = [question.paragraph, *others[: NUM_PASSAGES - 1]]
        draw.shuffle(chosen)
        passages = tuple(_passage(article, index, rank) for rank, index in enumerate(chosen, start=1))
        cases.append(Case(question, passages, chosen.index(question.paragraph) + 1))
    return cases


def messages_of(case: Case) -> list[Message]:
    """Return what the RAG strategy submits for a case."""
    user = load_prompt("rag_user").render(passages=case.passages, question=case.question.question)
    system = load_prompt("rag_system").render(abstention=ABSTENTION)
    return [Message("system", system), Message("user", user)]


def cut_prompt(template: ChatTemplate, runtime: LlamaRuntime, case: Case) -> CutPrompt:
    """Render a case's prompt and cut it into parts."""
    messages = messages_of(case)
    user = messages[-1].content
    whole = template.tokens(messages)
    inside = runtime.tokenize(user, parse_special=False)
    start = next(i for i in range(len(whole)) if whole[i : i + len(inside)] == inside)
    markers, blocks, rest = [], [], user
    for number, passage in enumerate(case.passages, start=1):
        marker = f"[{number}]"
        end = rest.index(passage.chunk.text) + len(passage.chunk.text) + len("\n\n")
        block, rest = rest[len(marker) : end], rest[end:]
        markers.append(tuple(runtime.tokenize(marker, parse_special=False)))
        blocks.append(tuple(runtime.tokenize(block, parse_special=False)))
    question = runtime.tokenize(rest, parse_special=False)
    prompt = CutPrompt(
        prefix=tuple(whole[:start]),
        markers=tuple(markers),
        blocks=tuple(blocks),
        block_ids=tuple(passage.chunk.id for passage in case.passages),
        tail=(*question, *whole[start + len(inside) :]),
        is_ordinary=False,
    )
    is_ordinary = prompt.tokens == tuple(whole)
    return CutPrompt(prompt.prefix, prompt.markers, prompt.blocks, prompt.block_ids, prompt.tail, is_ordinary)


def _passage(article: Article, paragraph: int, rank: int) -> Passage:
    start, end = article.span(paragraph)
    chunk = Chunk(
        id=f"{article.file_name}:{paragraph}",
        document_id=article.file_name,
        position=paragraph,
        text=article.paragraphs[paragraph],
        start_char=start,
        end_char=end,
        page=None,
        headings=(),
        num_tokens=0,
    )
    return Passage(chunk, article.file_name, rank, score=1.0 / rank)
