"""One strategy over one file of questions: files read, parts wired, questions asked.

Place in the data's way: `localsmith evaluate STRATEGY FILE` and `benchmarks/reasoning.py` both go through
here: `StrategyRun` says what is to be measured, `PreparedRun` opens a front door for it and asks. The
documents searched are the corpus's; the person's own are never read, and their MCP servers never called.

Example:
    with PreparedRun(StrategyRun("cot", Path("gsm8k.jsonl"), limit=100)) as prepared:
        figures = reasoning_figures(prepared.ask())
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .agents.registry import strategy_info
from .core.errors import EvaluationError
from .core.settings import Settings, ToolSettings, load_settings
from .core.types import DEFAULT_COLLECTION
from .evaluation.grading import TextGrader
from .evaluation.journal import Journal
from .evaluation.question_files import Article, load_articles
from .evaluation.reasoning import AskedStrategy, OnRecord, Record, run_tasks
from .evaluation.tasks import load_tasks
from .evaluation_corpus import OnIndexed, add_corpus, corpus_dir
from .front_door import Localsmith

if TYPE_CHECKING:
    from types import TracebackType

    from .agents.reasoning.examples import ExampleSet

# Of these, the strategy takes the few that are nearest to each question.
MAX_EXAMPLES = 200
VOTING = ("cot-sc", "pal-vote")


@dataclass(frozen=True, slots=True)
class StrategyRun:
    """What is to be measured.

    Attributes:
        strategy: A name of `agents.registry.STRATEGIES`.
        file: The questions.
        limit: Only the first so many; None for all.
        model: Catalog name of the chat model; None for the one of the settings.
        num_samples: Samples that vote; None for the strategy's usual number.
        corpus: Documents to search; None for none.
        context: A text put before every question; None for none.
        examples: Examples for few-shot, a TOML set or JSON Lines like the questions; None for those of the
            strategy.
        at_once: Questions asked at the same time.
        seed: Seed of the sampler; None for the one of the settings.
    """

    strategy: str
    file: Path
    limit: int | None = None
    model: str | None = None
    num_samples: int | None = None
    corpus: Path | None = None
    context: Path | None = None
    examples: Path | None = None
    at_once: int = 8
    seed: int | None = None


class PreparedRun:
    """A run whose files are read and checked; the model loads when it is entered.

    Args:
        run: What is to be measured.
        settings: All settings; None to read them.

    Attributes:
        run: What is to be measured.
        tasks: The questions.
        settings: The settings with the run's own values in their places.

    Raises:
        EvaluationError: A file is not as it must be, or the run contradicts itself.
        ConfigError: There is no such strategy.
    """

    def __init__(self, run: StrategyRun, settings: Settings | None = None) -> None:
        strategy_info(run.strategy)
        if run.num_samples is not None and run.strategy not in VOTING:
            raise EvaluationError(
                f"{run.strategy} has no samples to vote.", hint=f"Those that vote are {' and '.join(VOTING)}."
            )
        if run.examples and run.strategy != "few-shot":
            raise EvaluationError(f"{run.strategy} takes no examples.", hint="few-shot does.")
        self.run = run
        self._examples = load_example_file(run.examples) if run.examples else None
        context = _read_text(run.context) if run.context else ""
        self.tasks = load_tasks(run.file, run.limit, context)
        self._articles: Sequence[Article] = load_articles(run.corpus) if run.corpus else ()
        if run.strategy == "react" and not run.corpus and self._asks_for_facts:
            raise EvaluationError(
                f"{run.file} asks for facts, and react has no documents to find them in.",
                hint="Give --corpus, or measure what the model knows with direct or cot.",
            )
        self.settings = _settings_of(run, settings or load_settings(), self._articles)
        self._front = Localsmith(run.model, settings=self.settings, follows_promotions=False)

    def __enter__(self) -> PreparedRun:
        """Load the model and build the strategy.

        Raises:
            ModelError: The model is not installed or can't be loaded.
            SandboxError: The strategy runs programs, and no sandbox can run here.
        """
        try:
            self._strategy = self._build()
        except BaseException:
            self._front.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the model."""
        self._front.close()

    def _build(self) -> AskedStrategy:
        if self._examples is None:
            return self._front.strategies[self.run.strategy]
        from .agents.few_shot import FewShotStrategy

        front = self._front
        answer = self.settings.answer
        return FewShotStrategy(front.engine, self._examples, answer, embedder=lambda: front.embedder)

    @property
    def _asks_for_facts(self) -> bool:
        return any(isinstance(task.grader, TextGrader) for task in self.tasks)

    @property
    def about(self) -> dict[str, Any]:
        """What the answers depend on, as JSON values; the file's limit is not among it."""
        run, settings = self.run, self.settings
        about = {
            "model": self._front.engine.name,
            "strategy": run.strategy,
            "questions": f"{run.file.parent.name}/{run.file.name}",
            "questions_sha256": _digest(run.file),
            "corpus_sha256": _digest(run.corpus) if run.corpus else "",
            "context_sha256": _digest(run.context) if run.context else "",
            "examples_sha256": _digest(run.examples) if run.examples else "",
            "at_once": run.at_once,
            "answer": settings.answer.model_dump(mode="json"),
            "k": settings.retrieval.k,
            "prompts": _prompt_versions(),
            "example_sets": _example_set_versions(),
        }
        return json.loads(json.dumps(about))  # type: ignore[no-any-return]

    def index(self, on_indexed: OnIndexed | None = None) -> None:
        """Index the documents of the corpus that are not yet."""
        if self._articles:
            add_corpus(self._front.library, self._articles, on_indexed)

    def journal(self, results: Path, *, resume: bool) -> Journal[Record]:
        """Open the journal beside a results file.

        Raises:
            EvaluationError: There is one, and `resume` is not given; or it is of another run.
        """
        path = results.with_name(f"{results.name}.partial.jsonl")
        return Journal.open(path, Record, self.about, resume=resume)

    def ask(self, journal: Journal[Record] | None = None, on_record: OnRecord | None = None) -> list[Record]:
        """Ask every question that the journal does not have; see `run_tasks`."""
        collection = DEFAULT_COLLECTION if self._articles else None
        return run_tasks(
            self.tasks,
            self._strategy,
            at_once=self.run.at_once,
            collection=collection,
            journal=journal,
            on_record=on_record,
        )


