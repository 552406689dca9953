"""`crdtdb demo`: the whole thing on one machine, in under a minute."""

from __future__ import annotations

import signal
import tempfile
from pathlib import Path

import click

from crdtdb.errors import BackendMissingError


@click.command()
@click.option("--keep", is_flag=True, help="Leave the cluster running at the end, until Ctrl-C, and say what to try.")
@click.option(
    "--dir", "folder", type=click.Path(path_type=Path), help="An empty folder for certificates, stores and logs."
)
def demo(keep: bool, folder: Path | None) -> None:
    """Start three nodes, cut the network, kill a node, heal, resolve, and prove that all hold the same.

    \b
    Example:  crdtdb demo --keep
    """
    try:
        from crdtdb.cli.demo.cluster import DemoCluster
        from crdtdb.cli.demo.story import Story, what_to_try
    except ModuleNotFoundError as error:
        raise BackendMissingError(
            f"the demo needs the package {error.name!r}: run `pip install 'crdtdb[node,demo]'`"
        ) from error
    from crdtdb.cli.render import out

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # no node is to outlive the demo
    backend = _backend()
    with tempfile.TemporaryDirectory(prefix="crdtdb-demo-") as temporary:
        place = folder if folder is not None else Path(temporary)
        if backend == "sqlite":
            out().print("LevelDB isn't installed here (the package plyvel), so the stores are SQLite files.")
        with DemoCluster(place, backend=backend) as cluster:
            try:
                Story(cluster, out()).play()
            except BaseException:
                if folder is not None:
                    out().print(f"the logs of the nodes are in {place}")
                raise
            if keep:
                try:
                    out().print(
                        f"\n[bold]The cluster stays up until Ctrl-C.[/] In another terminal:\n{what_to_try(cluster)}"
                    )
                    _wait()
                except KeyboardInterrupt:
                    out().print("stopping")


def _backend() -> str:
    try:
        import crdtdb.backends.leveldb  # noqa: F401
    except ModuleNotFoundError:
        return "sqlite"
    return "leveldb"


def _wait() -> None:
    from threading import Event

    Event().wait()
