"""The fork: a database is open, the process forks. The child is refused, and the parent's store stays whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BACKENDS = ["leveldb", "sqlite", "memory"]
ON_DISK = ["leveldb", "sqlite"]


def run(program: str, backend: str, folder: Path) -> None:
    url = {"memory": "memory:", "leveldb": str(folder / "level"), "sqlite": f"sqlite:{folder / 'file.db'}"}[backend]
    succeeds("tests.forks.programs", program, url)


def succeeds(module: str, *arguments: str) -> None:
    # Python 3.12 warns of each fork of a process with threads, which is what is tested here.
    flags = ("-W", "error", "-W", "ignore:This process:DeprecationWarning")
    command = (sys.executable, *flags, "-m", module, *arguments)
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_call_in_a_forked_child_is_refused(backend: str, tmp_path: Path) -> None:
    run("every_call", backend, tmp_path)


@pytest.mark.parametrize("backend", ON_DISK)
def test_what_a_child_throws_away_stays_the_parents(backend: str, tmp_path: Path) -> None:
    run("thrown_away", backend, tmp_path)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_fork_while_other_threads_commit(backend: str, tmp_path: Path) -> None:
    run("while_others_write", backend, tmp_path)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_fork_inside_a_commit(backend: str, tmp_path: Path) -> None:
    run("inside_a_commit", backend, tmp_path)


@pytest.mark.parametrize("backend", ON_DISK)
def test_a_child_opens_the_path_once_the_parent_has_closed_it(backend: str, tmp_path: Path) -> None:
    run("same_path", backend, tmp_path)


@pytest.mark.parametrize("backend", ON_DISK)
def test_a_child_that_lives_on_keeps_nothing_locked(backend: str, tmp_path: Path) -> None:
    run("parent_reopens", backend, tmp_path)


@pytest.mark.parametrize("backend", ON_DISK)
def test_workers_of_multiprocessing(backend: str, tmp_path: Path) -> None:
    run("pool", backend, tmp_path)


@pytest.mark.parametrize("backend", ON_DISK)
def test_workers_that_open_after_the_fork(backend: str, tmp_path: Path) -> None:
    run("prefork", backend, tmp_path)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_fork_inside_an_event_loop(backend: str, tmp_path: Path) -> None:
    run("awaited", backend, tmp_path)


def test_a_fork_of_a_process_that_runs_nodes(tmp_path: Path) -> None:
    succeeds("tests.forks.nodes", str(tmp_path))


def test_a_child_waits_for_no_lock_of_a_thread_that_it_has_not(tmp_path: Path) -> None:
    run("large_text", "memory", tmp_path)


def test_a_child_has_a_background_thread_of_leveldb_of_its_own(tmp_path: Path) -> None:
    run("background_thread", "leveldb", tmp_path)


def test_where_leveldb_cannot_be_loaded_twice_a_child_is_told(tmp_path: Path) -> None:
    run("no_copy", "leveldb", tmp_path)
