"""Store format: the version that a backend must state before it is read."""

from __future__ import annotations

from crdtdb.backends import Backend
from crdtdb.errors import StoreFormatError
from crdtdb.store.layout import keys


def check_format(backend: Backend) -> int:
    """Return the format of the store in a backend; mark an empty backend with the current format.

    It is this format, or an older one that `crdtdb.store.migrations` knows. Raises StoreFormatError for anything else.
    """
    encoded = backend.get(keys.FORMAT)
    if encoded is None:
        if next(iter(backend.scan(b"", b"\xff" * 8)), None) is not None:
            raise StoreFormatError(
                "there is data here that crdtdb didn't write: choose an empty place, or the right path"
            )
        backend.write({keys.FORMAT: b"%s %d" % (keys.FORMAT_NAME.encode(), keys.FORMAT_VERSION)}, durable=True)
        return keys.FORMAT_VERSION
    name, _, version = encoded.decode(errors="replace").partition(" ")
    if name != keys.FORMAT_NAME or not (version.isascii() and version.isdigit()):
        raise StoreFormatError(f"the store says that its format is {encoded[:40]!r}, which isn't crdtdb's")
    if int(version) < keys.OLDEST_VERSION:
        raise StoreFormatError(
            f"the store has format {version}, from before attachments; this crdtdb reads from {keys.OLDEST_VERSION} on. "
            "No release wrote it: use it with the checkout that made it. Nothing was changed"
        )
    if int(version) > keys.FORMAT_VERSION:
        raise StoreFormatError(
            f"the store has format {version}, this version of crdtdb reads up to {keys.FORMAT_VERSION}: "
            "upgrade crdtdb. Nothing was changed"
        )
    return int(version)
