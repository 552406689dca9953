"""`crdtdb stability|retire|audit|backup|restore`: the life of a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from crdtdb.cli.client import NodeClient, show_json, with_node
from crdtdb.errors import BackupError, CrdtdbError


@click.command()
@with_node
def stability(client: NodeClient, as_json: bool) -> None:
    """Show what every member has, what waits to be collected, and who holds it back.

    \b
    Example:  crdtdb stability --as ada
    """
    found = client.ask("GET", "_cluster", "stability")
    if as_json:
        show_json(found)
        return
    from crdtdb.cli.render import out, table

    waiting, read = found["waiting"]["stability"], found["waiting"]["clients"]
    out().print(f"{found['stable']:,} of {found['writes']:,} writes are stable: every member has them")
    out().print(f"{_many(waiting)} documents wait for that, {_many(read)} for clients or their tombstones' age")
    if found["held_back_by"]:
        rows = [(one["name"], _many(one["writes"]), _ago(one["seconds"]), one["why"]) for one in found["held_back_by"]]
        out().print()
        out().print(table(None, "held back by", "writes", "for", "", rows=rows))
    if found["clients"]:
        young = [(one["collection"], one["checkpoint"], _ago(one["seconds"])) for one in found["clients"]]
        out().print()
        out().print(table(None, "client's checkpoint in", "id", "age", rows=young))


def _many(number: int) -> str:
    return f"{number:,}" if number < 10_000 else "10,000 or more"


def _ago(seconds: float) -> str:
    for size, word in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {word}"
    return f"{seconds:.0f} s"


@click.command()
@click.argument("name")
@click.option("--force", is_flag=True, help="Also if the member is alive and connected.")
@with_node
def retire(client: NodeClient, name: str, force: bool, as_json: bool) -> None:
    """Take the member NAME out of the cluster for good: nothing waits for it any more.

    If it comes back it is refused, until it is started once with --rejoin. What it alone had is kept then. Needs an
    administrator's certificate.

    \b
    Example:  crdtdb retire n3 --as root
    """
    found = client.ask("POST", "_cluster", "retire", body={"name": name, "force": force})
    if as_json:
        show_json(found)
    else:
        click.echo(f"{name} is retired")


@click.command()
@click.option("--repair", is_flag=True, help="Bring back what one of two has lost.")
@click.option("--member", "members", multiple=True, help="Compare with this member alone. May be repeated.")
@with_node
def audit(client: NodeClient, repair: bool, members: tuple[str, ...], as_json: bool) -> None:
    """Compare what a node holds with what each member holds, while everything goes on. Exit code 1 if something is wrong.

    Needs an administrator's certificate.

    \b
    Example:  crdtdb audit --as root
              crdtdb audit --repair --as root
    """
    body = {"repair": repair, "members": list(members) or None}
    found = client.ask_and_wait("POST", "_cluster", "audit", body=body)
    if as_json:
        show_json(found)
    else:
        _tell(found["findings"], repair)
    if not all(one["clean"] or (repair and one["mended_all"]) for one in found["findings"]):
        raise CrdtdbError("the audit found something" if not repair else "not all of it could be mended: see above")


def _tell(findings: list[dict[str, Any]], repair: bool) -> None:
    for one in findings:
        if one["failed"]:
            click.echo(f"{one['peer']}: no finding: {one['failed']}")
            continue
        if one["clean"]:
            click.echo(f"{one['peer']}: equal, {one['documents']:,} documents")
            continue
        click.echo(f"{one['peer']}: {one['documents']:,} documents compared")
        for key, what in (
            ("lost_here", "lost at this node"),
            ("lost_there", f"lost at {one['peer']}"),
            ("contradictory", "differ under one write: both are kept, look at them"),
            ("rot_here", "rows of this node that don't agree"),
        ):
            for document in one[key]:
                mended = " (mended)" if repair and document in one["mended"] else ""
                click.echo(f"  {what}: {document}{mended}")
        if not one["claims"]:
            click.echo(f"  {one['peer']} has rows that don't agree: run the audit there as well")


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@with_node
def backup(client: NodeClient, file: Path, as_json: bool) -> None:
    """Write everything that a node holds at this moment into FILE, while it goes on. Needs an administrator's certificate.

    FILE appears under its name when it is complete and checked.

    \b
    Example:  crdtdb backup monday.crdtdb --as root
    """
    from crdtdb.cli.render import progress
    from crdtdb.store.backup import check_backup

    partial = file.with_name(file.name + ".part")
    size = 0
    try:
        with partial.open("wb") as out, progress(f"backing up to {file.name}, bytes", None) as bar:
            for piece in client.stream("_cluster", "backup"):
                out.write(piece)
                size += len(piece)
                bar.advance(bar.task_ids[0], len(piece))
        with partial.open("rb") as written:
            header = check_backup(written)
        partial.replace(file)
    except OSError as error:
        raise BackupError(f"can't write {file}: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)
    if as_json:
        show_json({"file": str(file), "bytes": size, "rows": header.rows})
    else:
        click.echo(f"wrote {file}: {size:,} bytes, {header.rows:,} rows")


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--data", required=True, help="Where the new store is to be: an empty place.")
def restore(file: Path, data: str) -> None:
    """Make a store of a backup. The file is checked before anything is written.

    Start a node on it with --join: it enters the cluster as a new store, is compared with the others, and keeps what only the
    backup had. What they have deleted since stays deleted.

    \b
    Example:  crdtdb restore monday.crdtdb --data n3
              crdtdb node --name n3 --data n3 --join 127.0.0.1:7001
    """
    from crdtdb.backends import open_backend
    from crdtdb.cli.render import progress
    from crdtdb.store.backup import check_backup, restore_backup

    try:
        with file.open("rb") as source:
            with progress("checking, rows", None) as bar:
                header = check_backup(source, lambda rows: bar.advance(bar.task_ids[0], rows))
            backend = open_backend(data)
            try:
                with progress("restoring, rows", header.rows) as bar:
                    restore_backup(source, backend, lambda rows: bar.advance(bar.task_ids[0], rows))
            finally:
                backend.close()
    except OSError as error:
        raise BackupError(f"can't read {file}: {error.strerror}") from error
    click.echo(f"restored {header.rows:,} rows into {data}")
