"""The files in deploy/: they parse, name only what exists, and their wiring starts a server that answers.

Docker isn't asked here and no unit is started: docs/how-to/outgrow.md says what that leaves untested.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import typer.main
import yaml
from localsmith.core.settings import REMOTE_KEY_VARIABLE, Settings
from localsmith.models.remote.address import RemoteAddress
from localsmith.models.scripted import ScriptedModel
from localsmith.serving.keys import KeyStore

from localsmith.cli import app

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
UNIT = DEPLOY / "localsmith.service"
DROP_INS = sorted((DEPLOY / "localsmith.service.d").glob("*.conf"))
INSTALLED = "/opt/localsmith/.venv/bin/localsmith"
MAX_EXPOSURE = 2.5  # of 10; systemd calls 2 to 5 "OK", a unit without any of its settings has 9.6
TOKENS = re.compile(r"Listening on (http://\S+)/v1")


def directives(path: Path) -> list[tuple[str, str]]:
    """Return the (key, value) pairs of [Service], of which keys may come again."""
    pairs: list[tuple[str, str]] = []
    section = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            section = line
        elif section == "[Service]" and line and not line.startswith("#"):
            key, _, value = line.partition("=")
            pairs.append((key, value))
    return pairs


def environment_of(path: Path) -> dict[str, str]:
    return dict(value.split("=", 1) for key, value in directives(path) if key == "Environment")


def check_command(words: list[str]) -> None:
    """Parse the words as the command line would, without running anything."""
    command: Any = typer.main.get_command(app)
    while getattr(command, "commands", None):
        command, words = command.commands[words[0]], words[1:]
    command.make_context("localsmith", words).close()


def check_variables(variables: dict[str, str]) -> None:
    """Every variable of ours is one that is read."""
    known = {REMOTE_KEY_VARIABLE, f"{REMOTE_KEY_VARIABLE}_FILE"}
    for name, field in Settings.model_fields.items():
        known.add(f"LOCALSMITH_{name.upper()}")
        for key in getattr(field.annotation, "model_fields", {}):
            known.add(f"LOCALSMITH_{name.upper()}__{key.upper()}")
    assert {name for name in variables if name.startswith("LOCALSMITH_")} <= known
    if name := variables.get("LOCALSMITH_MODEL__NAME"):
        assert RemoteAddress.parse(name).model


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))


# -- systemd


def test_the_units_commands_and_variables_exist() -> None:
    lines = [value for key, value in directives(UNIT) if key.startswith("Exec")]
    assert len(lines) == 2
    for line in lines:
        program, *words = shlex.split(line)
        assert program == INSTALLED
        check_command(words)
    for path in (UNIT, *DROP_INS):
        check_variables(environment_of(path))


def test_a_command_that_does_not_exist_is_found() -> None:
    with pytest.raises(Exception, match="--prot"):
        check_command(["serve", "--prot", "8000"])
    with pytest.raises(AssertionError):
        check_variables({"LOCALSMITH_MODEL__NAMES": "x"})


def test_the_key_is_a_credential_and_never_in_the_environment() -> None:
    remote = DEPLOY / "localsmith.service.d" / "remote.conf"
    name, _, source = dict(directives(remote))["LoadCredential"].partition(":")
    assert environment_of(remote)[f"{REMOTE_KEY_VARIABLE}_FILE"] == f"%d/{name}"
    assert source.startswith("/etc/")
    assert REMOTE_KEY_VARIABLE not in environment_of(remote)


def test_the_unit_is_hardened() -> None:
    told = dict(directives(UNIT))
    for key, value in {
        "DynamicUser": "yes",
        "NoNewPrivileges": "yes",
        "ProtectSystem": "strict",
        "ProtectHome": "yes",
        "Restart": "on-failure",
        "CapabilityBoundingSet": "",
    }.items():
        assert told[key] == value
    assert told["MemoryMax"] and "127.0.0.1" in told["ExecStart"]


@pytest.fixture
def installed_unit(tmp_path: Path) -> Callable[..., Path]:
    """Put the unit where its program exists, since `verify` looks for it."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not here; on Debian it comes with the package systemd")
    program = tmp_path / "localsmith"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)

    def install(text: str | None = None, *drop_ins: Path) -> Path:
        unit = tmp_path / UNIT.name
        text = UNIT.read_text(encoding="utf-8") if text is None else text
        unit.write_text(text.replace(INSTALLED, str(program)), encoding="utf-8")
        folder = tmp_path / "localsmith.service.d"
        folder.mkdir(exist_ok=True)
        for path in drop_ins:
            shutil.copy(path, folder)
        return unit

    return install


def analyzed(*args: str) -> str:
    done = subprocess.run(["systemd-analyze", "--no-pager", *args], capture_output=True, text=True)
    return done.stdout + done.stderr  # an unknown key is a line on stderr, not an exit status


def test_systemd_finds_nothing_wrong(installed_unit: Callable[..., Path]) -> None:
    assert analyzed("verify", "--man=no", str(installed_unit())) == ""
    assert analyzed("verify", "--man=no", str(installed_unit(None, *DROP_INS))) == ""


