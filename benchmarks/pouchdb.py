"""PouchDB through a node: push, pull and live latency, beside a CouchDB if CRDTDB_BENCH_COUCHDB has the URL of one.

    CRDTDB_BENCH_COUCHDB=http://admin:secret@127.0.0.1:5984 make bench

Its databases are named crdtdb-bench-…, and are deleted afterwards.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import httpx

from crdtdb.cli.demo.cluster import DemoCluster

_MODULES = Path(__file__).parent.parent / "tests" / "interop" / "node_modules"
_DOCUMENTS, _ROUNDS = 2_000, 3


def run() -> str:
    """Measure, and return the report."""
    node = shutil.which("node")
    if node is None or not (_MODULES / "pouchdb").is_dir():
        return "## PouchDB\n\nNot measured: Node.js, or PouchDB in tests/interop/node_modules, isn't there.\n"
    couchdb = os.environ.get("CRDTDB_BENCH_COUCHDB")
    found: dict[str, list[dict[str, float]]] = {"crdtdb": [], "CouchDB": []}
    with tempfile.TemporaryDirectory() as folder, DemoCluster(Path(folder), ("n1",)) as cluster:
        cluster.start_all()
        for number in range(_ROUNDS):
            name = f"crdtdb-bench-{secrets.token_hex(4)}"
            cluster.ask("n1", "PUT", name)
            found["crdtdb"].append(
                _measure(node, Path(folder) / f"c{number}", url=cluster.url("n1"), name=name, certs=str(cluster.certs))
            )
            if couchdb is not None:
                httpx.put(f"{couchdb}/{name}").raise_for_status()
                try:
                    found["CouchDB"].append(_measure(node, Path(folder) / f"o{number}", url=couchdb, name=name))
                finally:
                    httpx.delete(f"{couchdb}/{name}")
    return _report({who: rounds for who, rounds in found.items() if rounds})


def _measure(node: str, folder: Path, **setup: Any) -> dict[str, float]:
    folder.mkdir()
    told = {"modules": str(_MODULES), "folder": str(folder), "documents": _DOCUMENTS, **setup}
    done = subprocess.run(
        [node, str(Path(__file__).with_suffix(".js"))],
        env={**os.environ, "CRDTDB_BENCH": json.dumps(told)},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


def _report(found: dict[str, list[dict[str, float]]]) -> str:
    lines = [
        f"## PouchDB, {_DOCUMENTS:,} documents of 1 kB through one node, fsync at each commit",
        "",
        f"| what | {' | '.join(found)} |",
        f"|---|{'---|' * len(found)}",
    ]
    for what, unit in (("push", "documents/s"), ("pull", "documents/s"), ("live", "ms until a change arrives")):
        medians = [statistics.median(one[what] for one in rounds) for rounds in found.values()]
        lines.append(f"| {what} | {' | '.join(f'{value:,.0f} {unit}' for value in medians)} |")
    if len(found) == 1:
        lines += ["", "No CouchDB was given to compare with: CRDTDB_BENCH_COUCHDB=URL."]
    return "\n".join([*lines, ""])
