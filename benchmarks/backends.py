"""How LevelDB is tuned, on evidence: bloom filter, write buffer and block cache, over a store of 200,000 kilobyte rows."""

from __future__ import annotations

import random
import tempfile
import time
from pathlib import Path

import plyvel

_ROWS = 200_000
_READS = 20_000
_VALUE = random.Random(1).randbytes(500) * 2

_SETTINGS = {
    "LevelDB's defaults": {},
    "bloom filter 10 bits": {"bloom_filter_bits": 10},
    "bloom 10, write buffer 16 MiB": {"bloom_filter_bits": 10, "write_buffer_size": 16 << 20},
    "bloom 10, write buffer 16 MiB, cache 32 MiB": {
        "bloom_filter_bits": 10, "write_buffer_size": 16 << 20, "lru_cache_size": 32 << 20,
    },
    "bloom 10, write buffer 64 MiB, cache 32 MiB": {
        "bloom_filter_bits": 10, "write_buffer_size": 64 << 20, "lru_cache_size": 32 << 20,
    },
}  # fmt: skip


def run() -> str:
    """Measure, and return the report."""
    lines = [
        "## LevelDB's settings",
        "",
        "| settings | writes/s | reads/s, there | reads/s, absent |",
        "|---|---|---|---|",
    ]
    for name, settings in _SETTINGS.items():
        with tempfile.TemporaryDirectory() as folder:
            writes, hits, misses = _measure(Path(folder) / "db", settings)
        lines.append(f"| {name} | {writes:,.0f} | {hits:,.0f} | {misses:,.0f} |")
    return "\n".join([*lines, ""])


def _measure(path: Path, settings: dict[str, int]) -> tuple[float, float, float]:
    dice = random.Random(2)
    keys = [b"%016x" % dice.getrandbits(64) for _ in range(_ROWS)]
    with plyvel.DB(str(path), create_if_missing=True, paranoid_checks=True, **settings) as db:
        began = time.perf_counter()
        for at in range(0, _ROWS, 100):
            with db.write_batch() as batch:
                for key in keys[at : at + 100]:
                    batch.put(key, _VALUE)
        writes = _ROWS / (time.perf_counter() - began)
        chosen = dice.sample(keys, _READS)
        began = time.perf_counter()
        for key in chosen:
            db.get(key, verify_checksums=True)
        hits = _READS / (time.perf_counter() - began)
        began = time.perf_counter()
        for key in chosen:
            db.get(key + b"x", verify_checksums=True)
        return writes, hits, _READS / (time.perf_counter() - began)
