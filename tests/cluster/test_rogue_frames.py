"""A member gone mad: whatever it says, and in whatever state a node hears it, the node refuses or ignores it, and serves on."""

from __future__ import annotations

import pytest

from crdtdb.testing.rogues import bend, mutate
from crdtdb.wire.codec import encode_message
from crdtdb.wire.messages import Compare, Hello, PageMessage, SyncRequest, Welcome
from tests.cluster.rogue import Peer, Rogue, check, furnish, meet

STATES = ("accepted", "dialed", "greeted", "asked", "asks", "compares", "compared", "fetches")


def drive(victim: Peer, rogue: Rogue, state: str) -> tuple[int, int]:
    """Bring a victim into a state; return the link, and the exchange that goes on there."""
    rng, exchange = rogue.rng, 1
    dials = state in ("dialed", "asked", "compares", "fetches")
    link = victim.open(rogue.name, f"{rogue.name}:1" if dials else None)
    victim.perform()
    if state in ("accepted", "dialed"):
        return link, exchange
    victim.hear(link, encode_message((Welcome if dials else Hello)(rogue.greeting())))
    if dials:
        asked = [one.exchange for one in victim.said(link, SyncRequest)]
        exchange = asked[-1] if asked else exchange
    if state == "asks":
        victim.hear(link, encode_message(SyncRequest(exchange, rogue.clock, False, rng.random() < 0.5)))
    elif state == "compared":
        victim.hear(link, encode_message(Compare(exchange, rogue.clock, False)))
    elif state == "compares":
        found = victim.engine.links.get(link)
        if found is not None:
            victim.engine.exchanges.give_up(link)
            victim.engine.exchanges.compare(found, victim.now, audit=rng.random() < 0.5)
            victim.work()
        compared = victim.said(link, Compare)
        exchange = compared[-1].exchange if compared else exchange
    elif state == "fetches":
        victim.hear(link, encode_message(PageMessage(exchange, 0, True, rogue.parcel())))
    return link, exchange


@pytest.mark.parametrize("seed", range(24))
def test_any_frame_with_one_thing_changed_in_any_state(seed: int) -> None:
    rogue, victim, honest = Rogue(seed=seed), Peer("n1", seed), Peer("n2", seed)
    furnish(victim.database)
    meet(victim, honest)
    rng = rogue.rng
    for _ in range(60):
        victim.sent.clear()
        rogue.rename(rng.random() < 0.5)
        state = rng.choice(STATES)
        link, exchange = drive(victim, rogue, state)
        for _ in range(rng.randint(1, 8)):
            payload = encode_message(rogue.message(victim.engine, exchange))
            changed = mutate(payload, rng) if rng.random() < 0.9 else bend(payload, rng)
            victim.hear(link, changed)
            if rng.random() < 0.1:
                victim.pass_time(1.0)
        victim.pass_time(1.0)
        victim.engine.closed(link, victim.now)
        victim.pass_time(200.0)  # by then nobody is kept out any more
        assert not victim.engine.boundary.faults, victim.engine.boundary.faults
    check(victim)
    furnish(victim.database, "later")
    victim.start()
    check(victim)
    honest.pass_time(victim.now - honest.now)
    for _ in range(6):  # lies about histories make a node enter as a new store, which closes its connections
        meet(victim, honest, 40)
        if victim.store.root.clock == honest.store.root.clock:
            break
    assert victim.store.root.clock == honest.store.root.clock
    assert victim.database["notes"].digest() == honest.database["notes"].digest()
    assert not victim.engine.boundary.faults


@pytest.mark.soak
@pytest.mark.parametrize("part", range(4))
def test_many_frames(part: int) -> None:
    for seed in range(1_000 + part, 2_000, 4):
        test_any_frame_with_one_thing_changed_in_any_state(seed)
