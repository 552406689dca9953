"""Why a document is what it is: its versions, clocks and fields with the dots of those who wrote them, as plain JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from crdtdb.canonical_json import load
from crdtdb.causality import Dot, DotSet
from crdtdb.clock import iso
from crdtdb.crdts import Address, OpenSequence, Place, catalogue, heads
from crdtdb.documents import NO_BODY, DocumentView, State, VisibleLeaf, view
from crdtdb.documents.alternatives import Dispute, disputes, value_at, value_of
from crdtdb.documents.fields import kinds, reading, whole
from crdtdb.documents.stamps import milliseconds
from crdtdb.store import Past


def explain(name: str, doc_id: str, state: State, past: Iterable[Past], open_sequence: OpenSequence) -> dict[str, Any]:
    """Return everything that made a document what it shows.

    Actors are hexadecimal text, times ISO 8601 by their writers' clocks.
    """
    shown = view(state)
    draft = reading(state.fields, state.journals, open_sequence)
    times = {dot: leaf.stamp for dot, leaf in state.leaves.items()}
    times.update((one.dot, one.stamp) for one in past if one.dot is not None and one.stamp)
    winner = shown.winner
    body = load(winner.text or NO_BODY) if winner is not None else {}
    text = winner.text or NO_BODY if winner is not None else NO_BODY
    disputed = {one.path: one for one in disputes(draft, text)}
    return {
        "collection": name,
        "id": doc_id,
        "state": _state_of(shown),
        "rev": str(winner.rev) if winner is not None else None,
        "why": _why(shown),
        "value": whole(winner.text or NO_BODY, draft) if winner is not None and not shown.deleted else None,
        "clock": _clock(state.clock()),
        "versions": [_version(one, state, shown) for one in shown.leaves] + _hidden(state, shown),
        "edits_unseen": [_dot(dot, times) for dot in winner.heads] if winner is not None else [],
        "fields": [
            _field(path, kind, state, draft.at(path), times, disputed.get(path), body)
            for path, kind in kinds(draft).items()
        ],
        "heads": [_dot(dot, times) for dot in sorted(heads(state.fields))],
    }


def _state_of(shown: DocumentView) -> str:
    if shown.deleted:
        return "deleted"
    return "conflict" if shown.conflict else "one value"


def _why(shown: DocumentView) -> str:
    """Say in a sentence why the winner is the winner."""
    if shown.winner is None:
        return "there is nothing"
    if shown.deleted:
        return "every branch is deleted: the highest deleted revision names the document"
    first, *others = shown.siblings
    if not others:
        live = [one for one in shown.leaves if not one.leaf.deleted]
        if len(live) > 1:
            return f"{len(live)} live branches have one body between them: the others have an equal one, or it was replaced"
        return "it is the only live branch"
    second = others[0]
    if first.leaf.rev.generation > second.leaf.rev.generation:
        return (
            f"generation {first.leaf.rev.generation} is the highest: the next sibling has {second.leaf.rev.generation}"
        )
    return f"of the siblings with generation {first.leaf.rev.generation} its digest is the highest"


def _version(one: VisibleLeaf, state: State, shown: DocumentView) -> dict[str, Any]:
    """Describe a branch that the view lists."""
    leaf = one.leaf
    if leaf.deleted:
        role = "deleted branch"
    elif one.rev == shown.siblings[0].rev:
        role = "winner"
    elif any(one.rev == sibling.rev for sibling in shown.siblings):
        role = "sibling"
    else:
        role = "merged: its body is the winner's or was replaced"
    text = one.text if one.text is not None else None
    return {
        "rev": str(one.rev),
        "leaf": str(leaf.rev),
        "role": role,
        "wrote": "the body"
        if leaf.body_dot == one.dot and not leaf.deleted
        else "a deletion"
        if leaf.deleted
        else "fields",
        "node": one.dot.actor.hex(),
        "counter": one.dot.counter,
        "time": iso(milliseconds(leaf.stamp)),
        "clock": _clock(leaf.clock),
        "body_rev": str(leaf.body_rev),
        "body": load(text) if text is not None and not leaf.deleted else None,
        "same_by": [
            _dot(dot, {}) for dot, other in sorted(state.leaves.items()) if other.rev == leaf.rev and dot != one.dot
        ],
    }


def _hidden(state: State, shown: DocumentView) -> list[dict[str, Any]]:
    """Describe the leaves that lie on another's path: known under two dots, and replaced under one of them."""
    listed = {one.leaf.rev for one in shown.leaves}
    return [
        {
            "rev": str(leaf.rev),
            "leaf": str(leaf.rev),
            "role": "hidden: an ancestor of another branch",
            "wrote": "the body" if leaf.body_dot == dot else "a deletion" if leaf.deleted else "fields",
            "node": dot.actor.hex(),
            "counter": dot.counter,
            "time": iso(milliseconds(leaf.stamp)),
            "clock": _clock(leaf.clock),
            "body_rev": str(leaf.body_rev),
            "body": None,
            "same_by": [],
        }
        for dot, leaf in sorted(state.leaves.items())
        if leaf.rev not in listed
    ]


def _field(
    path: Place, kind: str, state: State, spot: Any, times: Mapping[Dot, int], dispute: Dispute | None, body: Any
) -> dict[str, Any]:
    """Describe one field: what it shows, which dots it is made of, and what is kept beside it."""
    parts = [
        {"part": address.part, "dots": [_dot(dot, times) for dot in sorted(deltas)]}
        for address, deltas in sorted(state.fields.items())
        if address.path == path and address.kind == kind
    ]
    described: dict[str, Any] = {
        "path": list(path),
        "type": kind,
        "rule": catalogue.field_type(kind).summary,
        "value": catalogue.value(spot),
        "parts": parts,
    }
    journals = [_journal(address, state) for address in sorted(state.journals) if address.path == path]
    if journals:
        described["journals"] = journals
    if dispute is not None:
        described["kept_beside"] = [value_of(one, spot.draft) for one in dispute.fields[1:]]
        if dispute.is_under_plain:
            described["shown_instead"] = value_at(body, path)
    return described


def _journal(address: Address, state: State) -> dict[str, Any]:
    vector = state.journals[address].vector
    return {"part": address.part, "vector": {actor.hex(): counter for actor, counter in sorted(vector.items())}}


def _dot(dot: Dot, times: Mapping[Dot, int]) -> dict[str, Any]:
    stamp = times.get(dot)
    described: dict[str, Any] = {"node": dot.actor.hex(), "counter": dot.counter}
    if stamp is not None:
        described["time"] = iso(milliseconds(stamp))
    return described


def _clock(clock: DotSet) -> dict[str, list[list[int]]]:
    return {actor.hex(): [list(pair) for pair in ranges] for actor, ranges in sorted(clock.items())}
