"""`crdtdb find|index|patch|update-many|delete-many`: queries, the indexes that serve them, and changing what they find."""

from __future__ import annotations

import json
from typing import Any

import click

from crdtdb.cli.client import NodeClient, read_json, show_json, with_node
from crdtdb.errors import CrdtdbError, InvalidInputError

_PAGE = 500


@click.command()
@click.argument("collection")
@click.argument("selector")
@click.option("--sort", multiple=True, metavar="FIELD[:desc]", help="Order by a field; may be given several times.")
@click.option("--fields", metavar="FIELD,…", help="Print only these.")
@click.option("--limit", type=click.IntRange(0), help="At most so many; all if not given.")
@click.option("--skip", type=click.IntRange(0), default=0, help="Leave out the first so many.")
@click.option("--index", "use_index", metavar="DDOC[/NAME]", help="Go through this index.")
@click.option("--count", is_flag=True, help="Print how many there are.")
@click.option(
    "--explain", is_flag=True, help="Print how the query would be answered: which index, which range, which order."
)
@with_node
def find(
    client: NodeClient,
    collection: str,
    selector: str,
    sort: tuple[str, ...],
    fields: str | None,
    limit: int | None,
    skip: int,
    use_index: str | None,
    count: bool,
    explain: bool,
    as_json: bool,
) -> None:
    """Print the documents that SELECTOR means (JSON, @FILE or -), as JSON Lines.

    \b
    Example:  crdtdb find people '{"age": {"$gt": 30}}' --sort age --as ada
              crdtdb find people '{"age": {"$gt": 30}}' --explain --as ada
    """
    body: dict[str, Any] = {"selector": _selector(selector), "skip": skip}
    if sort:
        body["sort"] = [{field: "desc" if way == "desc" else "asc"} for field, way in map(_ordered, sort)]
    if fields:
        body["fields"] = [field for field in fields.split(",") if field]
    if use_index:
        body["use_index"] = use_index.removeprefix("_design/").split("/", 1)
    if limit is not None:
        body["limit"] = limit
    if explain:
        show_json(client.ask("POST", collection, "_explain", body=body))
        return
    if count:
        answer = client.ask_and_wait("POST", collection, "_find", body={**body, "count": True})
        _warn(answer)
        show_json({"count": answer["count"]}) if as_json else click.echo(f"{answer['count']:,}")
        return
    left = limit
    while left is None or left > 0:
        asked = _PAGE if left is None else min(left, _PAGE)
        answer = client.ask_and_wait("POST", collection, "_find", body={**body, "limit": asked})
        if "bookmark" not in body:
            _warn(answer)
        for document in answer["docs"]:
            click.echo(json.dumps(document, ensure_ascii=False))
        if len(answer["docs"]) < asked:
            return
        left = None if left is None else left - asked
        body.update(bookmark=answer["bookmark"], skip=0)


@click.group()
def index() -> None:
    """Make, list and drop indexes, which serve queries.

    \b
    Example:  crdtdb index create people age name --as ada
    """


@index.command("create")
@click.argument("collection")
@click.argument("fields", nargs=-1, required=True, metavar="FIELD…")
@click.option("--name", help="Its name; made from its definition if not given.")
@click.option("--ddoc", help="The design document that defines it; made from its definition if not given.")
@click.option("--partial", metavar="SELECTOR", help="Only documents that match it are in the index.")
@with_node
def create_index(
    client: NodeClient,
    collection: str,
    fields: tuple[str, ...],
    name: str | None,
    ddoc: str | None,
    partial: str | None,
    as_json: bool,
) -> None:
    """Make an index over FIELDs, unless there is one. Every node builds it for itself.

    \b
    Example:  crdtdb index create people age name --as ada
    """
    definition: dict[str, Any] = {"fields": list(fields)}
    if partial is not None:
        definition["partial_filter_selector"] = _selector(partial)
    body = {"index": definition, **({"name": name} if name else {}), **({"ddoc": ddoc} if ddoc else {})}
    made = client.ask("POST", collection, "_index", body=body)
    if as_json:
        show_json(made)
    else:
        click.echo(f"{made['id']}/{made['name']}  {made['result']}")


@index.command("list")
@click.argument("collection")
@with_node
def list_indexes(client: NodeClient, collection: str, as_json: bool) -> None:
    """List the indexes of a collection.

    \b
    Example:  crdtdb index list people --as ada
    """
    found = client.ask("GET", collection, "_index")["indexes"]
    if as_json:
        show_json(found)
        return
    from crdtdb.cli.render import out, table

    rows = []
    for one in found:
        fields = ", ".join(" ".join(pair) for field in one["def"]["fields"] for pair in field.items())
        partial = one["def"].get("partial_filter_selector")
        rows.append((one["ddoc"] or "", one["name"], fields, json.dumps(partial) if partial else ""))
    out().print(table(None, "DESIGN DOCUMENT", "NAME", "FIELDS", "ONLY", rows=rows))


