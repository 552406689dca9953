"""`crdtdb import|export`: JSON Lines, a document a line, with its `_id`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import click

from crdtdb.cli.client import NodeClient, show_json, with_node
from crdtdb.cli.documents import make_collection
from crdtdb.cli.render import progress
from crdtdb.errors import InvalidInputError

_BATCH_DOCUMENTS = 500
_BATCH_BYTES = 4 * 1024 * 1024


@click.command("import")
@click.argument("collection")
@click.argument("file", type=click.File("r"), default="-")
@click.option("--update", is_flag=True, help="Replace documents that are there already, instead of leaving them.")
@with_node
def import_documents(client: NodeClient, collection: str, file: IO[str], update: bool, as_json: bool) -> None:
    """Write the documents of FILE (standard input if not given): JSON Lines, each an object with an `_id`.

    The collection is made if it doesn't exist. Documents that exist already are left as they are and counted.

    \b
    Example:  crdtdb import notes notes.jsonl --as ada
    """
    make_collection(client, collection)
    counts = {"written": 0, "existing": 0, "refused": 0}
    with progress(f"importing into {collection}", _lines_of(file)) as bar:
        for batch in _batches(file):
            _write(client, collection, batch, update, counts)
            bar.advance(bar.task_ids[0], len(batch))
    if as_json:
        show_json(counts)
    else:
        left = f", {counts['existing']:,} left as they are" if counts["existing"] else ""
        click.echo(f"{counts['written']:,} documents written{left}")
    if counts["refused"]:
        raise InvalidInputError(f"{counts['refused']:,} documents were refused: see above")


@click.command()
@click.argument("collection")
@click.argument("file", type=click.Path(path_type=Path), required=False)
@with_node
def export(client: NodeClient, collection: str, file: Path | None, as_json: bool) -> None:
    """Print the documents of a collection as JSON Lines, or write them to FILE.

    Of a document with conflicts the winner is written, with the bodies of its other siblings under `_conflicts`: import leaves
    those out. A FILE appears under its name when it is complete.

    \b
    Example:  crdtdb export notes notes.jsonl --as ada
    """
    total = client.ask("GET", collection)["doc_count"]
    others = {row["id"]: row["siblings"][1:] for row in client.ask("GET", collection, "_conflicts")["rows"]}
    partial = file.with_name(file.name + ".partial") if file is not None else None
    target: IO[str] = partial.open("w") if partial is not None else sys.stdout
    written = 0
    try:
        with progress(f"exporting {collection}", total) as bar:
            for page in _pages(client, collection):
                for row in page:
                    document = {name: value for name, value in row["doc"].items() if name != "_rev"}
                    if row["id"] in others:
                        document["_conflicts"] = [one["body"] for one in others[row["id"]]]
                    target.write(json.dumps(document, ensure_ascii=False) + "\n")
                written += len(page)
                bar.advance(bar.task_ids[0], len(page))
    finally:
        if partial is not None:
            target.close()
    if partial is not None and file is not None:
        partial.replace(file)
        if as_json:
            show_json({"written": written})
        else:
            click.echo(f"{written:,} documents written to {file}")


def _pages(client: NodeClient, collection: str) -> Iterator[list[dict[str, Any]]]:
    start: dict[str, str] = {}
    while True:
        answer = client.ask("GET", collection, "_all_docs", include_docs="true", limit=1000, **start)
        yield answer["rows"]
        if len(answer["rows"]) < 1000:
            return
        start = {"startkey": json.dumps(answer["rows"][-1]["id"] + "\0")}


def _batches(file: IO[str]) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    size = 0
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            document = json.loads(line)
        except ValueError as error:
            raise InvalidInputError(f"line {number} isn't JSON: {error}") from error
        if not isinstance(document, dict) or not isinstance(document.get("_id"), str):
            raise InvalidInputError(
                f'line {number} isn\'t an object with an `_id`, such as {{"_id": "a", "title": "x"}}'
            )
        batch.append({name: value for name, value in document.items() if name not in ("_rev", "_conflicts")})
        size += len(line)
        if len(batch) == _BATCH_DOCUMENTS or size > _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _write(
    client: NodeClient, collection: str, batch: list[dict[str, Any]], update: bool, counts: dict[str, int]
) -> None:
    results = _each_written(client, collection, batch)
    existing = []
    for document, result in zip(batch, results, strict=True):
        if result.get("ok"):
            counts["written"] += 1
        elif result["error"] == "conflict":
            existing.append(document)
        else:
            counts["refused"] += 1
            click.echo(f"{document['_id']}: {result['reason']}", err=True)
    if not update or not existing:
        counts["existing"] += len(existing)
        return
    ids = [document["_id"] for document in existing]
    rows = client.ask("POST", collection, "_all_docs", body={"keys": ids})["rows"]
    revs = {row["id"]: row["value"]["rev"] for row in rows if "id" in row}
    named = [{**document, "_rev": revs.get(document["_id"])} for document in existing]
    for result in client.ask("POST", collection, "_bulk_docs", body={"docs": named}):
        counts["written" if result.get("ok") else "existing"] += 1


def _each_written(client: NodeClient, collection: str, batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Write documents and return a result for each.

    A malformed document refuses the whole request, as CouchDB has it: halves of the batch go on until it stands alone.
    """
    try:
        results: list[dict[str, Any]] = client.ask("POST", collection, "_bulk_docs", body={"docs": batch})
    except InvalidInputError as error:
        if len(batch) == 1:
            return [{"id": batch[0]["_id"], "error": "bad_request", "reason": str(error)}]
        half = len(batch) // 2
        return [*_each_written(client, collection, batch[:half]), *_each_written(client, collection, batch[half:])]
    return results


def _lines_of(file: IO[str]) -> int | None:
    """Return how many lines a file has, None for a stream that can be read only once."""
    if not file.seekable():
        return None
    lines = sum(1 for _ in file)
    file.seek(0)
    return lines
