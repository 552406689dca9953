"""What all tests share: profiles of Hypothesis, and that nothing may be skipped where `.ci/run` says so."""

from __future__ import annotations

import os
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.examples import register_profiles

register_profiles()

NOT_TO_BE_HAD = "which no package brings"
"""What the reason of a skip says where a machine can't be made to run the test."""


class SharedClusters(LoadScopeScheduling):  # type: ignore[misc]
    """Gives tests that share a cluster to one worker, and all others one by one to whichever is free.

    xdist's own `loadgroup` renames tests to mark them, which this version of pytest doesn't take up.
    """

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        folders = path.removeprefix("tests/").split("/")
        if folders[0] in ("attacks", "interop"):
            return folders[0]
        return path if folders[0] in ("cli", "processes") else nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> SharedClusters:
    return SharedClusters(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):  # type: ignore[no-untyped-def]
    report = yield
    skipped = report.skipped and not hasattr(report, "wasxfail")  # pytest reports expected failures as skipped, too
    if skipped and os.environ.get("CRDTDB_NO_SKIPS") and NOT_TO_BE_HAD not in str(report.longrepr):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and CRDTDB_NO_SKIPS is set: {report.longrepr}"
    return report
