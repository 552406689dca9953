"""Context of one local write: dots, stamp, session and the draft of its fields."""

from __future__ import annotations

from msgspec.structs import replace

from crdtdb.causality import Actor, Dot, DotSet, Session
from crdtdb.crdts import Address, Creations, Draft, OpenSequence, Sequence, Signature, open_at_hand
from crdtdb.documents.creations import body_again, shared
from crdtdb.documents.fields import (
    NO_SCHEMA,
    Schema,
)
from crdtdb.documents.revisions import Rev
from crdtdb.documents.state import Leaf, State

NO_SESSION = Session(0, b"")


class Write:
    """What one write is signed with: who, when, and in which collection. Mints its dots.

    `schema` says which types the collection's fields have, `open_sequence` opens the texts and lists that are edited.
    `creations` are all that are known, until the write takes those of what it builds on.
    """

    __slots__ = (
        "actor",
        "counter",
        "creations",
        "derived",
        "doc_id",
        "dot",
        "open_sequence",
        "opened",
        "schema",
        "session",
        "stamp",
        "sweep",
    )

    def __init__(
        self,
        doc_id: str,
        actor: Actor,
        counter: int,
        stamp: int,
        creations: Creations,
        sweep: int = 0,
        schema: Schema = NO_SCHEMA,
        open_sequence: OpenSequence = open_at_hand,
        session: Session = NO_SESSION,
    ) -> None:
        """Sign for `actor`, whose last dot so far has this `counter`, in a session of its lineage."""
        self.doc_id, self.actor, self.counter = doc_id, actor, counter
        self.stamp, self.creations, self.sweep = stamp, creations, sweep
        self.schema, self.open_sequence, self.session = schema, open_sequence, session
        self.dot: Dot | None = None
        """The dot of the leaf that the write made."""
        self.opened: dict[Address, Sequence] = {}
        """The texts and lists that the write opened, as it leaves them."""
        self.derived: set[Address] = set()
        """The opened texts and lists signed by another origin than the actor: no later write can continue these."""

    def sign(self) -> Dot:
        """Return the next dot of the actor, which is to be that of the leaf that the write makes."""
        self.dot = self.mint()
        return self.dot

    def mint(self) -> Dot:
        """Return the next dot of the actor."""
        self.counter += 1
        return Dot(self.actor, self.counter)

    def build_on(self, state: State) -> None:
        """Take the creations of a document that the write keeps parts of, if all its parts carry the same."""
        self.creations = shared(state, self.creations) or self.creations

    def keep_body(self, state: State, leaf: Leaf) -> tuple[State, Dot]:
        """Return a state with the body of a leaf as one that lives as long as the write, and its dot."""
        bodies, dot = body_again(state.bodies, leaf.body_dot, self.creations, self.mint)
        if dot == leaf.body_dot:
            return state, dot
        return replace(state, bodies=bodies, context=state.context.add(dot)), dot

    def draft(
        self,
        state: State,
        dot: Dot,
        origin: str | None = None,
        seen: DotSet | None = None,
        made_from: Rev | None = None,
    ) -> Draft:
        """Return the fields of a state, to be changed under a dot; `origin` and `seen` as a `Signature` has them.

        `made_from` is a revision that tells this document from earlier ones of its name, which may have been collected here and
        not elsewhere; None for a document that is new.
        """
        root = "" if not self.sweep else str(made_from) if made_from is not None else f"after {self.sweep}"
        signature = Signature(dot, self.stamp, self.creations, origin, seen, *self.session, self.doc_id, root)
        return Draft(state.fields, state.journals, signature, self.open_sequence)
