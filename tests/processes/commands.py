"""The commands of an operator, run as processes of their own against a cluster."""

from __future__ import annotations

import subprocess
import sys

from crdtdb.cli.demo.cluster import DemoCluster


def command(cluster: DemoCluster, node: str, *arguments: str, who: str = "root") -> tuple[int, str]:
    """Run a command against a node; return its exit code and its output."""
    options = ["--url", cluster.url(node), "--certs", str(cluster.certs), "--as", who] if node else []
    run = subprocess.run(
        [sys.executable, "-m", "crdtdb", *arguments, *options], capture_output=True, text=True, check=False, timeout=60
    )
    return run.returncode, run.stdout + run.stderr
