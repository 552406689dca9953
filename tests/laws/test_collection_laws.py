"""Collection never changes what a document shows, and ends the same whenever it was done: on random histories."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Any

import pytest
from msgspec.structs import replace

from crdtdb.causality import DotSet
from crdtdb.crdts import catalogue
from crdtdb.documents import NOTHING, State, merge, view
from crdtdb.documents import garbage as collecting
from crdtdb.documents.fields import reading, whole
from crdtdb.documents.garbage import collect, has_garbage
from crdtdb.errors import ConflictError
from crdtdb.gossip.stability import Stability, _Acknowledged
from crdtdb.testing.replicas import Replica

NAMES = ("ada", "bob", "cy")


class Member(Replica):
    """A replica that acknowledges what it holds, and collects what is stable. Its context is its node clock."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.stability = Stability()
        self.clock = DotSet()

    def exchange(self, other: Member) -> None:
        """Take over all that another member holds, with its clock."""
        mine = replace(self.state(), context=self.clock)
        theirs = replace(other.state(), context=other.clock)
        self.states["a"] = merge(mine, theirs)
        self.clock |= other.clock

    def acknowledge_to(self, other: Member) -> None:
        other.stability.acknowledged(self.name, self.actor, self.clock)

    def collect(self) -> None:
        roster = {name: Replica(name).actor for name in NAMES if name != self.name}
        cut = self.stability.advance(roster, self.clock, 0)
        before = replace(self.state(), context=self.clock)
        after = collect(before, cut, cut)
        assert shown(after) == shown(before), "collecting changed what shows"
        self.states["a"] = after

    def write(self, rng: Random) -> None:
        self.states["a"] = replace(self.state(), context=self.clock)
        siblings = self.view().siblings
        chosen = rng.choice(siblings).rev if siblings else None
        what = rng.choice(["put", "put", "delete", "delete", "resolve", "increment", "reset"])
        if what == "put" or chosen is None:
            self.put("a", {"n": rng.randrange(3)}, chosen)
        elif what == "delete":
            self.delete("a", chosen)
        elif what == "resolve":
            self.resolve("a", {"n": rng.randrange(3)})
        elif what == "increment" or self.field("a", "likes") is None:
            self.increment("a", "likes", rng.randint(1, 5), chosen)
        else:
            self.edit("a", lambda draft: catalogue.remove(draft.at(("likes",))), chosen)
        self.clock |= self.state().context


def shown(state: State) -> Any:
    found = view(state)
    fields = reading(state.fields, state.journals)
    return [(one.leaf.rev, whole(one.text or b"{}", fields)) for one in found.siblings]


def differences(one: State, other: State) -> bool:
    return (
        one.leaves.keys() != other.leaves.keys()
        or one.bodies.keys() != other.bodies.keys()
        or one.fields != other.fields
    )


def play(seed: int) -> None:
    rng = Random(seed)
    members = [Member(name) for name in NAMES]
    for _ in range(rng.randint(5, 60)):
        one, other = rng.sample(members, 2)
        act = rng.random()
        if act < 0.3:
            with suppress(ConflictError):  # a body that a deleted leaf lends can't be written on by its rev
                one.write(rng)
        elif act < 0.6:
            one.exchange(other)
        else:
            for each in members:
                if each is not one:
                    each.acknowledge_to(one)
            one.collect()
    for _ in range(3):
        for one in members:
            for other in members:
                if one is not other:
                    one.exchange(other)
    texts = [shown(replace(one.state(), context=one.clock)) for one in members]
    assert all("n" in value for _, value in texts[0]), f"seed {seed}: a body is lost: {texts[0]}"
    assert texts[0] == texts[1] == texts[2], f"seed {seed}: equal clocks, but views differ: {texts}"
    for _ in range(3):
        for one in members:
            for other in members:
                if one is not other:
                    one.acknowledge_to(other)
        for one in members:
            one.collect()
    assert all(one.stability.cut == members[0].clock for one in members)
    for one in members[1:]:
        assert not differences(one.state(), members[0].state()), f"seed {seed}: what is left differs"
    state = members[0].state()
    assert not has_garbage(state)
    if view(state).deleted:
        assert state == replace(NOTHING, context=state.context), f"seed {seed}: a deleted document leaves something"


@pytest.mark.parametrize("chunk", range(10))
def test_collecting_changes_no_view_and_is_confluent(chunk: int) -> None:
    for seed in range(chunk, 4000, 10):
        play(seed)


def count_what_is_not_covered(patch: pytest.MonkeyPatch) -> None:
    """The second half of rule 8 off: an acknowledgement counts though what it covers isn't all here."""
    patch.setattr(_Acknowledged, "take", lambda self, mine: setattr(self, "taken", self.newest or self.taken))


