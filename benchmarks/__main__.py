"""Run every benchmark, print the report, and keep it in benchmarks/results/."""

import platform
from importlib.metadata import version
from pathlib import Path

from benchmarks import backends, cluster, fields, library, pouchdb, replication


def main() -> None:
    """Measure everything."""
    parts = [f"# Measured on Python {platform.python_version()}, plyvel {version('plyvel')}\n"]
    for module in (library, fields, replication, backends, cluster, pouchdb):
        parts.append(module.run())
        print(parts[-1], flush=True)
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    (results / "report.md").write_text("\n".join(parts))
    print(f"kept in {results / 'report.md'}")


main()
