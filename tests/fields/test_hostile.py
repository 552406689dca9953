"""A peer that sends nonsense in the place of fields: a named error and the document as it was, or something readable."""

from __future__ import annotations

import contextlib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

import crdtdb
from crdtdb.causality import DotSet
from crdtdb.database import Database
from crdtdb.errors import CrdtdbError, DotCollisionError, EncodingError, TooLargeError
from crdtdb.store import MissingAncestorError
from crdtdb.wire.cbor import decode, encode
from crdtdb.wire.delta_batch import DeltaBatch
from tests.examples import examples
from tests.nonsense import spoil
from tests.store.worlds import Node

REFUSALS = (EncodingError, DotCollisionError, TooLargeError, MissingAncestorError)


def sender() -> Node:
    ada = Node("ada")
    notes = Database(ada.store).collection("notes")
    notes.put(
        "a",
        {
            "title": "x",
            "likes": crdtdb.Counter(3),
            "on": crdtdb.Flag(True),
            "tags": crdtdb.Set(["a", 1]),
            "reg": crdtdb.Register({"x": 1}),
            "mv": crdtdb.MultiValue([1]),
            "m": crdtdb.Map({"k": 1, "n": crdtdb.Counter(2)}),
            "body": crdtdb.Text("hello"),
            "items": crdtdb.List([1, "x"]),
        },
    )
    with notes.edit("a") as document:
        document["body"].append("!")
        document["m"].remove("n")
    return ada


PARCEL = sender().store.replication.outgoing(DotSet()).next_page().parcel


def fresh() -> list[Any]:
    parcel: list[Any] = decode(encode(PARCEL))
    parcel[5][0][2] = decode(parcel[5][0][2])
    return parcel


def arrives(parcel: list[Any]) -> None:
    """Let it arrive where the document is, in an earlier state."""
    bob = Node("bob")
    notes = Database(bob.store).collection("notes")
    notes.put("a", {"mine": crdtdb.Text("bob's"), "likes": crdtdb.Counter(1)})
    before = bob.digest()
    try:
        parcel[5][0][2] = encode(parcel[5][0][2])
        bob.store.replication.receive(DeltaBatch(decode(encode(parcel))), advance=True)
    except REFUSALS:
        assert bob.digest() == before
        assert notes.get("a") == {"mine": "bob's", "likes": 1}
        return
    with contextlib.suppress(CrdtdbError):  # what was taken must be readable, or say by name why not
        for document in notes.all():
            dict(document)
        if "a" in notes:
            notes.why("a")
            with notes.edit("a") as edit:
                edit["new"] = crdtdb.Counter(1)


@examples(300)
@given(st.data())
def test_any_part_of_the_fields_or_journals_replaced_by_nonsense(data: st.DataObject) -> None:
    parcel = fresh()
    spoil(data, parcel[5][0][2][data.draw(st.sampled_from([2, 3]))])
    arrives(parcel)


@examples(300)
@given(st.data())
def test_random_bytes_as_any_delta_update_or_snapshot(data: st.DataObject) -> None:
    parcel = fresh()
    _, _, fields, journals, _ = parcel[5][0][2]
    content = data.draw(st.binary(max_size=80))
    where = data.draw(st.sampled_from(["delta", "update", "snapshot"]))
    if where == "delta":
        data.draw(st.sampled_from(fields))[1][0][3] = content
    elif where == "update":
        data.draw(st.sampled_from(journals))[3][0][3] = content
    else:
        journal = data.draw(st.sampled_from(journals))
        journal[3], journal[4] = [], [[journal[2], content]]
    arrives(parcel)
