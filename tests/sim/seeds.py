"""Which seeds the suite plays: those that failed once, by name, and some drawn from the commit.

A seed is one history only as long as the code draws the same numbers, so old seeds wear out: each commit plays others. They
follow from the commit's hash, so a failure repeats for everyone who checks that commit out. `make soak` plays many more.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from random import Random

LONG_DRAWN = 30
SHORT_DRAWN = 70
INDEXED_DRAWN = 20
SEED_MAX = 1_000_000

FAILED_LONG = {508: "a disk that lies, a retirement by force, and writes counted as lost"}
FAILED_SHORT = {
    353: "a rumor brought the field of a text without its journal",
    508: "a disk that lies, a retirement by force, and writes counted as lost",
}
FAILED_INDEXED = {2070: "a revision that another node had written too was reported as risen"}


def commit_hash() -> str:
    """Return the hash of the commit that is checked out, "" outside a repository."""
    try:
        run = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return run.stdout.strip()


def drawn(kind: str, count: int) -> list[int]:
    """Return `count` seeds of a kind of history, which follow from the commit."""
    rng = Random(f"{commit_hash()}/{kind}")
    return [rng.randrange(SEED_MAX) for _ in range(count)]
