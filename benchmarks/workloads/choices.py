"""Choices that were made on evidence: how LevelDB is set, and in which encoding rows lie on disk."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import plyvel

from benchmarks.results import Result, Series
from benchmarks.runner import Plan
from crdtdb.wire.cbor import decode_own, encode

_SETTINGS: dict[str, dict[str, int]] = {
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


def settings(result: Result, plan: Plan, tell: Callable[[str], None]) -> None:
    """Write and read rows of a kilobyte with random keys under each setting of LevelDB."""
    rows = max(10_000, int(200_000 * plan.share))
    for name, options in _SETTINGS.items():
        tell(f"LevelDB: {name}")
        with tempfile.TemporaryDirectory(prefix="crdtdb-bench-") as folder:
            rates = _under(Path(folder) / "db", options, rows)
        for what, rate in zip(("writes", "reads of what is there", "reads of what isn't"), rates, strict=True):
            result.series.append(_series(f"LevelDB, {what}", name, rows, rate))


def _under(path: Path, options: dict[str, int], rows: int) -> tuple[float, float, float]:
    rng = Random(2)
    value = rng.randbytes(500) * 2
    keys = [b"%016x" % rng.getrandbits(64) for _ in range(rows)]
    with plyvel.DB(str(path), create_if_missing=True, paranoid_checks=True, **options) as db:
        began = time.perf_counter()
        for at in range(0, rows, 100):
            with db.write_batch() as batch:
                for key in keys[at : at + 100]:
                    batch.put(key, value)
        writes = rows / (time.perf_counter() - began)
        chosen = rng.sample(keys, rows // 10)
        return writes, _reads(db, chosen), _reads(db, [key + b"x" for key in chosen])


def _reads(db: Any, keys: list[bytes]) -> float:
    began = time.perf_counter()
    for key in keys:
        db.get(key, verify_checksums=True)
    return len(keys) / (time.perf_counter() - began)


def encodings(result: Result, plan: Plan, tell: Callable[[str], None]) -> None:  # noqa: ARG001
    """Write and read the row of one document in MessagePack and in CBOR."""
    tell("encodings of a row")
    row = [7, [[0, 7, 1, b"x" * 16, None, None, 0, None, None, 1 << 60, 0]], [[0, 7, 0, b"x" * 960]], [], None, None]
    packed, cbor = msgspec.msgpack.encode(row), encode(row)
    pairs: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "write a row": (lambda: msgspec.msgpack.encode(row), lambda: encode(row)),
        "read a row": (lambda: msgspec.msgpack.decode(packed), lambda: decode_own(cbor)),
    }
    for what, (ours, theirs) in pairs.items():
        for target, act in (("MessagePack, msgspec", ours), ("CBOR, cbor2", theirs)):
            result.series.append(_series(what, target, 1, _rate(act)))


def _rate(act: Callable[[], object], times: int = 20_000) -> float:
    began = time.perf_counter()
    for _ in range(times):
        act()
    return times / (time.perf_counter() - began)


def _series(workload: str, target: str, documents: int, rate: float) -> Series:
    return Series(
        workload=workload, target=target, durability="buffered", unit="/s", documents=documents, values=[rate]
    )
