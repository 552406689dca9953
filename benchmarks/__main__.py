"""`python -m benchmarks`: run, report, compare."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console
from rich.markdown import Markdown

from benchmarks import counts, results
from benchmarks.documents import GENERATED, Documents
from benchmarks.machine import machine, versions
from benchmarks.plots import draw
from benchmarks.report import compared, markdown
from benchmarks.results import Result
from benchmarks.runner import Plan
from benchmarks.suite import GROUPS, Choice, in_process, run_groups
from benchmarks.synced import write
from benchmarks.targets.server import Server
from crdtdb.errors import CrdtdbError
from crdtdb.security.tls import Credentials

_RESULTS = Path(__file__).parent / "results"
_SIZES = {"quick": [300, 3_000], "usual": [1_000, 10_000, 100_000], "full": [1_000, 10_000, 100_000, 1_000_000]}
_SHARES = {"quick": 0.02, "usual": 1.0, "full": 2.0}


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def main() -> None:
    """Measure crdtdb beside what people would use instead, on the same work, in one run."""


@main.command()
@click.argument("groups", nargs=-1, type=click.Choice(list(GROUPS)))
@click.option(
    "--scale", type=click.Choice(list(_SHARES)), default="usual", show_default=True, help="How much is measured."
)
@click.option("--rounds", type=click.IntRange(1, 100), default=3, show_default=True, help="After one to warm up.")
@click.option(
    "--documents", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Your own, as JSON Lines."
)
@click.option("--couchdb", metavar="URL", help="A CouchDB to compare with: http://admin:secret@127.0.0.1:5984")
@click.option("--node", metavar="URL", help="A node of yours to measure, with --certs and --as.")
@click.option(
    "--certs", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Where its certificates are."
)
@click.option("--as", "name", default="ada", show_default=True, help="The client that asks it.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Where the result is kept.")
def run(
    groups: tuple[str, ...],
    scale: str,
    rounds: int,
    documents: Path | None,
    couchdb: str | None,
    node: str | None,
    certs: Path | None,
    name: str,
    out: Path | None,
) -> None:
    """Measure GROUPS of workloads, all of them if none is named; keep the result, and print the report.

    \b
    Example:  python -m benchmarks run documents served --documents mine.jsonl
    """
    if (node is None) != (certs is None):
        raise click.UsageError("--node and --certs go together: a node is asked with a client's certificate")
    try:
        source = Documents.from_lines(documents) if documents is not None else GENERATED
        extra = [Server("CouchDB", couchdb.rstrip("/"))] if couchdb is not None else []
        if node is not None and certs is not None:
            extra.append(Server("your node", node.rstrip("/"), Credentials(certs, name).http_client()))
    except (ValueError, CrdtdbError) as error:
        raise click.ClickException(str(error)) from error
    now = datetime.now(UTC)
    result = Result(
        started=now.isoformat(timespec="seconds"),
        machine=machine(),
        versions=versions(),
        rounds=rounds,
        documents=source.name,
    )
    choice = Choice(Plan(rounds, _SHARES[scale], source), _SIZES[scale], extra, groups or tuple(GROUPS))
    with _telling() as tell:
        run_groups(choice, result, tell)
    path = out or _RESULTS / f"{now:%Y%m%d-%H%M%S}.json"
    results.save(result, path)
    _write_report(result, path.parent)
    click.echo(f"kept in {path}, the report in {path.parent / 'report.md'}")


@main.command()
@click.argument("result", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=False)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="A folder for the report.")
def report(result: Path | None, out: Path | None) -> None:
    """Make the report of a RESULT again, of the newest one if none is named.

    \b
    Example:  python -m benchmarks report
    """
    path = result or max(_RESULTS.glob("*.json"), default=None)
    if path is None:
        raise click.ClickException(f"there is no result in {_RESULTS}: `make bench` first")
    _write_report(_loaded(path), out or path.parent)


@main.command()
@click.argument("one", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=False)
@click.argument("other", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=False)
@click.option("--keep", is_flag=True, help="Keep the counts of now, to be compared with from now on.")
def compare(one: Path | None, other: Path | None, keep: bool) -> None:
    """Put two results side by side; without any, compare what operations cost now with the counts that are kept.

    Counts are calls of the backend, rows, bytes, fsyncs and frames: they don't depend on the machine. Exit code 1: they differ.

    \b
    Example:  python -m benchmarks compare before.json after.json
    """
    if one is not None and other is not None:
        _show(compared(_loaded(one), _loaded(other)))
        return
    if one is not None:
        raise click.UsageError("name two results, or none")
    now = counts.count()
    if keep:
        counts.keep(now)
        click.echo(f"kept in {counts.KEPT}")
        return
    lines = counts.differences(now, counts.kept())
    for line in lines:
        click.echo(line)
    if lines:
        sys.exit(1)
    click.echo(f"{len(now)} operations cost what they did")


@main.command(hidden=True)
@click.argument("target")
@click.argument("writes", type=int)
def write_some(target: str, writes: int) -> None:
    """Write some documents to a target, for whoever watches."""
    write(next(one for one in in_process() if repr(one) == target), writes)


def _loaded(path: Path) -> Result:
    try:
        return results.load(path)
    except ValueError as error:
        raise click.ClickException(str(error)) from error


def _write_report(result: Result, folder: Path) -> None:
    text = markdown(result, draw(result, folder))
    (folder / "report.md").write_text(text)
    _show(text)


def _show(text: str) -> None:
    if sys.stdout.isatty():
        Console().print(Markdown(text))
    else:
        click.echo(text)


@contextmanager
def _telling() -> Iterator[Callable[[str], None]]:
    """Tell what is being measured: a line that changes on a terminal, nothing else where none is."""
    with Console(stderr=True).status("…") as status:
        yield status.update


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
