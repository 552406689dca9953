"""Acceptance suite for the backend of any author.

def test_my_backend(tmp_path):
    check_backend(lambda: MyBackend.open(str(tmp_path / "data")))
"""

from __future__ import annotations

from collections.abc import Callable

from crdtdb.backends import Backend
from crdtdb.errors import StoreClosedError

Open = Callable[[], Backend]


def check_backend(open_backend: Open) -> None:
    """Check all that the store relies on. `open_backend` opens the same place each time.

    Raises AssertionError that names what failed. A backend that isn't durable need not keep rows over a close.
    """
    for check in (
        _reads_what_was_written,
        _scans_in_byte_order,
        _batches_are_whole,
        _snapshots_stand_still,
        _scans_survive_writes,
        _closes_for_good,
        _takes_any_bytes,
        _says_how_large_it_is,
    ):
        backend = open_backend()
        try:
            _clear(backend)
            check(backend)
        finally:
            backend.close()
    _keeps_over_a_close(open_backend)


def _clear(backend: Backend) -> None:
    backend.write(dict.fromkeys((key for key, _ in backend.scan(b"", b"\xff" * 64)), None), durable=False)


def _reads_what_was_written(backend: Backend) -> None:
    assert backend.get(b"a") is None, "a key that was never written must read as None"
    backend.write({b"a": b"1", b"b": b""}, durable=True)
    assert backend.get(b"a") == b"1"
    assert backend.get(b"b") == b"", "an empty value is a value"
    backend.write({b"a": b"2"}, durable=False)
    assert backend.get(b"a") == b"2", "a second put replaces the first"
    backend.write({b"a": None, b"never": None}, durable=False)
    assert backend.get(b"a") is None, "a removed key must read as None"
    backend.flush()
    assert backend.get(b"b") == b""
    backend.write({}, durable=True)


def _scans_in_byte_order(backend: Backend) -> None:
    keys = [b"\0", b"\0\0", b"a", b"a\0", b"ab", b"b", b"\x7f", b"\x80", b"\xff", b"\xff\xff"]
    backend.write({key: key for key in reversed(keys)}, durable=False)
    assert [key for key, _ in backend.scan(b"", b"\xff" * 3)] == keys, "keys must be ordered as unsigned bytes"
    assert [key for key, _ in backend.scan(b"", b"\xff" * 3, reverse=True)] == keys[::-1]
    assert [key for key, _ in backend.scan(b"a", b"b")] == [b"a", b"a\0", b"ab"], "the start is in, the stop is not"
    assert [key for key, _ in backend.scan(b"a", b"b", reverse=True)] == [b"ab", b"a\0", b"a"]
    assert list(backend.scan(b"b", b"a")) == [], "an empty range yields nothing"
    assert list(backend.scan(b"c", b"c\0")) == []
    bounds = sorted({*keys, b"", b"aa", b"c", b"\xfe", b"\xff\xff\xff"})
    for start, stop in ((one, other) for one in bounds for other in bounds if one < other):
        within = [key for key in keys if start <= key < stop]
        assert [key for key, _ in backend.scan(start, stop)] == within
        assert [key for key, _ in backend.scan(start, stop, reverse=True)] == within[::-1], (start, stop)
    many = {b"m%06d" % n: b"v" * 10 for n in range(3_000)}
    backend.write(many, durable=False)
    assert dict(backend.scan(b"m", b"n")) == many
    assert [key for key, _ in backend.scan(b"m", b"n", reverse=True)] == sorted(many, reverse=True)


def _batches_are_whole(backend: Backend) -> None:
    backend.write({b"k%d" % n: b"before" for n in range(100)}, durable=False)
    backend.write(
        {**{b"k%d" % n: None for n in range(50)}, **{b"k%d" % n: b"after" for n in range(50, 150)}}, durable=True
    )
    rows = dict(backend.scan(b"k", b"l"))
    assert len(rows) == 100
    assert set(rows.values()) == {b"after"}


def _snapshots_stand_still(backend: Backend) -> None:
    backend.write({b"a": b"1", b"b": b"1"}, durable=False)
    snapshot = backend.snapshot()
    backend.write({b"a": b"2", b"b": None, b"c": b"2"}, durable=False)
    assert (snapshot.get(b"a"), snapshot.get(b"b"), snapshot.get(b"c")) == (b"1", b"1", None)
    assert list(snapshot.scan(b"", b"\xff")) == [(b"a", b"1"), (b"b", b"1")]
    second = backend.snapshot()
    assert list(second.scan(b"", b"\xff", reverse=True)) == [(b"c", b"2"), (b"a", b"2")]
    snapshot.close()
    snapshot.close()
    assert second.get(b"a") == b"2"
    second.close()


def _scans_survive_writes(backend: Backend) -> None:
    stays = {b"s%05d" % n: b"1" for n in range(1_000)}
    backend.write(stays, durable=False)
    seen = []
    for key, _ in backend.scan(b"s", b"t"):
        seen.append(key)
        backend.write({b"t" + key: b"2"}, durable=False)
    assert seen == sorted(stays), "what was there before a scan, and stays, must be seen"


def _closes_for_good(backend: Backend) -> None:
    backend.close()
    backend.close()
    for call in (
        lambda: backend.get(b"a"),
        lambda: list(backend.scan(b"", b"\xff")),
        lambda: backend.write({b"a": b"1"}, durable=False),
        backend.snapshot,
    ):
        try:
            call()
        except StoreClosedError:
            continue
        raise AssertionError("a closed backend must raise StoreClosedError")


def _takes_any_bytes(backend: Backend) -> None:
    big = bytes(range(256)) * 8_192
    backend.write({bytes(range(256)): big}, durable=True)
    assert backend.get(bytes(range(256))) == big


def _keeps_over_a_close(open_backend: Open) -> None:
    backend = open_backend()
    durable = backend.capabilities.durable
    place = backend.capabilities.place
    try:
        _clear(backend)
        backend.write({b"a": b"1"}, durable=True)
        backend.write({b"b": b"2"}, durable=False)
    finally:
        backend.close()
    if durable:
        backend = open_backend()
        try:
            assert dict(backend.scan(b"", b"\xff")) == {b"a": b"1", b"b": b"2"}, "a clean close keeps everything"
            assert backend.capabilities.place == place, "the same place must have the same name"
        finally:
            backend.close()


def _says_how_large_it_is(backend: Backend) -> None:
    backend.write({b"large": bytes(range(256)) * 400}, durable=True)
    size = backend.size()
    assert size is None or size > 0, f"a backend says how many bytes lie on disk, or None: {size}"
