"""Every format is read with its structure; everything else is refused with a reason."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import pytest
from localsmith.core.errors import LoadError
from localsmith.retrieval.loaded import LoadedDocument
from localsmith.retrieval.loaders import load_document
from localsmith.retrieval.loaders.pdf_layout import layout
from localsmith.retrieval.loaders.pdfium import Line, Page
from localsmith.retrieval.parser_process import ParserProcess
from reportlab.pdfgen.canvas import Canvas

REFUSED = {
    "REDHAT-1531897-0.pdf": "corrupt",
    "bug1020226.pdf": "corrupt",
    "poppler-742-0-fuzzed.pdf": "corrupt",
    "poppler-937-0-fuzzed.pdf": "corrupt",
    "truncated-made.pdf": "corrupt",
    "grayscale-image.pdf": "no_text",
    "loremipsum-flat.pdf": "no_text",
    "nemotron_multipage.pdf": "no_text",
    "poppler-85140-0.pdf": "no_text",
    "GHOSTSCRIPT-698804-1-fuzzed.pdf": "no_text",
    "libreoffice-writer-password.pdf": "encrypted",
    "password.pdf": "encrypted",
    "empty.txt": "empty",
    "inflating-made.docx": "archive_bomb",
}


def load(shared_data: Path, name: str) -> LoadedDocument:
    path = shared_data / "documents" / name
    return load_document(path, path.name)


def headings(document: LoadedDocument) -> list[tuple[int, str]]:
    return [(block.level, block.text) for block in document.blocks if block.kind == "heading"]


def refused(path: Path, name: str | None = None) -> LoadError:
    with pytest.raises(LoadError) as caught:
        load_document(path, name or path.name)
    assert caught.value.hint, "what should the person do?"
    assert str(caught.value).endswith(".")
    return caught.value


def test_every_document_is_read_or_refused_with_the_right_reason(shared_data: Path) -> None:
    files = [path for path in (shared_data / "documents").rglob("*") if path.is_file()]
    assert len(files) > 40
    with ParserProcess(timeout_s=120) as parser:
        for path in files:
            try:
                document = parser.parse(path, path.name)
            except LoadError as error:
                assert REFUSED.get(path.name) == error.reason, f"{path.name}: {error}"
                assert error.hint and path.name in str(error)
            else:
                assert path.name not in REFUSED
                assert document.text.strip()
                assert all(block.text == block.text.strip() != "" for block in document.blocks)
                pages = [block.page for block in document.blocks if block.page is not None]
                assert pages == sorted(pages) and (not pages or pages[-1] <= (document.num_pages or 0))


def test_pdf_text_is_joined_across_lines_and_keeps_its_pages(shared_data: Path) -> None:
    document = load(shared_data, "tracemonkey.pdf")
    assert document.num_pages == 14 and document.media_type == "application/pdf"
    assert "JavaScript are more difficult to compile than statically typed ones" in document.text
    assert (2, "Abstract") in headings(document) or (3, "Abstract") in headings(document)
    assert any(text.startswith("1. Introduction") for _, text in headings(document))
    assert {block.page for block in document.blocks} == set(range(1, 15))
    assert "\ufffe" not in document.text and "\r" not in document.text


def test_a_divided_word_is_joined_unless_the_hyphen_is_its_own() -> None:
    texts = [
        "we com\ufffe",
        "pile in a mixed\ufffe",
        "mode way, a dual\ufffe",
        "core and the 64-\ufffe",
        "Bit kind.",
    ]
    texts += ["A mixed bag in any mode.", "Use dual-core now."]
    lines = [
        Line(text, 0.1, 0.1 + n * 0.02, 0.9, 0.115 + n * 0.02, 10, False) for n, text in enumerate(texts)
    ]
    text = layout([Page(1, tuple(lines))], ())[0].text
    assert "we compile in a mixed-mode way, a dual-core and" in text


def test_pdf_boxes_belong_to_their_text(shared_data: Path) -> None:
    import pypdfium2 as pdfium

    path = shared_data / "documents/tracemonkey.pdf"
    document = load(shared_data, "tracemonkey.pdf")
    page = pdfium.PdfDocument(path)[1]
    width, height = page.get_size()
    reader = page.get_textpage()
    lines = [
        (block.text[li.start_char : li.end_char], li.box) for block in document.blocks for li in block.lines
    ]
    lines = [(text, box) for text, box in lines if box.page == 2 and len(text) > 30]
    assert len(lines) > 60
    for text, box in lines:
        found = reader.get_text_bounded(
            box.left * width, height - box.bottom * height, box.right * width, height - box.top * height
        )
        letters = [re.sub(r"\W", "", value) for value in (text, found)]
        assert letters[0][3:25] in letters[1]


def test_two_columns_are_read_one_after_the_other(shared_data: Path) -> None:
    text = " ".join(load(shared_data, "more/multi-column-2p.pdf").text.split())
    assert "relies on efficient passage retrieval to select candidate contexts" in text
    assert text.index("Abstract") < text.index("1 Introduction") < text.index("2 Background")


def test_running_heads_and_page_numbers_are_dropped_but_no_content(tmp_path: Path) -> None:
    path = tmp_path / "report.pdf"
    pdf = Canvas(str(path))
    for number in range(1, 11):
        pdf.drawString(72, 810, "Annual Report of the Tea Society")
        pdf.drawString(72, 400, f"Item {number} costs {number * 7} pounds and is paid in full.")
        pdf.drawString(72, 100, f"{number * 11} 22.5 33.1")
        pdf.drawString(290, 30, f"Page {number}")
        pdf.showPage()
    pdf.save()
    text = load_document(path, "report.pdf").text
    assert "Annual Report" not in text and "Page 3" not in text
    for number in range(1, 11):
        assert f"Item {number} costs {number * 7} pounds" in text
        assert f"{number * 11} 22.5 33.1" in text, "a row of numbers at the foot of a page is content"


def test_a_pdf_of_which_some_pages_are_scans_is_read_with_a_warning(
    shared_data: Path, tmp_path: Path
) -> None:
    import pypdfium2 as pdfium

    whole = pdfium.PdfDocument.new()
    for name in ("multicolumn.pdf", "grayscale-image.pdf"):
        whole.import_pages(pdfium.PdfDocument(shared_data / "documents" / name))
    path = tmp_path / "mixed.pdf"
    whole.save(path)
    document = load_document(path, "mixed.pdf")
    assert "Lorem ipsum" in document.text
    assert any("Page 4 is a scan" in warning and "OCR" in warning for warning in document.warnings)


def test_a_scan_is_refused_in_words_that_say_so(shared_data: Path) -> None:
    error = refused(shared_data / "documents/grayscale-image.pdf")
    assert "page 1 is a scan without text; OCR is not available yet" in str(error)


def test_a_pdf_that_only_restricts_changes_is_read(shared_data: Path) -> None:
    assert "LayoutParser" in load(shared_data, "more/copy-protected.pdf").text


def test_attachments_of_a_pdf_are_mentioned(shared_data: Path) -> None:
    assert any("Attached" in warning for warning in load(shared_data, "with-attachment.pdf").warnings)


def test_word_keeps_headings_lists_and_tables(shared_data: Path) -> None:
    document = load(shared_data, "more/word_sample.docx")
    assert headings(document) == [(1, "Swimming in the lake"), (1, "Let’s swim!"), (2, "Let’s eat")]
    assert "Leaves | Food: Ash, Elm, Maple | Calories per portion: 50" in document.text
    assert "- Paddle about" in document.text and "1. Wear sunglasses" in document.text


def test_word_tabs_keep_words_apart(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "documents/more/docx-tables.docx"
    path = tmp_path / "tabs.docx"
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w") as new:
        for member in old.infolist():
            content = old.read(member)
            if member.filename == "word/document.xml":
                run = b"<w:p><w:r><w:t>Section 345</w:t><w:tab/><w:t>Money</w:t></w:r></w:p>"
                content = content.replace(b"<w:body>", b"<w:body>" + run)
            new.writestr(member, content)
    assert "Section 345 Money" in load_document(path, "tabs.docx").text


def test_a_workbooks_sheets_are_pages_and_rows_carry_their_columns(shared_data: Path) -> None:
    document = load(shared_data, "more/2023-half-year-analyses-by-segment.xlsx")
    assert document.num_pages == 5
    assert [block.page for block in document.blocks if block.kind == "heading"] == [1, 2, 3, 4, 5]
    row = next(line for line in document.text.splitlines() if line.startswith("Zone NA"))
    assert "Sales (a): 12553" in row


def test_csv_rows_stay_whole_and_carry_their_columns(shared_data: Path) -> None:
    document = load(shared_data, "more/wiki_movie_plots_small.csv")
    lines = document.text.splitlines()
    assert len(lines) == 22
    assert all(line.startswith("Release Year: ") and " | Title: " in line for line in lines)


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_csv_of_any_separator(tmp_path: Path, separator: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(separator.join(["name", "sum"]) + "\n" + separator.join(["Ana", "3"]) + "\n")
    assert load_document(path, "t.csv").text == "name: Ana | sum: 3"


def test_web_pages_lose_scripts_and_keep_headings(shared_data: Path) -> None:
    document = load(shared_data, "hostile/example-with-scripts.html")
    assert (1, "Russian Offensive Campaign Assessment, December 13") in headings(document)
    assert "function(" not in document.text and "{" not in document.text[:2000]
    assert document.title.startswith("Russian Offensive Campaign Assessment")


def test_web_pages_with_lists_tables_and_sloppy_markup(tmp_path: Path) -> None:
    path = tmp_path / "p.html"
    path.write_text(
        "<html><head><title>T<body><h2>Fees</h2><ul><li><p>one<li>two</ul><ol><li>a<li>b</ol>"
        "<table><tr><th>Who<th colspan=2>When<th>Fee<tr><td>Ana<td>May<td>June<td>3</table>"
        "<pre>x = 1\n  y</pre>"
        "<p>a<br>b &amp; c<nav>menu</nav><img src='http://example.org/x.png'>",
        encoding="utf-8",
    )
    text = load_document(path, "p.html").text
    for part in (
        "Fees",
        "- one\n- two",
        "1. a\n2. b",
        "Who: Ana | When: May | June | Fee: 3",
        "x = 1\n  y",
        "a\nb & c",
    ):
        assert part in text, part
    assert "menu" not in text


def test_a_book_keeps_its_chapters(shared_data: Path) -> None:
    document = load(shared_data, "more/winter-sports.epub")
    assert document.title == "Winter Sports in Switzerland"
    assert (2, "CHAPTER I THE SUN-SEEKER") in headings(document)


def test_mail_shows_its_headers_body_and_text_attachments(shared_data: Path) -> None:
    document = load(shared_data, "more/eml_with_attachment.eml")
    assert document.title == "Email with Attachment"
    for part in (
        "From: Alice Example",
        "This email contains an attachment.",
        "This is a test attachment file.",
    ):
        assert part in document.text
    assert (2, "Attachment: test.txt") in headings(document)


def test_markdown_structure_and_links(shared_data: Path, tmp_path: Path) -> None:
    assert headings(load(shared_data, "more/wiki.md"))[0][0] == 1
    path = tmp_path / "a.md"
    path.write_text(
        "---\nx: 1\n---\nTitle\n=====\n\nSee [the map](http://e.org) **now**.\n\n"
        "```py\n# no heading\n```\n| a | b |\n|---|---|\n| 1 | 2 |\n"
    )
    document = load_document(path, "a.md")
    assert [(block.kind, block.text) for block in document.blocks] == [
        ("heading", "Title"),
        ("paragraph", "See the map now."),
        ("code", "# no heading"),
        ("table", "a: 1 | b: 2"),
    ]


def test_rich_text_and_open_document(shared_data: Path) -> None:
    assert headings(load(shared_data, "more/fake-doc.rtf")) == [(1, "My First Heading")]
    assert "Header row: Color | Mon: Blue" in load(shared_data, "more/fake.odt").text


def make_pptx(path: Path) -> None:
    """Three slides in another order than their files, one untitled, one with notes."""
    rel = 'xmlns="http://schemas.openxmlformats.org/package/2006/relationships"'
    base = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    spaces = (
        'xmlns:p="http://schemas.openxmlformats.org/presentationml/2006/main" '
        'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main" '
        f'xmlns:r="{base}"'
    )

    def shape(text: str, kind: str = "") -> str:
        holder = f'<p:ph type="{kind}"/>' if kind else ""
        return (
            f"<p:sp><p:nvSpPr><p:nvPr>{holder}</p:nvPr></p:nvSpPr><p:txBody>"
            f"<a:p><a:r><a:t>{text}</a:t></a:r></a:p></p:txBody></p:sp>"
        )

    def slide(*shapes: str) -> str:
        return f"<p:sld {spaces}><p:cSld><p:spTree>{''.join(shapes)}</p:spTree></p:cSld></p:sld>"

    def relations(*targets: tuple[str, str, str]) -> str:
        links = "".join(f'<Relationship Id="{a}" Type="{base}/{b}" Target="{c}"/>' for a, b, c in targets)
        return f"<Relationships {rel}>{links}</Relationships>"

    order = "".join(f'<p:sldId r:id="r{n}"/>' for n in (2, 1, 3))
    members = {
        "[Content_Types].xml": '<Types><Override ContentType="application/vnd.openxmlformats-officedocument.'
        'presentationml.presentation.main+xml"/></Types>',
        "_rels/.rels": relations(("a", "officeDocument", "ppt/p.xml")),
        "ppt/p.xml": f"<p:presentation {spaces}><p:sldIdLst>{order}</p:sldIdLst></p:presentation>",
        "ppt/_rels/p.xml.rels": relations(*((f"r{n}", "slide", f"slides/s{n}.xml") for n in (1, 2, 3))),
        "ppt/slides/s1.xml": slide(shape("Second", "title"), shape("7", "sldNum")),
        "ppt/slides/s2.xml": slide(shape("First", "ctrTitle"), shape("Hello")),
        "ppt/slides/s3.xml": slide(shape("Only text")),
        "ppt/slides/_rels/s1.xml.rels": relations(("n", "notesSlide", "../notes/n1.xml")),
        "ppt/notes/n1.xml": slide(shape("Say it slowly", "body")),
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def test_slides_come_in_the_presentations_order_with_notes(tmp_path: Path, shared_data: Path) -> None:
    path = tmp_path / "talk.pptx"
    make_pptx(path)
    document = load_document(path, "talk.pptx")
    assert document.num_pages == 3
    assert [(block.page, block.text) for block in document.blocks] == [
        (1, "First"),
        (1, "Hello"),
        (2, "Second"),
        (2, "Notes: Say it slowly"),
        (3, "Slide 3"),
        (3, "Only text"),
    ]
    table = load(shared_data, "more/fake-power-point-table.pptx")
    assert "Column 1: Red | Column 2: Green | Column 3: Blue" in table.text


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252", "cp1251"]
)
def test_text_of_any_encoding(tmp_path: Path, encoding: str) -> None:
    text = "Съешь же ещё этих мягких французских булок, да выпей чаю. " * 20
    if encoding == "cp1252":
        text = "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich. " * 20
    path = tmp_path / "t.txt"
    path.write_bytes(text.encode(encoding))
    document = load_document(path, "t.txt")
    assert document.text == text.strip()
    assert bool(document.warnings) == encoding.startswith("cp"), "a guess is called a guess"


def test_the_content_decides_not_the_name(shared_data: Path, tmp_path: Path) -> None:
    document = load_document(shared_data / "documents/tracemonkey.pdf", "notes.txt.docx")
    assert document.media_type == "application/pdf"
    assert "not a Word document" in document.warnings[0]
    page = tmp_path / "x"
    page.write_text("<!DOCTYPE html><p>Hello there")
    assert load_document(page, "x.csv").media_type == "text/html"


def test_a_page_of_text_called_pdf_is_no_pdf(tmp_path: Path) -> None:
    path = tmp_path / "paper.pdf"
    path.write_text("404 not found")
    assert refused(path).reason == "corrupt"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "PNG"),
        (bytes(range(256)) * 40, "binary"),
        (b"MZ\x90\x00\x03" + bytes(500), "program"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "before 2007"),
    ],
)
def test_binary_junk_called_txt_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    error = refused(path)
    assert error.reason == "unsupported" and words in str(error)


def test_an_office_file_with_a_password_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.docx"
    path.write_bytes(
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500) + "EncryptedPackage".encode("utf-16-le")
    )
    assert refused(path).reason == "encrypted"


def test_blank_text_holds_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(" \n\t\n ")
    assert refused(path).reason == "no_text"


def test_folders_missing_files_and_limits(tmp_path: Path) -> None:
    assert refused(tmp_path, "x.txt").reason == "unsupported"
    assert refused(tmp_path / "gone.txt").reason == "corrupt"
    path = tmp_path / "a.txt"
    path.write_text("tea " * 100)
    for limits in ({"max_file_bytes": 10}, {"max_text_chars": 10}):
        with pytest.raises(LoadError) as caught:
            load_document(path, "a.txt", **limits)
        assert caught.value.reason == "too_large"


@pytest.mark.parametrize(
    "name",
    [
        "more/word_sample.docx",
        "more/winter-sports.epub",
        "more/fake.odt",
        "more/2023-half-year-analyses-by-segment.xlsx",
        "more/fake-power-point-table.pptx",
    ],
)
@pytest.mark.parametrize("share", [0.3, 0.95])
def test_a_download_cut_short_is_damaged(shared_data: Path, tmp_path: Path, name: str, share: float) -> None:
    content = (shared_data / "documents" / name).read_bytes()
    path = tmp_path / Path(name).name
    path.write_bytes(content[: int(len(content) * share)])
    assert refused(path).reason == "corrupt"


def test_nothing_that_a_reader_prints_or_opens_leaves_the_machine(shared_data: Path) -> None:
    """Pages with remote pictures are read under the suite's guard, which fails on any connection."""
    assert "Test page" in load(shared_data, "hostile/fake-html-with-image-from-url.html").text
