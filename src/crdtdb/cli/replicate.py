"""`crdtdb replicate`: documents from one database to another, between crdtdb and any CouchDB."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import click

from crdtdb.cli.client import CERTS_OPTION, JSON_OPTION, URL_OPTION, read_json, show_json
from crdtdb.errors import CrdtdbError, InvalidInputError


@click.command()
@click.argument("source")
@click.argument("target")
@click.option("--continuous", is_flag=True, help="Go on with what changes, until Ctrl-C.")
@click.option("--create-target", is_flag=True, help="Make the target if it doesn't exist.")
@click.option("--filter", "filter_", metavar="DESIGN/NAME", help="Only what this function of the source lets pass.")
@click.option("--selector", metavar="SELECTOR", help="Only documents that it means: JSON, @FILE or -.")
@click.option("--doc-id", "doc_ids", multiple=True, help="Only this document. May be repeated.")
@URL_OPTION
@CERTS_OPTION
@click.option("--as", "who", envvar="CRDTDB_AS", help="The client: NAME of NAME.pem and NAME.key.")
@JSON_OPTION
def replicate(
    source: str,
    target: str,
    continuous: bool,
    create_target: bool,
    filter_: str | None,
    selector: str | None,
    doc_ids: Sequence[str],
    url: str,
    certs: Path,
    who: str | None,
    as_json: bool,
) -> None:
    """Bring to TARGET what SOURCE has and TARGET lacks: documents, conflicts, histories, attachments.

    Each is the name of a collection of the node at --url, or the URL of a database of any CouchDB, with a name and a password
    in it if need be. A replication that was interrupted goes on where it was.

    \b
    Example:  crdtdb replicate http://admin:secret@old:5984/notes notes \\
                  --create-target --as ada
              crdtdb replicate notes http://admin:secret@old:5984/notes --as ada
    """
    from crdtdb.couchdb.replication import Wanted

    wanted = Wanted(
        continuous=continuous,
        create_target=create_target,
        doc_ids=tuple(doc_ids) or None,
        selector=_object(selector) if selector is not None else None,
        filter=filter_,
    )
    one, other = (_peer(given, url, certs, who) for given in (source, target))
    progress = anyio.run(_run, one, other, wanted)
    if as_json:
        failed = {"failures": progress.failures} if progress.failures else {}
        show_json({**progress.counts(), "source_last_seq": progress.source_seq, **failed})
    else:
        click.echo(f"{progress.docs_written:,} revisions written, {progress.missing_checked:,} looked at")
    if progress.doc_write_failures:
        for one in progress.failures:
            click.echo(f"{one['id']} at {one['rev']}: {one['reason']}", err=True)
        raise CrdtdbError(
            f"{progress.doc_write_failures:,} revisions couldn't be brought (see above) and stay due: the next run tries again"
        )


def _peer(given: str, url: str, certs: Path, who: str | None) -> Any:
    from crdtdb.couchdb.replication import Peer
    from crdtdb.database.validation import check_name
    from crdtdb.security.tls import Credentials

    if "://" in given and not given.startswith(f"{url.rstrip('/')}/"):
        return Peer.of(given)
    if who is None:
        raise click.UsageError(f"--as NAME is needed to reach {given} at {url}: the client's certificate in --certs")
    name = given.removeprefix(f"{url.rstrip('/')}/")
    verify = Credentials(certs, who).http_client()
    return Peer(f"{url.rstrip('/')}/{check_name(name).replace('/', '%2F')}", verify=verify)


async def _run(source: Any, target: Any, wanted: Any) -> Any:
    from crdtdb.cli.render import progress as bar_of
    from crdtdb.couchdb.replication import Endpoint, Progress, Replication

    async with Endpoint(source) as one, Endpoint(target) as other:
        with bar_of(f"{_short(source.url)} to {_short(target.url)}", None) as bar:

            def watch(now: Progress) -> None:
                known = now.changes_pending
                total = now.changes_read + known if known is not None else None
                bar.update(bar.task_ids[0], completed=now.changes_read, total=total)

            return await Replication(one, other, wanted, watch).run()


def _short(url: str) -> str:
    return url.rpartition("/")[2].replace("%2F", "/")


def _object(text: str) -> dict[str, Any]:
    value = read_json(text)
    if not isinstance(value, dict):
        raise InvalidInputError('a selector is a JSON object, such as \'{"kind": "note"}\'')
    return value
