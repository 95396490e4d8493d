"""`localsmith documents`: add, list, remove, restore and re-index, and the collections they stand in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .core.types import DEFAULT_COLLECTION

if TYPE_CHECKING:
    from .front_door import Localsmith

app = typer.Typer(help="The document library: add, list, remove, restore, re-index.", no_args_is_help=True)

Collection = Annotated[str, typer.Option(help="The collection.")]
Id = Annotated[str, typer.Argument(help="Identifier of the document, as listed; its beginning suffices.")]


@app.command()
def add(
    files: Annotated[list[Path], typer.Argument(help="Files, or folders of files.")],
    collection: Collection = DEFAULT_COLLECTION,
    replace: Annotated[bool, typer.Option(help="Replace documents of the same name.")] = False,
) -> None:
    """Add files to a collection.

    A collection that isn't there is made.
    """
    from .terminal import console, show_ingest

    with _front_door() as ls:
        if collection not in [info.name for info in ls.library.collections()]:
            ls.library.create_collection(collection)
        documents, num_failed = show_ingest(
            ls.library.ingest(list(_files(files)), collection, replace=replace)
        )
    console.print(f"{len(documents)} in {collection}, {num_failed} failed.", markup=False)
    if num_failed:
        raise typer.Exit(1)


@app.command("list")
def list_documents(collection: Collection = DEFAULT_COLLECTION) -> None:
    """List a collection's documents."""
    from rich.table import Table

    from .terminal import console

    with _front_door() as ls:
        table = Table("Document", "Id", "Pages", "Chunks", "kB", box=None)
        for d in ls.library.documents(collection):
            pages = "" if d.num_pages is None else str(d.num_pages)
            table.add_row(d.name, d.id[:12], pages, str(d.num_chunks), f"{d.size_bytes / 1000:,.0f}")
    console.print(table)


@app.command()
def collections() -> None:
    """List the collections."""
    from .terminal import console

    with _front_door() as ls:
        for info in ls.library.collections():
            console.print(f"{info.name}: {info.num_documents} documents", markup=False)


@app.command()
def remove(document_id: Id, collection: Collection = DEFAULT_COLLECTION) -> None:
    """Remove a document.

    `restore` brings it back within the time that `retrieval.undo_days` sets.
    """
    from .terminal import console

    with _front_door() as ls:
        present = [d.id for d in ls.library.documents(collection)]
        document = ls.library.remove(_whole_id(document_id, present))
    console.print(
        f"Removed {document.name}. Undo: localsmith documents restore {document.id[:12]}", markup=False
    )


@app.command()
def restore(document_id: Id, collection: Collection = DEFAULT_COLLECTION) -> None:
    """Bring a removed document back."""
    from .terminal import console

    with _front_door() as ls:
        removed = [r.document.id for r in ls.library.removed_documents(collection)]
        document = ls.library.restore(_whole_id(document_id, removed))
    console.print(f"Restored {document.name}.", markup=False)


@app.command()
def reindex(collection: Collection = DEFAULT_COLLECTION) -> None:
    """Read and embed a collection's documents again.

    For example after a change of the embedding model.
    """
    from .terminal import console, show_ingest

    with _front_door() as ls:
        documents, num_failed = show_ingest(ls.library.reindex(collection))
    console.print(f"Re-indexed {len(documents)}, {num_failed} failed.", markup=False)


def _front_door() -> Localsmith:
    from .front_door import Localsmith

    return Localsmith()


def _files(paths: list[Path]) -> list[Path]:
    found: list[Path] = []
    for path in paths:
        inside = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        found += [p for p in inside if not p.name.startswith(".") or p == path]
    return found


def _whole_id(start: str, ids: list[str]) -> str:
    from .core.errors import IndexNotFoundError

    matching = [candidate for candidate in ids if candidate.startswith(start)]
    if len(matching) != 1:
        raise IndexNotFoundError(
            f"{len(matching)} documents have an identifier that begins with {start!r}.",
            hint="`localsmith documents list` shows the identifiers.",
        )
    return matching[0]
