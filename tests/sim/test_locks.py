"""Locks on simulated nodes: one holder at a time, growing tokens, turns in order, whatever happens to nodes and network."""

from __future__ import annotations

from functools import partial
from random import Random

import pytest

from crdtdb.errors import InvalidInputError, LockError, NotFoundError
from crdtdb.limits import LOCK_SECONDS_MAX
from crdtdb.locks import leases
from crdtdb.locks import voter as voting
from crdtdb.locks.leases import Lease, Stage
from crdtdb.testing.world import SimulatedNode
from tests.inside import voter_of
from tests.sim.test_histories import Village

NAMES = ("ada", "bob", "cy")


class Watch:
    """Wants locks in a village, and notes when two hold one at the same time or a token doesn't grow."""

    def __init__(self, village: Village) -> None:
        self.village = village
        self.granted: list[Lease] = []
        self.wanted: list[Lease] = []
        self._seen: set[int] = set()

    @property
    def now(self) -> float:
        return self.village.world.timeline.now

    def want(self, node: str, name: str = "x", ttl: float = 10.0, wait: float = 60.0, renewing: bool = True) -> Lease:
        found: list[Lease] = []

        def changed() -> None:
            (lease,) = found
            if lease.stage is Stage.HELD and id(lease) not in self._seen:
                self._seen.add(id(lease))
                for other in self.granted:
                    if other.name == name:
                        assert not other.live(self.now), f"{other.ticket} and {lease.ticket} hold {name}"
                        assert other.token < lease.token, f"{name} was held under {other.token}, then {lease.token}"
                self.granted.append(lease)

        found.append(self.village.engine(node).locks.want(name, ttl, wait, node, renewing, changed))
        self.wanted.append(found[0])
        return found[0]

    def wait_held(self, lease: Lease, seconds: float = 60) -> None:
        self.village.wait(lambda: lease.live(self.now), seconds)


def ready(*names: str) -> tuple[Village, Watch]:
    village = Village(*names or NAMES)
    village.wait(lambda: all(village.engine(name).readiness.ready for name in village.world.nodes))
    village.wait_equal()
    village.pass_time(2)
    return village, Watch(village)


def test_a_lock_is_had_at_once_and_passed_on_in_order() -> None:
    village, watch = ready()
    first = watch.want("ada")
    begun = watch.now
    watch.wait_held(first, 2)
    assert watch.now - begun < 1
    wanting = []
    for node in ("cy", "ada", "bob"):
        wanting.append(watch.want(node))
        village.pass_time(0.5)
    for lease in [first, *wanting]:
        watch.wait_held(lease, 5)
        village.engine(lease.ticket.node).locks.release(lease)
    assert watch.granted == [first, *wanting]


def test_those_who_ask_at_the_same_time_are_served_one_by_one() -> None:
    village, watch = ready("a", "b", "c", "d", "e")
    wanting = [watch.want(node) for node in village.world.nodes for _ in range(3)]
    for turn in range(len(wanting)):
        village.wait(partial(lambda turn: len(watch.granted) > turn, turn), 20)
        holder = watch.granted[turn]
        village.engine(holder.ticket.node).locks.release(holder)
        village.pass_time(0.2)
    village.pass_time(5)
    assert all(not voter_of(village.engine(name).locks).votes for name in village.world.nodes)


def test_a_lease_ends_by_itself_unless_it_is_renewed() -> None:
    village, watch = ready()
    short = watch.want("ada", ttl=2.0, renewing=False)
    watch.wait_held(short)
    village.engine("ada").locks.renew(short)
    village.pass_time(1.5)
    village.engine("ada").locks.renew(short)
    village.pass_time(1.5)
    assert short.live(watch.now)
    village.pass_time(1.0)
    assert (short.stage, short.why) == (Stage.OVER, "its time is over")
    long = watch.want("bob", ttl=2.0)
    watch.wait_held(long)
    village.pass_time(20)
    assert long.live(watch.now)


def test_who_waits_no_longer_is_told_who_has_it() -> None:
    village, watch = ready()
    held = watch.want("ada")
    watch.wait_held(held)
    for wait in (0.0, 2.0):
        impatient = watch.want("bob", wait=wait)
        village.wait(partial(is_over, impatient), 10)
        assert impatient.why == "it is held through ada"
        assert impatient.token == 0


