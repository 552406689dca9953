"""Local documents, `_local/…`: replicated inside the cluster, and told to nobody who replicates with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from crdtdb.canonical_json import document_text
from crdtdb.couchdb.errors import bad_request, missing
from crdtdb.documents import Rev
from crdtdb.documents.local import LOCAL, write_local
from crdtdb.errors import InvalidInputError
from crdtdb.limits import DOCUMENT_ID_BYTES_MAX
from crdtdb.store import Store, Transaction


def get_local(store: Store, name: str, doc_id: str) -> dict[str, Any]:
    """Return a local document. Raises CouchError."""
    found = store.live_view().local(name, _checked(doc_id))
    if found is None or found.value is None:
        raise missing()
    return {"_id": doc_id, "_rev": f"0-{found.rev.generation}", **found.value}


def put_local(store: Store, name: str, doc_id: str, body: Any, rev: str | None = None) -> str:
    """Write a local document, and return its revision: one more than that which is named. Raises CouchError."""
    if not isinstance(body, dict):
        raise bad_request("Document must be a JSON object")
    if body.get("_deleted") is True:
        found = store.live_view().local(name, _checked(doc_id))
        return delete_local(store, name, doc_id) if found is not None and found.value is not None else "0-0"
    value = {key: one for key, one in body.items() if not key.startswith("_")}
    document_text(value)  # refuses what can't be kept before anything is written
    named = body.get("_rev", rev)
    generation = _generation(named) + 1 if named is not None else 1
    _write(store, name, _checked(doc_id), generation, value)
    return f"0-{generation}"


def delete_local(store: Store, name: str, doc_id: str) -> str:
    """Delete a local document. Raises CouchError if there is none."""
    found = store.live_view().local(name, _checked(doc_id))
    if found is None or found.value is None:
        raise missing()
    _write(store, name, doc_id, found.rev.generation + 1, None)
    return "0-0"


def local_rows(store: Store, name: str, keys: list[Any] | None, descending: bool) -> Iterator[dict[str, Any]]:
    """Yield what is listed of local documents: all, or those of `keys`, of which other ids are left out."""
    if keys is None:
        found = list(local_ids(store, name))
        yield from (_row(doc_id, rev) for doc_id, rev in (reversed(found) if descending else found))
        return
    for key in reversed(keys) if descending else keys:
        if isinstance(key, str) and key.startswith(LOCAL):
            local = store.live_view().local(name, key)
            if local is None or local.value is None:
                yield {"key": key, "error": "not_found"}
            else:
                yield _row(key, f"0-{local.rev.generation}")


def _row(doc_id: str, rev: str) -> dict[str, Any]:
    return {"id": doc_id, "key": doc_id, "value": {"rev": rev}}


def local_ids(store: Store, name: str) -> Iterator[tuple[str, str]]:
    """Yield the id and revision of every local document that is served."""
    for doc_id, _ in store.live_view().documents(name, LOCAL, LOCAL[:-1] + "0", local=True):
        found = store.live_view().local(name, doc_id)
        if found is not None and found.value is not None:
            yield doc_id, f"0-{found.rev.generation}"


def _write(store: Store, name: str, doc_id: str, generation: int, value: dict[str, Any] | None) -> None:
    def work(transaction: Transaction) -> None:
        transaction.ledger.collection(name)
        clock = transaction.ledger.root.clock
        transaction.write(name, doc_id, lambda state, write: write_local(state, write, generation, value, clock))

    store.submit(work)


def _checked(doc_id: str) -> str:
    if not doc_id.startswith(LOCAL) or doc_id == LOCAL:
        raise bad_request("Invalid _local document id.")
    if len(doc_id.encode()) > DOCUMENT_ID_BYTES_MAX:
        raise InvalidInputError(f"the id {doc_id[:40]!r}… has more than {DOCUMENT_ID_BYTES_MAX} bytes")
    return doc_id


def _generation(rev: Any) -> int:
    zero, _, number = rev.partition("-") if isinstance(rev, str) else ("", "", "")
    if zero != "0" or not number.isascii() or not number.isdigit() or len(number) > 15:
        raise bad_request("Invalid rev format")
    return Rev(int(number), "").generation