@index.command("drop")
@click.argument("collection")
@click.argument("ddoc")
@click.argument("name")
@with_node
def drop_index(client: NodeClient, collection: str, ddoc: str, name: str, as_json: bool) -> None:
    """Drop the index NAME of the design document DDOC, on every node.

    \b
    Example:  crdtdb index drop people by-age by-age --as ada
    """
    done = client.ask("DELETE", collection, "_index", ddoc.removeprefix("_design/"), "json", name)
    show_json(done) if as_json else click.echo("dropped")


@click.command()
@click.argument("collection")
@click.argument("doc_id", metavar="ID")
@click.argument("patch")
@click.option("--rev", help="Only if this is the document's revision.")
@with_node
def patch(client: NodeClient, collection: str, doc_id: str, patch: str, rev: str | None, as_json: bool) -> None:
    """Change some values of a document by PATCH, a JSON merge patch (JSON, @FILE or -), in which null removes.

    \b
    Example:  crdtdb patch notes a '{"title": "y", "draft": null}' --as ada
    """
    query = {"rev": rev} if rev is not None else {}
    written = client.ask("PATCH", collection, doc_id, body=read_json(patch), **query)
    show_json(written) if as_json else click.echo(f"{written['id']}  {written['rev']}")


@click.command("update-many")
@click.argument("collection")
@click.argument("selector")
@click.argument("patch")
@with_node
def update_many(client: NodeClient, collection: str, selector: str, patch: str, as_json: bool) -> None:
    """Apply PATCH, a JSON merge patch, to every document that SELECTOR means.

    What another client writes meanwhile is left as it is and counted: run the command again for it.

    \b
    Example:  crdtdb update-many people '{"city": "Rome"}' '{"in": "Italy"}' \\
                  --as ada
    """
    _many(client, collection, "_update_many", {"selector": _selector(selector), "patch": read_json(patch)}, as_json)


@click.command("delete-many")
@click.argument("collection")
@click.argument("selector")
@click.option("--yes", is_flag=True, help="Don't ask.")
@with_node
def delete_many(client: NodeClient, collection: str, selector: str, yes: bool, as_json: bool) -> None:
    """Delete every document that SELECTOR means.

    \b
    Example:  crdtdb delete-many people '{"left": true}' --as ada
    """
    wanted = _selector(selector)
    if not yes:
        number = client.ask_and_wait("POST", collection, "_find", body={"selector": wanted, "count": True})["count"]
        click.confirm(f"Delete {number:,} documents of {collection}?", abort=True, err=True)
    _many(client, collection, "_delete_many", {"selector": wanted}, as_json)


def _many(client: NodeClient, collection: str, what: str, body: dict[str, Any], as_json: bool) -> None:
    from crdtdb.cli.render import progress

    total = client.ask_and_wait("POST", collection, "_find", body={"selector": body["selector"], "count": True})
    counts = {"changed": 0, "failed": 0}
    with progress(f"{what.strip('_').replace('_', '-')} in {collection}", total["count"]) as bar:
        while True:
            answer = client.ask_and_wait("POST", collection, what, body={**body, "limit": _PAGE})
            for key in counts:
                counts[key] += answer[key]
            for result in answer["results"]:
                if "error" in result:
                    click.echo(f"{result['id']}: {result['reason']}", err=True)
            bar.advance(bar.task_ids[0], len(answer["results"]))
            if answer["bookmark"] == "nil":
                break
            body["bookmark"] = answer["bookmark"]
    if as_json:
        show_json(counts)
    else:
        click.echo(f"{counts['changed']:,} documents changed")
    if counts["failed"]:
        raise CrdtdbError(f"{counts['failed']:,} documents were not changed: see above, and run the command again")


def _selector(text: str) -> dict[str, Any]:
    value = read_json(text)
    if not isinstance(value, dict):
        raise InvalidInputError('a selector is a JSON object, such as \'{"age": {"$gt": 30}}\'')
    return value


def _ordered(field: str) -> tuple[str, str]:
    name, _, way = field.rpartition(":")
    return (name, way) if name and way in ("asc", "desc") else (field, "asc")


def _warn(answer: dict[str, Any]) -> None:
    for line in answer.get("warning", "").splitlines():
        click.echo(f"warning: {line}", err=True)