def test_a_holder_without_a_majority_loses_the_lease_before_another_has_it() -> None:
    village, watch = ready()
    old = watch.want("ada")
    watch.wait_held(old)
    village.cut_off("ada")
    new = watch.want("bob")
    village.wait(lambda: new.live(watch.now), 30)
    assert not old.live(watch.now)
    assert old.stage is Stage.OVER
    assert "no majority" in old.why
    assert new.token > old.token
    alone = watch.want("ada", wait=3)
    village.wait(lambda: alone.stage is Stage.OVER, 10)
    assert alone.why == "2 of 3 members didn't answer"


def test_a_lock_whose_node_has_died_is_free_when_its_time_is_over() -> None:
    village, watch = ready()
    old = watch.want("cy", ttl=5)
    watch.wait_held(old)
    village.world.nodes["cy"].kill()
    new = watch.want("ada")
    begun = watch.now
    village.wait(lambda: new.live(watch.now), 30)
    assert 3 < watch.now - begun < 8
    village.wait(lambda: shown(village, "bob") == {"x": "ada"}, 30)


def test_a_node_that_stops_cleanly_gives_its_locks_back() -> None:
    village, watch = ready()
    old = watch.want("cy", ttl=LOCK_SECONDS_MAX)
    watch.wait_held(old)
    village.wait(lambda: shown(village, "bob") == {"x": "cy"}, 10)
    leaving = village.world.nodes["cy"]
    leaving.step(lambda engine, now: engine.stop(now))
    village.pass_time(1)  # what was sent is on its way
    leaving.kill()
    assert old.stage is Stage.OVER
    new = watch.want("ada")
    village.wait(lambda: new.live(watch.now), 5)


def test_promises_outlive_the_restart_of_every_voter() -> None:
    village, watch = ready()
    old = watch.want("ada", ttl=30, renewing=False)
    watch.wait_held(old)
    for name in ("bob", "cy"):
        village.world.nodes[name].kill()
        village.start(name)
    village.wait(lambda: all(village.engine(name).readiness.ready for name in NAMES), 20)
    thief = watch.want("bob", wait=5)
    village.wait(lambda: thief.stage is Stage.OVER, 20)
    assert old.live(watch.now)
    assert thief.token == 0


def test_a_token_is_checked_by_a_majority() -> None:
    village, watch = ready()
    held = watch.want("ada")
    watch.wait_held(held)
    answers: list[bool | None] = []
    assert village.engine("ada").locks.is_live("x", held.token, watch.now, answers.append)
    assert not village.engine("bob").locks.is_live("x", held.token, watch.now, answers.append)
    village.wait(lambda: len(answers) == 1)
    assert not village.engine("bob").locks.is_live("x", held.token + 1, watch.now, answers.append)
    village.wait(lambda: len(answers) == 2)
    village.cut_off("bob")
    assert not village.engine("bob").locks.is_live("x", held.token, watch.now, answers.append)
    village.wait(lambda: len(answers) == 3)
    assert answers == [True, False, None]


def test_the_own_lease_is_found_by_its_token() -> None:
    village, watch = ready()
    held = watch.want("ada")
    watch.wait_held(held)
    locks = village.engine("ada").locks
    assert locks.held("x", held.token, watch.now) is held
    with pytest.raises(LockError, match="another token"):
        locks.held("x", held.token + 1, watch.now)
    with pytest.raises(NotFoundError, match="isn't held through this node"):
        village.engine("bob").locks.held("x", held.token, watch.now)


