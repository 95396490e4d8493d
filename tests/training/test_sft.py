"""Fine-tuning: what is learned, what is kept, and what a kill or a fault leaves behind."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path

import pytest
from localsmith.core.errors import DatasetError, TrainingError
from localsmith.core.types import Message
from localsmith.training.bases import Base
from localsmith.training.config import SftConfig
from localsmith.training.data.rows import TrainingRow
from localsmith.training.methods.registry import METHODS
from localsmith.training.runs.checkpoints import newest
from localsmith.training.runs.run_folder import RunFolder, open_run
from localsmith.training.sft import Trained, load_trained, train

CONFIG = SftConfig(
    base="tiny", data_version="", batch_size=8, micro_batch_size=4, max_steps=12, learning_rate=3e-3
)


def trained_in(folder: Path, config: SftConfig, base: Base, rows: list[TrainingRow]) -> Trained:
    with RunFolder.create(folder, "sft", config.to_json(), "run") as run:
        return train(run, config, base, rows)


def losses(folder: Path, run_id: str = "run") -> list[float]:
    return [loss for _, loss in open_run(folder, run_id).metrics.series("loss")]


@pytest.mark.parametrize("method", METHODS)
def test_each_method_learns_and_what_it_saved_gives_the_same_logits(
    method: str, tmp_path: Path, tiny_base: Base, colour_rows: list[TrainingRow]
) -> None:
    import torch

    rates = {
        "lora": 3e-2,
        "qlora": 3e-2,
        "full": 1e-2,
        "selective": 1e-2,
        "bottleneck": 3e-2,
        "ia3": 1e-1,
        "prompt": 1e-1,
        "prefix": 1e-1,
    }
    config = dataclasses.replace(CONFIG, method=method, learning_rate=rates[method], max_steps=30)
    trained = trained_in(tmp_path, config, tiny_base, colour_rows[:8])
    curve = losses(tmp_path)
    assert len(curve) == 30
    # An untrained base leaves little to learn for methods that only steer it.
    least = {"ia3": 0.02, "prompt": 0.02, "prefix": 0.02}.get(method, 0.1)
    assert sum(curve[-5:]) / 5 < sum(curve[:5]) / 5 - least
    assert 0 < trained.parameters.trained <= trained.parameters.total

    again, _ = load_trained(open_run(tmp_path, "run"), config, tiny_base)
    tokens = torch.tensor([[5, 9, 30, 31, 12, 7]])
    with torch.no_grad():
        ours = trained.model.eval()(input_ids=tokens).logits
        theirs = again.eval()(input_ids=tokens).logits
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_accumulated_batches_give_the_loss_curve_of_whole_ones(
    tmp_path: Path, tiny_base: Base, colour_rows: list[TrainingRow]
) -> None:
    curves = []
    for micro_batch_size in (8, 2, 1):
        folder = tmp_path / str(micro_batch_size)
        config = dataclasses.replace(CONFIG, method="full", micro_batch_size=micro_batch_size)
        trained_in(folder, config, tiny_base, colour_rows)
        curves.append(losses(folder))
    assert curves[1] == pytest.approx(curves[0], rel=1e-3)
    assert curves[2] == pytest.approx(curves[0], rel=1e-3)


def test_the_same_seed_gives_the_same_run_and_another_one_does_not(
    tmp_path: Path, tiny_base: Base, colour_rows: list[TrainingRow]
) -> None:
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        trained_in(tmp_path / name, dataclasses.replace(CONFIG, seed=seed), tiny_base, colour_rows)
    assert losses(tmp_path / "a") == losses(tmp_path / "b") != losses(tmp_path / "c")


def test_only_the_completion_is_learned(tmp_path: Path, tiny_base: Base) -> None:
    """Two rows that differ in the prompt's labels only in what must not count give the loss by hand."""
    import torch
    from localsmith.training.bases import load_trainable
    from localsmith.training.sft import encode

    row = rows = TrainingRow((Message("user", "What colour?"), Message("assistant", "The coat is red.")))
    config = dataclasses.replace(CONFIG, max_steps=1, batch_size=1, micro_batch_size=1)
    trained_in(tmp_path, config, tiny_base, [rows])
    (encoded,) = encode(config, tiny_base, [row])
    tokens = torch.tensor([list(encoded.tokens)])
    with torch.no_grad():
        logits = load_trainable(tiny_base)(input_ids=tokens).logits[0].double()
    log_probs = logits.log_softmax(-1)
    by_hand = -sum(
        float(log_probs[i - 1, encoded.tokens[i]]) for i in range(encoded.num_prompt, len(encoded.tokens))
    )
    assert losses(tmp_path)[0] == pytest.approx(by_hand / encoded.num_completion, abs=1e-3)


