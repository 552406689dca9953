"""On what was measured: the machine and the versions of everything that was compared."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = ("crdtdb", "plyvel", "pycrdt", "cbor2", "msgspec", "orjson", "anyio", "uvicorn", "uvloop", "tinydb")


def machine() -> dict[str, str]:
    """Return what is known of the machine."""
    return {
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def versions() -> dict[str, str]:
    """Return the versions of what is compared."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    found["sqlite3"] = __import__("sqlite3").sqlite_version
    for name, command in (("node", ["node", "--version"]), ("commit", ["git", "rev-parse", "--short", "HEAD"])):
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent)
        except (OSError, subprocess.CalledProcessError):
            continue
        found[name] = done.stdout.strip().lstrip("v")
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
