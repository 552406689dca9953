"""Purge: removes a revision everywhere, its body and its name.

A purge removes a leaf without a replacement. It leaves a *mark* for replication: a body without a leaf, with the names to
forget. A client that still has a purged revision restores it by sending it again.
"""

from __future__ import annotations

from collections.abc import Iterable

from crdtdb.canonical_json import canonical_merged, load
from crdtdb.crdts import NO_FIELDS
from crdtdb.documents.groups import is_ancestor
from crdtdb.documents.revisions import Rev
from crdtdb.documents.state import Body, State
from crdtdb.documents.view import view
from crdtdb.documents.write_context import Write
from crdtdb.limits import REVS_LIMIT

_MARK = b'{"_purged":'


def purge(state: State, write: Write, revs: Iterable[Rev]) -> State:
    """Return the state without these leaves; names that are no leaves are left out.

    A document without leaves loses its fields too.
    """
    wanted = set(revs)
    visible = view(state).leaves
    stay = [one.leaf for one in visible if one.leaf.rev not in wanted]
    gone = [one.leaf for one in visible if one.leaf.rev in wanted]
    if not gone:
        return state
    removed = {
        dot
        for dot, leaf in state.leaves.items()
        if any(leaf.rev == one.rev or is_ancestor(leaf.rev, one) for one in gone)
        and not any(leaf.rev == one.rev or is_ancestor(leaf.rev, one) for one in stay)
    }
    names = [one.rev for one in gone]
    for one in gone:
        line = [Rev(one.rev.generation - 1 - n, step.digest) for n, step in enumerate(one.path.all())]
        names += [rev for rev in line if not any(is_ancestor(rev, other) for other in stay)]
    leaves = {dot: leaf for dot, leaf in state.leaves.items() if dot not in removed}
    used = {leaf.body_dot for leaf in leaves.values()}
    bodies = {dot: body for dot, body in state.bodies.items() if dot in used or is_mark(body)}
    dot = write.sign()
    mark = canonical_merged({"_purged": [str(rev) for rev in names[:REVS_LIMIT]]})
    return State(
        leaves,
        {**bodies, dot: Body(mark, write.creations)},
        state.fields if leaves else NO_FIELDS,
        state.context.add(dot),
        state.journals,
    )


def is_mark(body: Body) -> bool:
    """Whether a body is the mark of a purge."""
    return body.text.startswith(_MARK)


def purged_by(body: Body) -> list[Rev]:
    """Return the revisions that are to be forgotten after a mark."""
    return [Rev.parse(name) for name in load(body.text)["_purged"]]