def test_a_person_stops_a_run_and_goes_on_with_the_same_loss_curve(
    tmp_path: Path, tiny_base: Base, colour_rows: list[TrainingRow]
) -> None:
    trained_in(tmp_path / "whole", CONFIG, tiny_base, colour_rows)
    cancel = threading.Event()
    runs = tmp_path / "stopped"
    with RunFolder.create(runs, "sft", CONFIG.to_json(), "run") as run:
        stopped = train(
            run,
            CONFIG,
            tiny_base,
            colour_rows,
            on_progress=lambda progress: cancel.set() if progress.step == 5 else None,
            cancel=cancel,
        )
    assert stopped.is_stopped
    assert open_run(runs, "run").state.status == "stopped"
    assert newest(open_run(runs, "run").checkpoints_dir) is not None
    with open_run(runs, "run") as run:
        train(run, CONFIG, tiny_base, colour_rows)
    assert losses(runs) == pytest.approx(losses(tmp_path / "whole"), rel=1e-4)


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_last_good_checkpoint(
    tmp_path: Path, tiny_base: Base, colour_rows: list[TrainingRow]
) -> None:
    config = dataclasses.replace(
        CONFIG, method="full", learning_rate=1e30, max_grad_norm=0.0, save_every=1, warmup_share=0.5
    )
    with pytest.raises(TrainingError, match="is (nan|inf)"):
        trained_in(tmp_path, config, tiny_base, colour_rows)
    run = open_run(tmp_path, "run")
    assert run.state.status == "failed"
    kept = newest(run.checkpoints_dir)
    assert kept is not None
    assert kept.step == len(losses(tmp_path))


def test_rows_that_are_too_long_are_named_before_anything_is_trained(
    tmp_path: Path, tiny_base: Base, colour_rows: list[TrainingRow]
) -> None:
    config = dataclasses.replace(CONFIG, max_tokens=20)
    with pytest.raises(DatasetError, match="rows are longer than 20 tokens: colours:") as caught:
        trained_in(tmp_path, config, tiny_base, colour_rows)
    assert "--max-tokens" in caught.value.hint
    assert not open_run(tmp_path, "run").checkpoints_dir.exists()


def test_no_rows_are_an_error(tmp_path: Path, tiny_base: Base) -> None:
    with pytest.raises(DatasetError, match="no row to train on"):
        trained_in(tmp_path, CONFIG, tiny_base, [])


def test_a_full_disk_while_the_trained_model_is_saved_leaves_none(tmp_path: Path, tiny_base: Base) -> None:
    import resource
    import signal

    from localsmith.core.errors import StorageError
    from localsmith.training.bases import load_trainable
    from localsmith.training.methods.registry import method_of
    from localsmith.training.trainer_run import save_whole

    method, model = method_of("full"), load_trainable(tiny_base)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    was = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    run = RunFolder.create(tmp_path, "sft", CONFIG.to_json(), "run")
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
        with pytest.raises(StorageError, match="trained.* can't be written"):
            save_whole(run, lambda folder: method.save(model, folder))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, was)
    assert not run.trained_dir.exists()
    save_whole(run, lambda folder: method.save(model, folder))
    assert run.trained_dir.is_dir()


def test_a_full_disk_keeps_the_last_whole_checkpoint(
    tmp_path: Path, tiny_base: Base, colour_rows: list[TrainingRow]
) -> None:
    """A limit on the size of files stands for the disk: the kernel refuses the write in the same place."""
    import resource
    import signal

    from localsmith.core.errors import StorageError

    config = dataclasses.replace(CONFIG, method="full", save_every=3)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    was = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def fill(progress: object) -> None:
        if getattr(progress, "step", 0) == 4:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))

    try:
        with pytest.raises(StorageError, match="step 3 is kept"):
            with RunFolder.create(tmp_path, "sft", config.to_json(), "run") as run:
                train(run, config, tiny_base, colour_rows, on_progress=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, was)
    run = open_run(tmp_path, "run")
    assert [path.name for path in run.checkpoints_dir.iterdir()] == ["checkpoint-3"]
    with run:
        train(run, config, tiny_base, colour_rows)
    assert len(losses(tmp_path)) == 12
