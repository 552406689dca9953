"""What is measured: crdtdb in each of its forms, and what people would use instead."""

from benchmarks.targets.base import Ability, Session, Target, Timed, Unavailable

__all__ = ["Ability", "Session", "Target", "Timed", "Unavailable"]
