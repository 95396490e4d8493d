"""Pictures of pages, with what was cited marked."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from localsmith.core.errors import LoadError
from localsmith.core.types import Box
from localsmith.retrieval.loaders import load_document
from localsmith.retrieval.page_image import MARK_COLOUR, render_page
from localsmith.retrieval.parser_process import ParserProcess
from PIL import Image


@pytest.fixture(scope="session")
def paper(shared_data: Path) -> Path:
    return shared_data / "documents/tracemonkey.pdf"


def picture(png: bytes) -> Image.Image:
    return Image.open(io.BytesIO(png)).convert("RGB")


def test_the_mark_lies_where_the_box_is_and_nowhere_else(paper: Path) -> None:
    image = picture(render_page(paper, 1, [Box(1, 0.25, 0.02, 0.75, 0.06), Box(2, 0.0, 0.9, 1.0, 1.0)], 600))
    assert image.width == 600
    assert image.getpixel((300, round(0.04 * image.height))) == MARK_COLOUR
    assert image.getpixel((60, round(0.04 * image.height))) == (255, 255, 255)
    assert image.getpixel((300, image.height - 5)) == (255, 255, 255)


def test_letters_stay_readable_under_the_mark(paper: Path) -> None:
    title = load_document(paper, paper.name).blocks[0]
    boxes = [line.box for line in title.lines]
    plain, marked = picture(render_page(paper, 1)), picture(render_page(paper, 1, boxes))
    box = boxes[0]
    area = tuple(
        round(edge * size)
        for edge, size in zip(
            (box.left, box.top, box.right, box.bottom), (*plain.size, *plain.size), strict=True
        )
    )
    before, after = plain.crop(area), marked.crop(area)
    dark = [sum(1 for pixel in image.convert("L").tobytes() if pixel < 60) for image in (before, after)]
    assert dark[0] > 500 and dark[1] >= dark[0], "the title's ink lies within its box and stays black"
    assert picture(render_page(paper, 1, boxes)).getpixel((2, 2)) == (255, 255, 255)


def test_the_boxes_of_a_line_hold_its_ink(paper: Path) -> None:
    """Every box of a page's text covers dark pixels: boxes and picture share one coordinate system."""
    image = picture(render_page(paper, 3, (), 1200)).convert("L")
    boxes = [line.box for block in load_document(paper, "x.pdf").blocks for line in block.lines]
    boxes = [box for box in boxes if box.page == 3 and box.right - box.left > 0.05]
    assert len(boxes) > 50
    for box in boxes:
        area = (
            box.left * image.width,
            box.top * image.height,
            box.right * image.width,
            box.bottom * image.height,
        )
        assert min(image.crop(tuple(map(round, area))).tobytes()) < 140, box


@pytest.mark.parametrize("page", [0, 15, 10_000])
def test_a_page_that_is_not_there_is_refused(paper: Path, page: int) -> None:
    with pytest.raises(LoadError, match="no page"):
        render_page(paper, page)


def test_only_pdfs_have_pictures(shared_data: Path) -> None:
    with pytest.raises(LoadError) as caught:
        render_page(shared_data / "documents/more/wiki.md", 1)
    assert caught.value.reason == "unsupported"


def test_an_absurd_width_is_refused(paper: Path) -> None:
    with pytest.raises(ValueError, match="width_px"):
        render_page(paper, 1, (), 100_000)


def test_a_page_of_absurd_proportions_stays_small(tmp_path: Path) -> None:
    import pypdfium2 as pdfium

    document = pdfium.PdfDocument.new()
    document.new_page(1, 14_000)
    path = tmp_path / "ribbon.pdf"
    document.save(path)
    image = picture(render_page(path, 1, (), 900))
    assert image.width * image.height <= 21_000_000


def test_a_picture_comes_through_the_process(paper: Path, shared_data: Path) -> None:
    box = Box(1, 0.2, 0.2, 0.4, 0.3)
    with ParserProcess(timeout_s=60) as parser:
        assert parser.render_page(paper, 1, [box], 500) == render_page(paper, 1, [box], 500)
        with pytest.raises(LoadError):
            parser.render_page(shared_data / "documents/hostile/truncated-made.pdf", 1, [])
        for path in sorted((shared_data / "documents/hostile").glob("*.pdf")):
            try:
                assert parser.render_page(path, 1).startswith(b"\x89PNG")
            except LoadError as error:
                assert str(error)
