"""SIGKILL at random moments of writing over a real LevelDB."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import crdtdb
from crdtdb.canonical_json import load
from crdtdb.documents import view
from crdtdb.store import Store
from crdtdb.testing.invariants import check_store

ROOT = Path(__file__).parent.parent.parent


def kill_while_writing(path: Path, run: int, delay: float) -> tuple[dict[str, int], list[str]]:
    """Let a process write and kill it; return the last acknowledged value of each document, and what was typed."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.store.writer", str(path), str(run)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        first = process.stdout.readline()
        time.sleep(delay)
        os.kill(process.pid, signal.SIGKILL)
        lines = [first, *process.stdout.readlines()]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    acknowledged, typed = {}, []
    for line in lines:
        if line.endswith("\n"):
            doc_id, n = line.split()
            if doc_id == "typed":
                typed.append(n)
            else:
                acknowledged[doc_id] = int(n)
    return acknowledged, typed


def check_typed(store: Store, typed: list[str]) -> None:
    """Everything that was typed is in the text, once, and the counter counted it: both or neither."""
    texts = crdtdb.Database(store).collection("texts")
    if "shared" not in texts:
        assert not typed
        return
    document = texts.get("shared")
    found = document["body"].split(";")[:-1]
    assert len(set(found)) == len(found) == document["typed"]
    assert set(typed) <= set(found)


def check_kills(path: Path, kills: int, seed: int) -> None:
    rng = random.Random(seed)
    actors = set()
    expected: dict[str, int] = {}
    typed: list[str] = []
    for run in range(kills):
        written, typed_now = kill_while_writing(path, run, rng.uniform(0, 0.06))
        expected.update(written)
        typed += typed_now
        store = Store.open(str(path))
        try:
            assert store.actor not in actors
            actors.add(store.actor)
            found = {}
            # A kill may come after the other thread's first write and before this one's.
            for doc_id, record in store.live_view().documents("notes") if "notes" in store.root.names else ():
                (shown,) = view(record.state).siblings
                found[doc_id] = load(shown.text or b"{}")["n"]
            for doc_id, n in expected.items():
                assert n <= found[doc_id] <= n + 1, (
                    f"kill {run}: {doc_id} was acknowledged at {n}, found {found[doc_id]}"
                )
            check_typed(store, typed)
            expected = found
            if run % 10 == 9:
                check_store(store)
        finally:
            store.close()
    assert len(expected) > kills
    assert typed


@pytest.mark.timeout(170)
@pytest.mark.parametrize("quarter", range(4))
def test_100_kills_lose_nothing_that_was_acknowledged(tmp_path: Path, quarter: int) -> None:
    check_kills(tmp_path / "data", 25, seed=quarter)


@pytest.mark.soak
def test_1000_kills_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    check_kills(tmp_path / "data", 1_000, seed=4)