def _settings_of(run: StrategyRun, settings: Settings, articles: Sequence[Article]) -> Settings:
    """Return the settings with the run's own values in their places."""
    answer: dict[str, Any] = {}
    if run.num_samples is not None:
        answer["num_samples"] = run.num_samples
    if run.seed is not None:
        answer["seed"] = run.seed
    retrieval = {"library_dir": corpus_dir(settings, articles)}
    return settings.model_copy(
        update={
            "tools": ToolSettings(),  # a person's servers and web pages are nobody else's to repeat
            "answer": settings.answer.model_copy(update=answer),
            "retrieval": settings.retrieval.model_copy(update=retrieval),
        }
    )


def _prompt_versions() -> dict[str, int]:
    from .agents import prompts

    names = sorted(path.stem for path in (Path(prompts.__file__).parent / "prompts").glob("*.md"))
    return {name: prompts.load_prompt(name).version for name in names}


def _example_set_versions() -> dict[str, int]:
    from .agents.reasoning.examples import FOLDER, load_examples

    return {path.stem: load_examples(path.stem).version for path in sorted(FOLDER.glob("*.toml"))}


def load_example_file(path: Path) -> ExampleSet:
    """Return the examples of a TOML set, or of a file of questions with known answers.

    Raises:
        ConfigError: The TOML file is no example set.
        EvaluationError: The other file is none of questions.
    """
    from .agents.reasoning.examples import Example, ExampleSet, load_examples

    if path.suffix == ".toml":
        return load_examples(path)
    tasks = load_tasks(path, MAX_EXAMPLES)
    examples = tuple(Example(task.text, task.solution or task.grader.gold) for task in tasks)
    return ExampleSet(path.stem, 1, "Answer in the form of the examples.", examples)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise EvaluationError(f"{path} can't be read: {exc}.") from exc
