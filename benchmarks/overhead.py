"""What the framework costs: time outside the model and the embedder during an answer, as a share of it.

Each question is asked in every round with a prompt the KV cache does not hold, as a person's would be; the
figures are medians over all answers. Writes `benchmarks/results/overhead.json` and `overhead.png`.

Example: `python benchmarks/overhead.py --document tracemonkey.pdf --rounds 3`
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from localsmith.agents.rag import RagStrategy
from localsmith.core.settings import load_settings
from localsmith.evaluation.results import write_results
from localsmith.evaluation.timed_embedder import TimedEmbedder
from localsmith.models.embedding.embedder import load_embedder
from localsmith.retrieval.library import Library

from localsmith import Answer, Localsmith, Question

RESULTS = Path(__file__).parent / "results"
QUESTIONS = (
    "What is a trace tree?",
    "Which virtual machine was TraceMonkey built on?",
    "When does a trace become hot?",
    "How are type guards used while recording?",
    "What happens at a side exit?",
    "How much faster are programs with traces?",
)
PARTS = ("model", "embedder", "search", "budget", "check", "rest")


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of one answer, by part; `rest` is what no part claims."""

    total: float
    model: float
    embedder: float
    search: float
    budget: float
    check: float

    @property
    def rest(self) -> float:
        """Seconds of the framework between the parts."""
        return self.total - self.model - self.embedder - self.search - self.budget - self.check

    @property
    def overhead_share(self) -> float:
        """Share of the whole outside the model and the embedder."""
        return (self.total - self.model - self.embedder) / self.total


def time_answer(answer: Answer, embedder_s: float) -> Timing:
    """Split an answer's time by its steps."""
    steps = {
        kind: sum(s.duration_s for s in answer.steps if s.kind == kind)
        for kind in ("search", "budget", "check")
    }
    usage = answer.usage
    return Timing(
        total=answer.duration_s,
        model=usage.prefill_s + usage.decode_s,
        embedder=embedder_s,
        search=steps["search"] - embedder_s,
        budget=steps["budget"],
        check=steps["check"],
    )


def measure(document: Path, model: str | None, rounds: int) -> tuple[list[Timing], str]:
    """Ask every question `rounds` times, each time with the others in between."""
    settings = load_settings()
    timings: list[Timing] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        load_embedder(settings) as process,
        Localsmith(model, settings=settings) as ls,
    ):
        embedder = TimedEmbedder(process)
        with Library(Path(folder), embedder, settings.retrieval) as library:
            library.add(document)
            strategy = RagStrategy(ls.engine, library, settings.answer, settings.retrieval.k)
            strategy.invoke(Question("What is this document about?"))  # warms everything up
            for _ in range(rounds):
                for question in QUESTIONS:
                    before = embedder.seconds
                    answer = strategy.invoke(Question(question))
                    if answer.usage.completion_tokens:
                        timings.append(time_answer(answer, embedder.seconds - before))
        return timings, ls.engine.name


def draw(timings: list[Timing], path: Path) -> None:
    """Draw the median milliseconds of every part on a logarithmic scale."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    values = [1000 * max(0.0, median(getattr(t, part) for t in timings)) for part in PARTS]
    figure, axes = plt.subplots(figsize=(7, 3))
    bars = axes.barh(PARTS, values, color=["#2f6f6a", "#6fb8b0", *["#c9a227"] * 4])
    axes.bar_label(bars, [f"{value:,.1f} ms" for value in values], padding=3)
    axes.set_xscale("log")
    axes.set_xlim(right=max(values) * 6)
    axes.invert_yaxis()
    axes.set_xlabel("median milliseconds of an answer (logarithmic)")
    axes.set_title("Where an answer's time goes; yellow is the framework")
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measure, print, write and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--document", type=Path, required=True)
    parser.add_argument("--model")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    timings, name = measure(arguments.document, arguments.model, arguments.rounds)
    figures: dict[str, float] = {"num_answers": len(timings)}
    figures["overhead_share"] = median(t.overhead_share for t in timings)
    figures["overhead_share_max"] = max(t.overhead_share for t in timings)
    figures["seconds_per_answer_median"] = median(t.total for t in timings)
    figures |= {f"{part}_ms_median": 1000 * median(getattr(t, part) for t in timings) for part in PARTS}
    for key, value in figures.items():
        print(f"{key:28} {value:12.4f}")
    command = f"python benchmarks/overhead.py --document {arguments.document.name} --model {name}"
    write_results(RESULTS / "overhead.json", figures, command=f"{command} --rounds {arguments.rounds}")
    draw(timings, RESULTS / "overhead.png")
    sys.exit(0 if figures["overhead_share"] < 0.05 else 1)


if __name__ == "__main__":
    main()
