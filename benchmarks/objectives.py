"""The three classes of models from scratch: their losses fall, and each learns what it is for.

An encoder (masked tokens), a decoder (next token) and an encoder-decoder (span corruption) are pre-trained on
the paragraphs of SQuAD, the dialogues and summaries of DialogSum and the questions of BIG-Bench Hard. Then

- the encoder learns to tell which of five data sets a question comes from, and to tag answer spans: SQuAD's
  answers in their sentences stand for names, since there is no text with labelled names in the data;
- the decoder continues held-out text, and is exported to GGUF;
- the encoder-decoder learns to summarize DialogSum's dialogues.

Each use starts once more from a model with random weights, so that what pre-training brings can be seen.
Writes `benchmarks/results/objectives.json` and `objectives.png`.

Example: `python -m benchmarks.objectives --steps 400`
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from localsmith.core.sentences import sentence_spans
from localsmith.evaluation.overlap import overlap_figures
from localsmith.evaluation.results import write_results
from localsmith.training.export.from_scratch import export_decoder
from localsmith.training.pretrain import Pretrained, pretrain
from localsmith.training.pretraining.architectures import new_model
from localsmith.training.pretraining.config import Architecture, PretrainConfig, text_file
from localsmith.training.runs.kinds import PRETRAIN
from localsmith.training.runs.run_folder import RunFolder
from localsmith.training.trainer_run import seed_all
from localsmith.training.uses.classification import train_classifier
from localsmith.training.uses.fitting import FitSettings
from localsmith.training.uses.generation import continue_text
from localsmith.training.uses.span_tagging import TaggedText, train_tagger
from localsmith.training.uses.summarization import train_summarizer

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
MAX_TOKENS = 128
QUESTIONS = (
    ("gsm8k/test.jsonl", "question"),
    ("hotpotqa/dev.jsonl", "question"),
    ("squad/questions.jsonl", "question"),
    ("strategyqa/dev.jsonl", "question"),
    ("fever/dev.jsonl", "claim"),
)
PER_CLASS, PER_CLASS_TRAINED = 100, 70
NUM_TEST_SUMMARIES = 100
COLOURS = {"encoder": "#2f6f6a", "decoder": "#a23e48", "encoder-decoder": "#c9a227"}


def rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a JSON Lines file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def pretrained(architecture: Architecture, data: Path, runs: Path, steps: int) -> Pretrained:
    """Pre-train one model."""
    names = [
        "squad/articles.jsonl",
        "dialogsum/dev.jsonl",
        *sorted(f"bbh/{p.name}" for p in data.glob("bbh/*")),
    ]
    config = PretrainConfig(
        architecture,
        files=tuple(text_file(data / name) for name in names),
        fields=("paragraphs", "dialogue", "summary", "input"),
        vocabulary_size=2048,
        max_tokens=MAX_TOKENS,
        max_steps=steps,
        save_every=steps,
    )
    with RunFolder.create(runs, PRETRAIN, config.to_json(), architecture) as run:
        made = pretrain(run)
    losses = {when: made.figures[f"held_out_loss_{when}"] for when in ("before", "after")}
    print(
        f"{architecture}: {steps} steps in {made.figures['train_s']:.0f} s at "
        f"{made.figures['tokens_per_s']:.0f} tokens/s; held-out loss {losses['before']:.3f} -> "
        f"{losses['after']:.3f}",
        flush=True,
    )
    return made


def untrained(model: Pretrained) -> Pretrained:
    """Return a model of the same class and vocabulary that has learned nothing."""
    seed_all(7)
    fresh = new_model(model.architecture, "tiny", model.tokenizer, MAX_TOKENS)
    return dataclasses.replace(model, model=fresh)


def classification(encoder: Pretrained, data: Path, steps: int) -> dict[str, float]:
    """Tell which of five data sets a question comes from; a guess is right in 20 %."""
    train: list[tuple[str, str]] = []
    test: list[tuple[str, str]] = []
    for name, field in QUESTIONS:
        pairs = [(row[field], name.partition("/")[0]) for row in rows(data / name)[:PER_CLASS]]
        train += pairs[:PER_CLASS_TRAINED]
        test += pairs[PER_CLASS_TRAINED:]
    settings = FitSettings(num_steps=steps)
    figures = {"classification_rows": len(test)}
    for start, model in (("pretrained", encoder), ("untrained", untrained(encoder))):
        made = train_classifier(model, *unzipped(train), settings)
        figures[f"classification_accuracy_{start}"] = made.accuracy(*unzipped(test))
    return figures


def unzipped(pairs: Sequence[tuple[str, str]]) -> tuple[list[str], list[str]]:
    """Return two lists of a list of pairs."""
    return [first for first, _ in pairs], [second for _, second in pairs]


def answer_spans(data: Path) -> tuple[list[TaggedText], list[TaggedText]]:
    """Return sentences of SQuAD with the answers in them marked: three of four articles, and the others.

    An answer is marked where its words stand in the paragraph that was asked about; like phrases that nobody
    asked for are not, so that a part of what counts as wrong is none.
    """
    answers: dict[tuple[int, int], list[str]] = {}
    for row in rows(data / "squad" / "questions.jsonl"):
        answers.setdefault((row["article"], row["paragraph"]), []).append(row["answers"][0])
    train: list[TaggedText] = []
    test: list[TaggedText] = []
    for number, article in enumerate(rows(data / "squad" / "articles.jsonl")):
        for place, paragraph in enumerate(article["paragraphs"]):
            for start, end in sentence_spans(paragraph):
                tagged = marked(paragraph[start:end], answers.get((number, place), ()))
                if tagged.spans:
                    (test if number % 4 == 3 else train).append(tagged)
    return train, test


def marked(sentence: str, answers: Sequence[str]) -> TaggedText:
    """Return a sentence with answers marked, longer ones first where two overlap."""
    spans: list[tuple[int, int, str]] = []
    for answer in sorted(answers, key=len, reverse=True):
        start = sentence.find(answer)
        end = start + len(answer)
        if start >= 0 and all(end <= first or start >= last for first, last, _ in spans):
            spans.append((start, end, "ANSWER"))
    return TaggedText(sentence, tuple(sorted(spans)))


def tagging(encoder: Pretrained, data: Path, steps: int) -> dict[str, float]:
    """Tag answer spans."""
    train, test = answer_spans(data)
    settings = FitSettings(num_steps=steps)
    figures = {"tagging_rows": len(test), "tagging_spans": sum(len(row.spans) for row in test)}
    for start, model in (("pretrained", encoder), ("untrained", untrained(encoder))):
        figures[f"tagging_f1_{start}"] = train_tagger(model, train, settings).f1(test)
    return figures


def summarization(model: Pretrained, data: Path, steps: int) -> tuple[dict[str, float], list[dict[str, str]]]:
    """Summarize dialogues; return the figures and the first summaries."""
    dialogues, summaries = unzipped(
        [(row["dialogue"], row["summary"]) for row in rows(data / "dialogsum" / "dev.jsonl")]
    )
    test = rows(data / "dialogsum" / "test.jsonl")[:NUM_TEST_SUMMARIES]
    settings = FitSettings(num_steps=steps, learning_rate=2e-3)
    figures, samples = {"summarization_rows": float(len(test))}, []
    asked = [row["dialogue"] for row in test]
    for start, chosen in (("pretrained", model), ("untrained", untrained(model))):
        made = train_summarizer(chosen, dialogues, summaries, settings, max_tokens=192)
        written = made.write(asked, max_tokens=48)
        overlap = overlap_figures(written, [tuple(row[f"summary{i}"] for i in (1, 2, 3)) for row in test])
        figures[f"summarization_rouge_l_{start}"] = overlap["rouge_l"]
        figures[f"summarization_loss_{start}"] = made.loss(asked, [row["summary1"] for row in test])
        if start == "pretrained":
            samples = [{"dialogue": asked[i][:200], "written": written[i]} for i in range(3)]
    return figures, samples


def exported(decoder: Pretrained, data: Path, folder: Path) -> dict[str, float]:
    """Export the decoder as Q8_0 and return how near the file is to it."""
    texts = [row["dialogue"][:200] for row in rows(data / "dialogsum" / "test.jsonl")[:4]]
    made = export_decoder(decoder.model, decoder.tokenizer, folder, "Q8_0", texts, name="decoder")
    return {"export_agreement": made.verification.value, "export_bytes": made.model.size_bytes}


def draw(curves: dict[str, list[float]], path: Path) -> None:
    """Draw the losses over the steps."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4.5))
    labels = {"encoder": "masked tokens", "decoder": "next token", "encoder-decoder": "span corruption"}
    for name, losses in curves.items():
        mean = [
            sum(losses[max(0, i - 9) : i + 1]) / len(losses[max(0, i - 9) : i + 1])
            for i in range(len(losses))
        ]
        axes.plot(range(1, len(losses) + 1), losses, color=COLOURS[name], alpha=0.2, linewidth=0.8)
        axes.plot(range(1, len(mean) + 1), mean, color=COLOURS[name], label=f"{name}: {labels[name]}")
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("loss (nats a token)")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Run everything, print, write and draw."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.objectives", description=__doc__)
    parser.add_argument("--steps", type=int, default=400, help="of pre-training, a model")
    parser.add_argument("--fit-steps", type=int, default=150, help="of each use")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the results")
    options = parser.parse_args()
    data = Path(os.environ.get("LOCALSMITH_SHARED_DATA") or ROOT.parent / "shared" / "data")
    begun = time.monotonic()
    figures: dict[str, float] = {}
    curves: dict[str, list[float]] = {}
    models: dict[str, Pretrained] = {}
    with tempfile.TemporaryDirectory() as folder:
        for architecture in ("encoder", "decoder", "encoder-decoder"):
            made = pretrained(architecture, data, Path(folder), options.steps)
            models[architecture] = made
            curves[architecture] = [
                loss for _, loss in RunFolder(Path(folder) / architecture).metrics.series("loss")
            ]
            prefix = architecture.replace("-", "_")
            figures |= {f"{prefix}_{name}": value for name, value in made.figures.items()}
        figures |= exported(models["decoder"], data, Path(folder) / "export")
    continued = {
        prompt: continue_text(models["decoder"], prompt, max_tokens=40)
        for prompt in ("#Person1#: Good morning. ", "The city of ")
    }
    figures |= classification(models["encoder"], data, options.fit_steps)
    figures |= tagging(models["encoder"], data, options.fit_steps)
    summed, samples = summarization(models["encoder-decoder"], data, options.fit_steps)
    figures |= summed | {"total_s": time.monotonic() - begun}
    write_results(
        options.results / "objectives.json",
        figures,
        command=f"python -m benchmarks.objectives --steps {options.steps} --fit-steps {options.fit_steps}",
        details={"losses": curves, "continued": continued, "summaries": samples},
    )
    draw(curves, options.results / "objectives.png")
    for name, value in figures.items():
        print(f"{name}: {value:.4g}")


if __name__ == "__main__":
    main()
