"""How many examples Hypothesis makes: a count for each test, scaled by the profile.

`suite` is for `make test`, `check` for the inner loop, `soak` for `make soak`: choose one by `--hypothesis-profile`.
"""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings

SCALES = {"check": 0.2, "suite": 1, "soak": 20}
"""The factor of each profile. A bug of a kind that took all examples of `suite` to find is found by `soak` nearly always."""


def register_profiles() -> None:
    """Register the profiles, and load `suite` until another is asked for."""
    for name, scale in SCALES.items():
        settings.register_profile(name, max_examples=round(100 * scale), deadline=None)
    settings.load_profile("suite")


def examples(count: int, **changes: Any) -> settings:
    """Return settings for a test that has `count` examples in the suite, and no deadline: the machine may be busy.

    `changes` go to Hypothesis' `settings` as they are.
    """
    scale = SCALES[settings.get_current_profile_name()]
    changes.setdefault("suppress_health_check", [HealthCheck.too_slow])
    return settings(max_examples=max(5, round(count * scale)), deadline=None, **changes)