@pytest.mark.parametrize(
    ("name", "ttl", "wait"),
    [("", 10, 1), ("_x", 10, 1), ("a\nb", 10, 1), ("x" * 513, 10, 1), ("x", 0.5, 1), ("x", 301, 1), ("x", 10, -1),
     ("x", float("nan"), 1), ("x", 10, float("inf"))],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(name: str, ttl: float, wait: float) -> None:
    village = Village("ada")
    with pytest.raises(InvalidInputError):
        village.engine("ada").locks.want(name, ttl, wait, "ada", True, lambda: None)


def test_members_come_and_go_and_the_lock_stays_where_it_is() -> None:
    village, watch = ready("a", "b", "c", "d", "e")
    held = watch.want("c", ttl=20)
    watch.wait_held(held)
    for name in ("d", "e"):
        village.world.nodes[name].kill()
        village.engine("a").upkeep.retire(name)
    village.wait(lambda: len(village.engine("b").upkeep.roster.members()) == 3)
    thief = watch.want("a", wait=30)
    village.wait(lambda: thief.stage is Stage.OVER, 60)
    assert held.live(watch.now)
    village.engine("c").locks.release(held)
    after = watch.want("a")
    village.wait(lambda: after.live(watch.now), LOCK_SECONDS_MAX)


def is_over(lease: Lease) -> bool:
    return lease.stage is Stage.OVER


def shown(village: Village, name: str) -> dict[str, str]:
    return {str(one["name"]): str(one["node"]) for one in village.engine(name).locks.overview()}


def play(seed: int) -> Watch:
    """Play with locks while nodes are cut off, killed and started again; then heal, and everybody gets a turn."""
    rng = Random(seed)
    village, watch = ready(*"abcde"[: rng.randint(2, 5)])
    nodes = list(village.world.nodes)
    joiners, may_retire = list("fgh"), len(nodes) > 2
    for _ in range(40):
        living = [name for name in nodes if village.world.nodes[name].engine is not None]
        act = rng.randrange(10)
        if act <= 2 and living:
            watch.want(
                rng.choice(living),
                rng.choice("xy"),
                rng.choice([1.0, 3.0, 10.0]),
                rng.uniform(0, 20),
                rng.random() < 0.5,
            )
        elif act == 3 and watch.granted:
            lease = rng.choice(watch.granted)
            if lease.ticket.node in living and lease.live(watch.now):
                village.engine(lease.ticket.node).locks.release(lease)
        elif act == 4:
            village.cut_off(rng.choice(nodes))
        elif act == 5:
            village.heal()
        elif act == 6 and living:
            village.world.nodes[rng.choice(living)].kill()
        elif act == 7:
            for name in nodes:
                if village.world.nodes[name].engine is None:
                    village.start(name)
        elif act == 8 and joiners and rng.random() < 0.5:
            nodes.append(joiner := joiners.pop())
            village.world.nodes[joiner] = SimulatedNode(village.world, joiner, "sync")
            village.start(joiner)
        elif act == 9 and may_retire and not village.world.weather.cut and len(living) > 2:
            may_retire = False  # one a play: who is cut off must not be retired from both sides
            gone, *others = rng.sample(living, len(living))
            if gone != "a" and all(village.engine(one).readiness.ready for one in living):
                village.world.nodes[gone].kill()
                village.engine(others[0]).upkeep.retire(gone)
                nodes.remove(gone)
        village.pass_time(rng.expovariate(0.5))
    village.heal()
    for name in nodes:
        if village.world.nodes[name].engine is None:
            village.start(name)
    village.wait(lambda: all(village.engine(name).readiness.ready for name in nodes), 60)
    for lease in watch.wanted:
        if lease.ticket.node not in nodes:
            continue
        village.engine(lease.ticket.node).locks.release(lease)
    for name in nodes:
        last = watch.want(name, "x", wait=600)
        watch.wait_held(last, 120)
        village.engine(name).locks.release(last)
    return watch


@pytest.mark.parametrize("chunk", range(4))
def test_one_holder_at_a_time_whatever_happens(chunk: int) -> None:
    granted = sum(len(play(seed).granted) for seed in range(chunk, 40, 4))
    assert granted > 50


def forget_promises(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(voting.Voter, "_save", lambda self, name: None)


def promise_to_anybody(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(voting.Voter, "_vote", lambda self, name, now: None)


def a_third_is_enough(patch: pytest.MonkeyPatch) -> None:
    answered = leases.Leases.answered
    patch.setattr(
        leases.Leases,
        "answered",
        lambda self, number, member, answer, members, now: answered(self, number, member, answer, [member], now),
    )


def believe_for_ever(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(leases, "_DRIFT", -1.0)


@pytest.mark.parametrize("broken", [forget_promises, promise_to_anybody, a_third_is_enough, believe_for_ever])
def test_what_is_broken_is_found(broken: object, monkeypatch: pytest.MonkeyPatch) -> None:
    assert callable(broken)
    broken(monkeypatch)
    with pytest.raises(AssertionError, match="hold [xy]|was held under"):
        for seed in range(60):
            play(seed)
