"""What all tests share: profiles of Hypothesis, and that nothing may be skipped where `.ci/run` says so."""

from __future__ import annotations

import os

import pytest

from tests.examples import register_profiles

register_profiles()

NOT_TO_BE_HAD = "which no package brings"
"""What the reason of a skip says where a machine can't be made to run the test."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):  # type: ignore[no-untyped-def]
    report = yield
    skipped = report.skipped and not hasattr(report, "wasxfail")  # pytest reports expected failures as skipped, too
    if skipped and os.environ.get("CRDTDB_NO_SKIPS") and NOT_TO_BE_HAD not in str(report.longrepr):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and CRDTDB_NO_SKIPS is set: {report.longrepr}"
    return report
