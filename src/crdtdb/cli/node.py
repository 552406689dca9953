"""`crdtdb node`: run a node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec

from crdtdb.config import NodeConfig, read_file
from crdtdb.errors import ConfigurationError


@click.command()
@click.option(
    "--config", "file", type=click.Path(path_type=Path), help="A TOML file; flags and environment go over it."
)
@click.option("--name", help="The node's name, as in its certificate.")
@click.option("--data", help="A LevelDB directory, or another URL such as sqlite:FILE.")
@click.option("--certs", help="The folder with ca.pem, NAME.pem and NAME.key.  [default: certs]")
@click.option("--listen", help="HOST:PORT for the other nodes.  [default: 127.0.0.1:7001]")
@click.option("--advertise", help="HOST:PORT that the others are to dial, if it isn't --listen.")
@click.option("--http", help="HOST:PORT for clients.  [default: 127.0.0.1:7101]")
@click.option("--health", help="HOST:PORT for /_up without a certificate, for load balancers.  [default: none]")
@click.option("--health-metrics", is_flag=True, default=None, help="Answer /_metrics at --health too.")
@click.option("--join", multiple=True, help="HOST:PORT of any node of the cluster. May be repeated.")
@click.option("--reach", multiple=True, help="NAME=HOST:PORT: dial this member there. May be repeated.")
@click.option(
    "--durability", type=click.Choice(["sync", "buffered"]), help="What an answered write outlives.  [default: sync]"
)
@click.option("--cors", multiple=True, help="Origin of pages that may use the API from a browser. May be repeated.")
@click.option("--logins", is_flag=True, default=None, help="Let users in by a password, without a certificate.")
@click.option("--attachment-bytes-max", type=int, help="How large an attachment may be.  [default: 1 GiB]")
@click.option("--request-bytes-max", type=int, help="How large a request's JSON may be.  [default: 128 MiB]")
@click.option("--offline", is_flag=True, default=None, help="Take writes at once, without asking the others first.")
@click.option("--rejoin", is_flag=True, default=None, help="Come back as a new store after having been retired.")
@click.option(
    "--member-absence-max", type=float, help="Seconds after which a member away is retired.  [default: never]"
)
@click.option("--tombstone-grace", type=float, help="Seconds that a tombstone is kept at least.  [default: 300]")
@click.option(
    "--checkpoint-ttl", type=float, help="Seconds that a client's checkpoint holds tombstones.  [default: 30 d]"
)
@click.option(
    "--history-retention",
    type=float,
    help="Seconds that replaced revisions stay readable.  [default: until compaction]",
)
@click.option("--audit-interval", type=float, help="Seconds between background audits, 0 for none.  [default: 1 d]")
@click.option(
    "--log", type=click.Choice(["debug", "info", "warning", "error"]), help="How much to tell.  [default: info]"
)
@click.option("--log-json", is_flag=True, default=None, help="Logs as JSON, a line each.")
def node(file: Path | None, reach: tuple[str, ...], **flags: Any) -> None:
    """Run a node until Ctrl-C or SIGTERM.

    The first node of a cluster starts without --join; the others name any that runs. Every flag can stand in the environment,
    as CRDTDB_NODE_LISTEN and so on.

    \b
    Example:  crdtdb node --name n1 --data n1 --certs certs
              crdtdb node --name n2 --data n2 --join 127.0.0.1:7001 \\
                  --listen 127.0.0.1:7002 --http 127.0.0.1:7102
    """
    from crdtdb.logs import set_up
    from crdtdb.node import run_node

    config = read_file(file) if file is not None else NodeConfig()
    given = {name: value for name, value in flags.items() if value not in (None, ())}
    if reach:
        given["reach"] = {**config.reach, **dict(_pair(one) for one in reach)}
    config = msgspec.structs.replace(config, **given)
    set_up(config.log if config.log in ("debug", "info", "warning", "error") else "info", as_json=config.log_json)
    run_node(config, lambda gossip, url: click.echo(f"ready: gossip on {gossip}, HTTP on {url}"))


def _pair(text: str) -> tuple[str, str]:
    name, equals, address = text.partition("=")
    if not equals or not name or not address:
        raise ConfigurationError(f"--reach {text!r}: it is NAME=HOST:PORT, such as n3=tunnel.local:9003")
    return name, address
