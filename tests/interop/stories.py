"""Runs a story of `js/stories.js` in Node, and does what it asks for meanwhile."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from threading import Timer
from typing import Any

import pytest

from crdtdb.cli.demo.cluster import DemoCluster

HERE = Path(__file__).parent
Answers = dict[str, Callable[[], object]]


def need_node() -> str:
    """Return the program, or skip loudly."""
    node = shutil.which("node")
    if node is None or not (HERE / "node_modules" / "pouchdb").is_dir():
        pytest.skip("Node.js, or PouchDB in tests/interop/node_modules, isn't there: `make test` installs it by npm")
    return node


def tell(cluster: DemoCluster, name: str, answers: Answers | None = None, **setup: Any) -> Any:
    """Run a story to its end and return what it returned. Raises AssertionError with what it said if it failed."""
    environment = {
        **os.environ,
        "CRDTDB_INTEROP": json.dumps(
            {
                "urls": {one: cluster.url(one) for one in cluster.names},
                "certs": str(cluster.certs),
                "folder": str(cluster.folder),
                **setup,
            }
        ),
    }
    process = subprocess.Popen(
        [need_node(), str(HERE / "js" / "stories.js"), name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        text=True,
    )
    watchdog = Timer(120, process.kill)
    watchdog.start()
    done: Any = None
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    with process:
        try:
            for line in process.stdout:
                said = json.loads(line) if line.startswith("{") else {}
                if "ask" in said:
                    answer = (answers or {})[said["ask"]]()
                    process.stdin.write(json.dumps(answer) + "\n")
                    process.stdin.flush()
                done = said.get("done", done)
            code = process.wait()
            assert code == 0, f"the story {name} failed:\n{process.stderr.read()}"
            return done
        finally:
            watchdog.cancel()
            process.kill()
