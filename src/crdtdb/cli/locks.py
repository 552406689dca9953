"""`crdtdb locks` and `crdtdb lock`: leases that a majority of the cluster grants."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from threading import Thread

import click

from crdtdb.cli.client import NodeClient, show_json, with_node
from crdtdb.errors import InvalidInputError, LockError


@click.command()
@with_node
def locks(client: NodeClient, as_json: bool) -> None:
    """Show who holds which lock, and who waits for it.

    \b
    Example:  crdtdb locks --as ada
    """
    found = client.ask("GET", "_locks")["locks"]
    if as_json:
        show_json(found)
        return
    from crdtdb.cli.render import out, table

    rows = [
        (one["name"], one["for"], one["node"], str(one["token"]), f"{one['ttl']:g} s", ", ".join(one["waiting"]))
        for one in found
    ]
    out().print(
        table(None, "lock", "for", "through", "token", "ttl", "waiting", rows=rows) if rows else "no lock is held"
    )


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("--ttl", type=click.FloatRange(1, 300), default=30, show_default=True,
              help="Seconds after which others may have it if this process or its node is gone.")  # fmt: skip
@click.option("--wait", type=click.FloatRange(0), default=60, show_default=True, help="Seconds to wait for it.")
@with_node
@click.argument("name")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def lock(client: NodeClient, name: str, command: tuple[str, ...], ttl: float, wait: float, as_json: bool) -> None:
    """Run COMMAND while holding the lock NAME, which at most one holder has in the cluster.

    COMMAND finds the token in CRDTDB_LOCK_TOKEN: the services it writes to should refuse one smaller than any seen before. If
    the lock is lost, COMMAND is terminated. Exit code: that of COMMAND, or 7 without the lock.

    \b
    Example:  crdtdb lock --as ada nightly-report ./report.sh --all
    """
    command = command[1:] if command[:1] == ("--",) else command
    if not command:
        raise InvalidInputError(f"what is to run while {name!r} is held? crdtdb lock {name} COMMAND …")
    if as_json:
        raise InvalidInputError("--json says nothing here: the output is COMMAND's")
    lines = client.lines("POST", "_locks", body={"name": name, "ttl": ttl, "wait": wait, "hold": True})
    lease = json.loads(next(lines))
    environment = {**os.environ, "CRDTDB_LOCK_NAME": name, "CRDTDB_LOCK_TOKEN": str(lease["token"])}
    running: list[subprocess.Popen[bytes]] = []
    # The lock is held until the command has ended, so SIGTERM ends that: also if it comes while the command begins.
    told_to_end: list[int] = []

    def end(number: int, _: object) -> None:
        told_to_end.append(number)
        for one in running:
            one.terminate()

    signal.signal(signal.SIGTERM, end)
    try:
        process = subprocess.Popen(command, env=environment)  # noqa: S603 - what the user asked to be run
    except OSError as error:
        raise InvalidInputError(f"can't run {command[0]}: {error.strerror}") from error
    running.append(process)
    if told_to_end:
        process.terminate()
    lost: list[str] = []
    Thread(target=_watch, args=(lines, process, lost), daemon=True).start()
    while True:
        try:
            code = process.wait()
        except KeyboardInterrupt:  # the terminal has told the command, too
            continue
        break
    if lost:
        raise LockError(f"the lock {name!r} was lost, and {command[0]} terminated: {lost[0]}")
    sys.exit(code if code >= 0 else 128 - code)


def _watch(lines: Iterator[bytes], process: subprocess.Popen[bytes], lost: list[str]) -> None:
    """Read what the node says for as long as it holds the lock; terminate the command when it doesn't any more."""
    why = "the connection with the node ended"
    try:
        for line in lines:
            if line.strip():
                why = json.loads(line).get("reason", why)
    except Exception as error:  # noqa: BLE001 - whatever it is, the lock isn't renewed any more
        why = str(error)
    if process.poll() is None:
        lost.append(why)
        process.terminate()
