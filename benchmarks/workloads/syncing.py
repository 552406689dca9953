"""A PouchDB that pushes to a server, pulls from it, and waits for what others write there."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.results import Result, Series
from benchmarks.runner import Plan
from benchmarks.targets.pouch import MODULES, node_of
from benchmarks.targets.server import Nodes, Server

PUSH, PULL, LIVE = "PouchDB pushes to it", "PouchDB pulls from it", "PouchDB hears of a change"
_DOCUMENTS = 2_000


def syncing(servers: Sequence[Server], result: Result, plan: Plan, tell: Callable[[str], None]) -> None:
    """Measure at servers that are running."""
    size = max(100, int(_DOCUMENTS * plan.share))
    found: dict[tuple[str, str], Series] = {}
    for number in range(plan.rounds + 1):
        for server in servers:
            tell(f"PouchDB through {server.name}, round {number}")
            measured = _measure(server, plan, size, number)
            for what, unit in ((PUSH, "documents/s"), (PULL, "documents/s"), (LIVE, "ms")):
                series = found.setdefault(
                    (what, server.name),
                    Series(
                        workload=what,
                        target=server.name,
                        durability=server.durability,
                        unit=unit,
                        documents=size if unit != "ms" else 1,
                        values=[],
                    ),
                )
                if number:
                    series.values.append(measured[what])
    result.series += found.values()


def _measure(server: Server, plan: Plan, size: int, number: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="crdtdb-bench-") as folder, server.open(Path(folder)) as session:
        documents = Path(folder) / "documents.json"
        given = plan.source.take(size, seed=number)
        documents.write_text(json.dumps([{"_id": doc_id, **body} for doc_id, body in given]))
        setup = {
            "modules": str(MODULES),
            "folder": folder,
            "documents": str(documents),
            "url": server.url,
            "name": session.database,
            "certs": _certs(server),
        }
        done = subprocess.run(
            [node_of("pouchdb"), str(Path(__file__).with_suffix(".js"))],
            env={**os.environ, "CRDTDB_BENCH": json.dumps(setup)},
            capture_output=True,
            text=True,
            check=True,
            timeout=300,
        )
    told = json.loads(done.stdout)
    return {PUSH: told["push"], PULL: told["pull"], LIVE: told["live"]}


def _certs(server: Server) -> str | None:
    return str(server.cluster.certs) if isinstance(server, Nodes) and server.cluster is not None else None