def test_systemd_finds_a_misspelt_setting(installed_unit: Callable[..., Path]) -> None:
    unit = installed_unit(UNIT.read_text(encoding="utf-8").replace("NoNewPrivileges", "NoNewPrivilege"))
    assert "NoNewPrivilege" in analyzed("verify", "--man=no", str(unit))


def test_systemd_calls_the_service_little_exposed(installed_unit: Callable[..., Path]) -> None:
    unit = installed_unit(None, DEPLOY / "localsmith.service.d" / "remote.conf")
    told = analyzed("security", "--offline=true", str(unit))
    if "unrecognized option" in told:
        pytest.skip("this systemd-analyze rates running services only; version 250 or newer rates files")
    found = re.search(r"exposure level for localsmith.service: ([\d.]+)", told)
    assert found is not None and float(found[1]) <= MAX_EXPOSURE, told


# -- compose


def test_compose_names_only_what_it_declares(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for name, service in services.items():
        assert set(service.get("secrets", ())) <= set(compose["secrets"]), name
        assert set(service.get("networks", ())) <= set(compose["networks"]), name
        volumes = {volume.partition(":")[0] for volume in service.get("volumes", ())}
        assert volumes <= set(compose["volumes"]), name
        assert set(service.get("depends_on", ())) <= set(services), name
        assert service["healthcheck"]["test"][0] == "CMD", name
    build = services["localsmith"]["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).is_file()


def test_composes_commands_and_variables_exist(compose: dict[str, Any]) -> None:
    service = compose["services"]["localsmith"]
    *_, script = service["command"]
    commands = re.findall(r"(?:exec )?localsmith ([^&]+)", script)
    assert [words.split()[0] for words in commands] == ["setup", "serve"]
    for words in commands:
        check_command(shlex.split(words))
    check_variables(service["environment"])
    secret = service["environment"][f"{REMOTE_KEY_VARIABLE}_FILE"]
    assert secret.removeprefix("/run/secrets/") in service["secrets"]
    dockerfile = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    command = re.search(r"^CMD \[(.+)\]$", dockerfile, re.MULTILINE)
    assert command is not None
    check_command(re.findall(r'"([^"]+)"', command[1])[1:])
    check_variables(dict(re.findall(r"(LOCALSMITH_\w+)=(\S+)", dockerfile)))


def test_both_model_servers_are_found_under_the_name_that_localsmith_asks(compose: dict[str, Any]) -> None:
    services = compose["services"]
    address = RemoteAddress.parse(services["localsmith"]["environment"]["LOCALSMITH_MODEL__NAME"])
    host, port = address.root_url.removeprefix("http://").split(":")
    for name in ("vllm", "llama-server"):
        service = services[name]
        assert service["networks"]["models"]["aliases"] == [host]
        words = " ".join(service["command"]).replace("=", " ").split()
        named = words[words.index("--served-model-name" if name == "vllm" else "--alias") + 1]
        assert (named, words[words.index("--port") + 1]) == (address.model, port)
        assert "ports" not in service, "a model server is reached through Localsmith alone"
        assert service["profiles"] == [name] and name in services["localsmith"]["profiles"]
    assert all(port.startswith("127.0.0.1:") for port in services["localsmith"]["ports"])


# -- the wiring, as unit and compose have it


@pytest.mark.real_model
def test_the_server_starts_with_the_variables_and_the_key_file_of_deploy(
    serve: Callable[..., Any], tmp_path: Path, models_home: Path, embedder_path: Path
) -> None:
    """Variables, key file and data folder as in deploy/, with this machine's addresses."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "models").symlink_to(models_home / "models")
    keys = KeyStore(tmp_path / "keys.sqlite3")
    _, key = keys.create("localsmith", ("chat",))
    behind = serve(ScriptedModel(["From behind."]), keys=keys)
    (tmp_path / "model_api_key").write_text(f"{key}\n")
    variables = environment_of(DEPLOY / "localsmith.service.d" / "remote.conf")
    variables["LOCALSMITH_MODEL__NAME"] = f"openai://127.0.0.1:{behind.port}/scripted"
    variables[f"{REMOTE_KEY_VARIABLE}_FILE"] = str(tmp_path / "model_api_key")
    environment = os.environ | variables | {"LOCALSMITH_HOME": str(home), "COLUMNS": "200"}
    main = [sys.executable, "-c", "from localsmith.cli import main; main()"]
    done = subprocess.run(
        [*main, "setup", "--no-welcome"], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0 and "no chat model" in done.stderr, done.stderr
    server = subprocess.Popen(
        [*main, "serve", "--host", "127.0.0.1", "--port", "0"],
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        assert server.stderr is not None
        said = ""
        for line in server.stderr:
            said += line
            if "The embedder is ready" in line:
                break
        url = TOKENS.search(said)
        assert url is not None and "The model is ready" in said, said
        assert httpx.get(f"{url[1]}/healthz").json()["status"] == "ready"
        api = openai.OpenAI(base_url=f"{url[1]}/v1", api_key="none", max_retries=0)
        reply = api.chat.completions.create(model="scripted", messages=[{"role": "user", "content": "Hi"}])
        assert reply.choices[0].message.content == "From behind."
    finally:
        server.kill()
        server.wait()
        keys.close()
    assert key not in said + (home / "localsmith.log").read_text(encoding="utf-8")
