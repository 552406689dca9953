"""Forking in tests: children that work and end, and what must be so in them and in their parent afterwards."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

import pytest

import crdtdb
from crdtdb.errors import ForkedError
from crdtdb.testing.invariants import check_store

SECONDS_MAX = 20
"""A child that takes longer waits for something that will never come."""


def in_child(work: Callable[[], object], *, leave: Callable[[Any], object] = os._exit) -> Callable[[], None]:
    """Fork, and run `work` in the child, which ends by `leave`; return what waits for it, and fails if it failed."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
        leave(code)

    def wait() -> None:
        deadline = time.monotonic() + SECONDS_MAX
        while time.monotonic() < deadline:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                assert status == 0, f"the child ended with {status}"
                return
            time.sleep(0.005)
        os.kill(child, 9)
        os.waitpid(child, 0)
        raise AssertionError("the child hangs")

    return wait


def refused(name: str, use: Callable[[], object], owner: int) -> None:
    answer: object = None
    with pytest.raises(ForkedError, match=f"belongs to process {owner}.*after the fork") as caught:
        answer = use()
        pytest.fail(f"{name} answered {answer!r:.80} in a forked child")
    assert caught.value.owner == owner, name


def parent_is_whole(url: str, db: crdtdb.Database, documents: int) -> None:
    """Write, close and open again: everything is there, and the last stop was clean."""
    db["notes"].put("after", {"by": "the parent"})
    check_store(db.store)
    db.close()
    if url == "memory:":
        return
    with crdtdb.open(url) as again:
        assert again.store.identity.why is None, again.store.identity.why
        assert len(again["notes"]) == documents + 1
        check_store(again.store)
