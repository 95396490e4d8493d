"""One short run of each architecture on a small real text, which many tests look at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from localsmith.training.pretrain import Pretrained, pretrain
from localsmith.training.pretraining.config import Architecture, PretrainConfig, text_file
from localsmith.training.runs.kinds import PRETRAIN
from localsmith.training.runs.run_folder import RunFolder

TEXT = Path(__file__).parents[2] / "data" / "documents" / "more" / "norwich-city.txt"
ARCHITECTURES: tuple[Architecture, ...] = ("encoder", "decoder", "encoder-decoder")


def config_of(architecture: Architecture) -> PretrainConfig:
    """Forty steps of eight blocks of thirty-two tokens."""
    return PretrainConfig(
        architecture,
        (text_file(TEXT),),
        vocabulary_size=512,
        max_tokens=32,
        max_steps=40,
        batch_size=8,
        micro_batch_size=8,
        held_out_share=0.1,
        learning_rate=5e-3,
        save_every=16,
        device="cpu",
    )


def pretrained_in(runs: Path, config: PretrainConfig) -> Pretrained:
    with RunFolder.create(runs, PRETRAIN, config.to_json(), "run") as run:
        return pretrain(run)


@pytest.fixture(scope="session")
def runs_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Architecture], Path]:
    """Return the folder in which a finished run of an architecture lies, named "run"."""
    made: dict[str, Path] = {}

    def runs(architecture: Architecture) -> Path:
        if architecture not in made:
            made[architecture] = tmp_path_factory.mktemp(architecture)
            pretrained_in(made[architecture], replace(config_of(architecture)))
        return made[architecture]

    return runs
