"""The recipes for clusters: shells and YAML readers accept them, and every option in them exists."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "train-on-several-devices.md"


def blocks(language: str) -> list[str]:
    return re.findall(
        rf"^```{language}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )


def known_options(words: list[str]) -> set[str]:
    """Return the options of a command of ours."""
    import typer.main

    from localsmith.cli import app

    command: Any = typer.main.get_command(app)
    for word in words:
        command = command.commands[word]
    return {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}


def torchrun_options() -> set[str]:
    from torch.distributed.run import get_args_parser

    return {name for action in get_args_parser()._actions for name in action.option_strings}


def used_options(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text))


@pytest.fixture(scope="module")
def pods() -> list[Any]:
    return list(yaml.safe_load_all(blocks("yaml")[0]))


def test_shells_accept_the_scripts() -> None:
    for script in [*blocks("bash"), *blocks("slurm")]:
        done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_the_slurm_script_launches_what_exists() -> None:
    (script,) = blocks("slurm")
    launch = "\n".join(line for line in script.splitlines() if line.startswith("launch"))
    assert used_options(launch) and used_options(launch) <= torchrun_options()
    assert re.search(r'^srun .*"\$\{launch\[@\]\}" localsmith train resume tickets$', script, re.MULTILINE)


def test_the_pods_find_each_other_and_launch_what_exists(pods: list[Any]) -> None:
    service, job = pods
    spec = job["spec"]["template"]["spec"]
    name, container = job["metadata"]["name"], spec["containers"][0]
    assert spec["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["selector"] == {"job-name": name}
    assert job["spec"]["completionMode"] == "Indexed"
    arguments = container["args"]
    end = arguments.index("--no-python") + 1
    given = dict(word.removeprefix("--").split("=") for word in arguments[: end - 1])
    assert int(given["nnodes"]) == job["spec"]["completions"] == job["spec"]["parallelism"]
    assert given["rdzv-endpoint"].startswith(f"{name}-0.{spec['subdomain']}:")
    assert int(given["nproc-per-node"]) == container["resources"]["limits"]["nvidia.com/gpu"]
    assert {f"--{key}" for key in given} <= torchrun_options()
    assert arguments[end:] == ["localsmith", "train", "resume", name]
    assert {mount["name"] for mount in container["volumeMounts"]} == {one["name"] for one in spec["volumes"]}


def test_the_commands_on_the_page_have_the_options_they_use() -> None:
    for line in "".join(blocks("bash")).splitlines():
        words = line.split()[1:3]
        assert used_options(line) <= known_options(words), line
    assert {"--parallel", "--processes", "--later"} <= known_options(["train", "sft"])
