"""Zip bombs of every make, and fuzzed files: a reason, never a crash."""

from __future__ import annotations

import io
import random
import struct
import zipfile
import zlib
from pathlib import Path

import pytest
from localsmith.core.errors import LoadError
from localsmith.retrieval.loaders import load_document
from localsmith.retrieval.loaders.archive import Limits, check_archive
from localsmith.retrieval.parser_process import ParserProcess


def archive(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as target:
        for name, content in members.items():
            target.writestr(name, content)
    return path


def reason(path: Path, limits: Limits | None = None) -> str:
    with pytest.raises(LoadError) as caught:
        check_archive(path, path.name, limits)
    return caught.value.reason


@pytest.mark.parametrize("kind", ["docx", "xlsx", "pptx", "epub", "odt"])
def test_a_bomb_is_refused_whatever_it_calls_itself(tmp_path: Path, kind: str) -> None:
    path = archive(tmp_path / f"a.{kind}", {"content.xml": bytes(60_000_000)})
    with pytest.raises(LoadError) as caught:
        load_document(path, path.name)
    assert caught.value.reason == "archive_bomb"


def test_a_bomb_that_understates_its_size_is_found_while_inflating(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.docx", {"word/document.xml": bytes(50_000_000)})
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = content.index(signature) + offset
        assert struct.unpack_from("<I", content, at)[0] == 50_000_000
        struct.pack_into("<I", content, at, 1000)
    path.write_bytes(content)
    assert zipfile.ZipFile(path).infolist()[0].file_size == 1000
    with pytest.raises(LoadError, match="times its size"):
        check_archive(path, path.name)
    assert reason(path, Limits(max_ratio=1e9)) == "archive_bomb"


def test_a_bomb_in_a_bomb_counts_as_one(tmp_path: Path) -> None:
    inner = archive(tmp_path / "i.zip", {"a": bytes(9_000_000)}).read_bytes()
    path = archive(tmp_path / "a.docx", {f"{n}.xlsx": inner for n in range(30)})
    check_archive(path, "a.docx")
    assert reason(path, Limits(max_unpacked_bytes=100_000_000)) == "archive_bomb"


def test_endless_nesting_is_refused(tmp_path: Path) -> None:
    content = b"x"
    for n in range(5):
        content = archive(tmp_path / f"{n}.zip", {"a.zip": content}).read_bytes()
    (tmp_path / "a.docx").write_bytes(content)
    assert reason(tmp_path / "a.docx") == "archive_bomb"


def test_members_that_share_bytes_are_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.docx", {"a": bytes(1000), "b": bytes(1000)})
    content = bytearray(path.read_bytes())
    second = content.index(b"PK\x01\x02", content.index(b"PK\x01\x02") + 1)
    struct.pack_into("<I", content, second + 42, 0)  # the second member points at the first one's data
    path.write_bytes(content)
    assert reason(path) in ("archive_bomb", "corrupt")


def test_too_many_members_are_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.docx", {str(n): b"" for n in range(30)})
    assert reason(path, Limits(max_members=20)) == "archive_bomb"


def test_an_encrypted_archive_says_so(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.epub", {"mimetype": b"application/epub+zip"})
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    path.write_bytes(content)
    assert reason(path) == "encrypted"


def test_honest_archives_pass(shared_data: Path) -> None:
    names = ("word_sample.docx", "winter-sports.epub", "fake.odt", "2023-half-year-analyses-by-segment.xlsx")
    for name in names:
        check_archive(shared_data / "documents/more" / name, name)


def test_a_sheet_of_equal_rows_is_no_bomb(tmp_path: Path) -> None:
    """Repetitive sheets are the honest files that deflate best: about 100 to 1."""
    rows = "".join(f'<row r="{n}"><c r="A{n}" t="n"><v>1</v></c></row>' for n in range(400_000)).encode()
    ratio = len(rows) / len(zlib.compress(rows))
    path = archive(tmp_path / "a.xlsx", {"xl/worksheets/sheet1.xml": rows})
    check_archive(path, "a.xlsx")
    assert len(rows) > Limits().ratio_from_bytes and ratio < Limits().max_ratio


def test_entities_that_grow_are_not_expanded(tmp_path: Path) -> None:
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    types = f'<!DOCTYPE t [<!ENTITY l0 "lol">{laughs}]><Types>&l9;</Types>'
    path = archive(tmp_path / "a.docx", {"[Content_Types].xml": types.encode(), "word/document.xml": b"<x/>"})
    with ParserProcess(timeout_s=30) as parser, pytest.raises(LoadError):
        parser.parse(path, "a.docx")


FUZZED = [
    "tracemonkey.pdf",
    "pdflatex-4-pages.pdf",
    "more/word_sample.docx",
    "more/fake.odt",
    "more/2023-half-year-analyses-by-segment.xlsx",
    "more/fake-power-point-table.pptx",
    "more/winter-sports.epub",
    "more/eml_with_attachment.eml",
    "more/fake-doc.rtf",
    "more/example-10k-1p.html",
    "more/wiki.md",
    "more/wiki_movie_plots_small.csv",
    "more/fake-text-utf-16.txt",
]


def test_fuzzed_files_are_read_or_refused_and_never_crash(shared_data: Path, tmp_path: Path) -> None:
    dice = random.Random(7)
    outcomes = {"read": 0, "refused": 0}
    with ParserProcess(timeout_s=30, memory_bytes=1_000_000_000) as parser:
        for name in FUZZED:
            original = (shared_data / "documents" / name).read_bytes()
            for _ in range(8):
                content = bytearray(original)
                for _ in range(dice.choice([1, 10, 200])):
                    content[dice.randrange(len(content))] = dice.randrange(256)
                if dice.random() < 0.3:
                    begin = dice.randrange(len(content))
                    del content[begin : begin + dice.randrange(1, 5000)]
                path = tmp_path / Path(name).name
                path.write_bytes(content)
                try:
                    document = parser.parse(path, path.name)
                    assert document.text.strip()
                    outcomes["read"] += 1
                except LoadError as error:
                    assert str(error) and error.reason
                    outcomes["refused"] += 1
    assert min(outcomes.values()) > 5, outcomes


def test_members_fuzzed_inside_an_intact_archive(shared_data: Path, tmp_path: Path) -> None:
    """Damage that the zip's checksums don't catch reaches the parsers of XML."""
    dice = random.Random(11)
    with ParserProcess(timeout_s=30, memory_bytes=1_000_000_000) as parser:
        for name in FUZZED[2:7]:
            for _ in range(6):
                source = zipfile.ZipFile(io.BytesIO((shared_data / "documents" / name).read_bytes()))
                members = {}
                for member in source.infolist():
                    content = bytearray(source.read(member))
                    for _ in range(dice.choice([0, 3, 40]) if content else 0):
                        content[dice.randrange(len(content))] = dice.randrange(256)
                    members[member.filename] = bytes(content)
                path = archive(tmp_path / Path(name).name, members)
                try:
                    assert parser.parse(path, path.name).text.strip()
                except LoadError as error:
                    assert str(error) and error.reason
