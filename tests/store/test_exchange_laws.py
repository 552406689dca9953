"""Random programs on three stores: they agree after talking, and every row is where it belongs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from crdtdb.store import MissingAncestorError
from crdtdb.testing.invariants import check_store
from crdtdb.wire.delta_batch import DeltaBatch
from tests.examples import examples
from tests.store.worlds import Node

NAMES = ("ada", "bob", "cy")

steps = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "put", "delete", "resolve", "hear", "hear", "rumor", "half", "drop"]),
        st.integers(0, 2),
        st.integers(0, 2),
        st.sampled_from(["a", "b", "c"]),
        st.integers(0, 2),
    ),
    max_size=40,
)


@examples(150)
@given(steps)
def test_stores_that_have_talked_agree(program: list[tuple[str, int, int, str, int]]) -> None:
    nodes = [Node(name) for name in NAMES]
    late: list[list[object]] = []
    for what, here, there, doc_id, value in program:
        node, other = nodes[here], nodes[there]
        if what == "put":
            node.put(doc_id, {"n": value})
        elif what in ("delete", "resolve"):
            if node.bodies(doc_id):
                node.delete(doc_id) if what == "delete" else node.resolve(doc_id, {"n": value})
        elif what == "hear":
            node.hear(other)
        elif what == "rumor":
            # A rumor of now, and then those from before it.
            parcel = other.store.replication.rumor([("notes", doc_id)])
            late += [parcel] if parcel is not None else []
            for one in reversed(late[-value - 1 :]):
                try:
                    node.store.replication.receive(DeltaBatch(one))
                except MissingAncestorError:
                    node.hear(other)
                node.sweep()
        elif what == "half":
            # An exchange that is cut off before its last page: the clock stays where it is.
            outgoing = other.store.replication.outgoing(node.store.root.clock)
            if not outgoing.nothing:
                node.store.replication.receive(DeltaBatch(outgoing.next_page().parcel), advance=False)
                node.sweep()
            outgoing.close()
        elif what == "drop" and value == 0 and "notes" in node.store.root.names:
            node.drop()
        check_store(node.store)
    for _ in range(2):
        for node in nodes:
            for other in nodes:
                node.hear(other)
    assert len({node.digest() for node in nodes}) == 1
    assert len({node.store.root.clock for node in nodes}) == 1
    for node in nodes:
        check_store(node.store)