def forget_a_member(patch: pytest.MonkeyPatch) -> None:
    """Rule 8 off: one member isn't asked."""
    advance = Stability.advance
    patch.setattr(Stability, "advance", lambda self, roster, *rest: advance(self, dict([*roster.items()][1:]), *rest))


def collect_what_hides(patch: pytest.MonkeyPatch) -> None:
    """Rule 9 off: a tombstone goes though another leaf lies on its path."""
    patch.setattr(collecting, "_without_hidden", lambda state, shown, stable: dict(state.leaves))
    patch.setattr(
        collecting,
        "_without_tombstones",
        lambda leaves, told: {dot: leaf for dot, leaf in leaves.items() if not leaf.deleted or dot not in told},
    )


def collect_bodies_early(patch: pytest.MonkeyPatch) -> None:
    """Rule 9 off: a body goes as soon as no live leaf of ours has it."""
    patch.setattr(collecting, "_is_lent", lambda shown: False)


@pytest.mark.parametrize(
    "broken", [count_what_is_not_covered, forget_a_member, collect_what_hides, collect_bodies_early]
)
def test_a_broken_rule_is_found(broken: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    broken(monkeypatch)
    with pytest.raises(AssertionError):
        for seed in range(4000):
            play(seed)


def together(*members: Member) -> None:
    """Let members know all that any of them has."""
    for _ in range(2):
        for one in members:
            for other in members:
                if one is not other:
                    one.exchange(other)


def wrote(member: Member, act: Callable[[], object]) -> None:
    """Write, under the whole of what a member has seen."""
    member.states["a"] = replace(member.state(), context=member.clock)
    act()
    member.clock |= member.state().context


def test_history_2_the_body_under_way() -> None:
    """Ada puts x and deletes; bob, having incremented a field meanwhile, merges and acknowledges; ada learns only of that.

    She doesn't collect yet: when bob's increment arrives its body is still there.
    """
    ada, bob, cy = (Member(name) for name in NAMES)
    wrote(ada, lambda: ada.put("a", {"n": "x"}))
    together(ada, bob, cy)
    wrote(ada, lambda: ada.delete("a"))
    wrote(bob, lambda: bob.increment("a", "likes", 2))
    bob.exchange(ada)
    cy.exchange(bob)
    for one in (bob, cy):
        one.acknowledge_to(ada)
    ada.collect()
    assert ada.state().leaves, "the acknowledgement covers what ada doesn't have"
    ada.exchange(bob)
    assert [value for _, value in shown(ada.state())] == [{"n": "x", "likes": 2}]
    ada.acknowledge_to(ada)
    ada.collect()
    assert [value for _, value in shown(ada.state())] == [{"n": "x", "likes": 2}]


def test_history_3_the_foreign_actor() -> None:
    """Cy holds an increment of dan, retired since; ada deletes; cy acknowledges; ada holds all members' writes, not dan's."""
    ada, bob, cy = (Member(name) for name in NAMES)
    dan = Member("dan")
    wrote(ada, lambda: ada.put("a", {"n": "x"}))
    together(ada, bob, cy, dan)
    wrote(dan, lambda: dan.increment("a", "likes", 3))
    cy.exchange(dan)
    wrote(ada, lambda: ada.delete("a"))
    bob.exchange(ada)
    cy.exchange(ada)
    for one in (bob, cy):
        one.acknowledge_to(ada)
    ada.collect()
    assert ada.state().leaves, "cy's acknowledgement names an actor that isn't a member"
    together(ada, bob, cy)
    for one in (ada, bob, cy):
        assert [value for _, value in shown(one.state())] == [{"n": "x", "likes": 3}]


def test_history_5_the_orphan() -> None:
    """L and M have equal bodies under two revs, N another; ada deletes L and M; bob edits M meanwhile: his body is there."""
    ada, bob, cy = (Member(name) for name in NAMES)
    for one, first in ((ada, 1), (bob, 2)):
        wrote(one, lambda one=one, first=first: one.put("a", {"n": first}))  # type: ignore[misc]
        wrote(one, lambda one=one: one.put("a", {"n": "equal"}))  # type: ignore[misc]
    wrote(cy, lambda: cy.put("a", {"n": "other"}))
    together(ada, bob, cy)
    equal = next(one.rev for one in ada.view().siblings if one.text == b'{"n":"equal"}')
    wrote(bob, lambda: bob.increment("a", "likes", 1, equal))
    wrote(ada, lambda: ada.delete("a", equal))
    cy.exchange(ada)
    bob.exchange(ada)
    for one in (bob, cy):
        one.acknowledge_to(ada)
    ada.collect()
    together(ada, bob, cy)
    for one in (ada, bob, cy):
        for other in (ada, bob, cy):
            if one is not other:
                other.acknowledge_to(one)
        one.collect()
        assert {str(value["n"]) for _, value in shown(one.state())} == {"equal", "other"}
