"""A member gone mad, one story each: a valid certificate, and frames that no sound node sends."""

from __future__ import annotations

import json
from typing import Any

import pytest

from crdtdb.causality import EMPTY, Dot, DotSet
from crdtdb.cluster.engine.boundary import Boundary
from crdtdb.documents import NO_PATH, Body, Leaf, Rev, State
from crdtdb.documents.catalogue import Catalogue
from crdtdb.documents.local import LOCAL
from crdtdb.errors import StoreFullError
from crdtdb.limits import CLOCK_ACTORS_MAX, HANDSHAKE_FRAME_BYTES_MAX, HOLD_OFF_SECONDS_MAX, INCARNATION_MAX
from crdtdb.security import NOBODY_NAMED, Level, Permissions, Principal
from crdtdb.store.layout.contents import content_of
from crdtdb.testing.replicas import CREATION
from crdtdb.wire.codec import encode_message
from crdtdb.wire.delta_batch import ParcelWriter
from crdtdb.wire.messages import (
    Fetch,
    Greeting,
    Hello,
    LockHold,
    LockTold,
    Member,
    PageMessage,
    Piece,
    Ping,
    Refusal,
    Refuse,
    Rumor,
    Status,
    SyncRequest,
    Ticket,
    Welcome,
)
from tests.cluster.rogue import Peer, check, furnish, meet
from tests.inside import attempts_of, ids_of, roster_digest, voter_of

MAD = b"mad".ljust(16)
(CREATOR,) = {dot.actor for dot in CREATION}


def greeting(clock: DotSet = EMPTY, **changes: Any) -> Greeting:
    """What the mad member says of itself."""
    return Greeting(1, 4, "c", "mad", MAD, MAD, "mad:1", 1, clock)._replace(**changes)


def accepted(victim: Peer, **changes: Any) -> int:
    """The mad member dials, and is let in."""
    link = victim.open("mad")
    victim.hear(link, encode_message(Hello(greeting(**changes))))
    assert victim.said(link, Welcome)
    return link


def dialed(victim: Peer) -> tuple[int, int]:
    """A node dials the mad member, and asks it for what it lacks; return the link, and the exchange."""
    link = victim.open("mad", "mad:1")
    victim.perform()
    victim.hear(link, encode_message(Welcome(greeting(DotSet.vector({MAD: 9})))))
    return link, victim.said(link, SyncRequest)[-1].exchange


def parcel(name: str, doc_id: str, text: bytes, actor: bytes = MAD, counter: int = 1, **changes: Any) -> list[Any]:
    """Return a parcel with one document, written by an actor, and the creation of its collection."""
    dot = Dot(actor, counter)
    rev = Rev(1, f"{counter:032x}")
    leaf = Leaf(rev, NO_PATH, DotSet.of([dot]), False, dot, rev, 1 << 57, CREATION)
    leaf = Leaf(*(changes.get(field, getattr(leaf, field)) for field in leaf.__struct_fields__))
    state = State({dot: leaf}, {dot: Body(text, CREATION)}, {}, DotSet.of([dot]))
    writer = ParcelWriter()
    if leaf.creations == CREATION:  # else the document of a collection that is here would wait for an exchange
        writer.add_catalogue(Catalogue({name: CREATION}, frozenset(), DotSet.of(CREATION)), EMPTY, {})
    writer.add(name, doc_id, state, EMPTY, lambda _: ((), False))
    return writer.finish(DotSet.of([dot]))


def is_closed(victim: Peer, link: int) -> bool:
    return victim.engine.links.get(link) is None


def serves_on(victim: Peer) -> None:
    """The node takes a write, opens again, and an honest peer has everything that it has."""
    check(victim)
    victim.database["notes"].put("later", {"n": 1})
    victim.start()
    victim.pass_time(1)
    check(victim)
    honest = Peer("n2")
    meet(victim, honest, 60)
    assert honest.database["notes"].get("later") == {"n": 1}
    assert honest.store.root.clock == victim.store.root.clock
    check(honest)
    for one in (victim, honest):
        assert not one.engine.boundary.faults


SIXTEEN = "00" * 16
MALFORMED = {
    "a node without a store": (
        "system.nodes",
        "n9",
        {"name": "n9", "actor": SIXTEEN, "address": "a:1", "version": "1"},
    ),
    "a node whose store is a number": (
        "system.nodes",
        "n9",
        {"store": 7, "actor": SIXTEEN, "address": "a", "version": "1"},
    ),
    "a node whose actor is too short": (
        "system.nodes",
        "n9",
        {"store": SIXTEEN, "actor": "00", "address": "", "version": ""},
    ),
    "a node that was many actors": (
        "system.nodes",
        "n9",
        {"store": SIXTEEN, "actor": SIXTEEN, "address": "a:1", "version": "1", "former": [SIXTEEN] * 300},
    ),
    "a lock that no node holds": ("system.locks", "x", {"for": "ada", "token": 3, "ttl": 3}),
    "a lock with a token of text": ("system.locks", "x", {"node": "mad", "for": "ada", "token": "3", "ttl": 3}),
    "a subscriber of no node": ("system.notifys", "mad.1", {"for": "ada"}),
    "a subscriber of a node of nodes": ("system.notifys", "mad.1", {"node": ["n1"], "for": "ada"}),
    "a revocation of no certificate": ("system.revocations", "../../x", {}),
    "access for a number": ("system.access", "notes", {"admins": 7}),
    "a user without a hash": ("system.users", "bob", {"salt": SIXTEEN, "roles": []}),
    "a user whose roles are text": ("system.users", "bob", {"salt": SIXTEEN, "hash": SIXTEEN * 2, "roles": "admin"}),
    "a replication to nowhere": ("system.replicator", "job", {"source": 1, "target": None}),
    "a body that is an array": ("system.nodes", "n9", []),
    "a local record without a clock": ("notes", f"{LOCAL}z", {"value": {"last_seq": 1}}),
    "a local record with a clock of text": ("notes", f"{LOCAL}z", {"clock": "x", "value": {}}),
    "a local record whose clock runs backwards": ("notes", f"{LOCAL}z", {"clock": {SIXTEEN: [[9, 1]]}, "value": {}}),
    "a local record that is a number": ("notes", f"{LOCAL}z", 7),
}


@pytest.mark.parametrize("what", MALFORMED)
def test_what_a_member_writes_into_the_databases_own_collections_is_refused(what: str) -> None:
    name, doc_id, body = MALFORMED[what]
    victim = Peer("n1")
    furnish(victim.database)
    link = accepted(victim)
    victim.hear(link, encode_message(Rumor(parcel(name, doc_id, json.dumps(body).encode()), ())))
    assert is_closed(victim, link)
    assert any("refused a frame of mad" in line and "keeping it out" in line for line in victim.logs), victim.logs
    assert victim.store.read(name, doc_id) is None
    serves_on(victim)


@pytest.mark.parametrize("what", MALFORMED)
def test_what_a_member_passes_on_is_kept_and_counts_as_absent(what: str, caplog: pytest.LogCaptureFixture) -> None:
    """It came by a member of an older version, say: to refuse it would part those who hold it from those who don't."""
    name, doc_id, body = MALFORMED[what]
    victim = Peer("n1")
    furnish(victim.database)
    link = accepted(victim)
    text = json.dumps(body).encode()
    victim.hear(link, encode_message(Rumor(parcel(name, doc_id, text, b"somebody else".ljust(16)), ())))
    victim.pass_time(20)
    if type(body) is dict:
        assert victim.store.read(name, doc_id) is not None
        assert not is_closed(victim, link) or "silent" in str(victim.logs)
    else:
        assert victim.store.read(name, doc_id) is None, "no version has ever written a body that is no object"
    assert "n9" not in victim.engine.upkeep.roster.entries()
    assert victim.store.live_view().local("notes", f"{LOCAL}z") is None
    serves_on(victim)
    if name == "system.nodes" and type(body) is dict:
        assert f"ignoring the document {doc_id!r} of {name}" in caplog.text


def test_access_that_cannot_be_read_closes_and_does_not_open() -> None:
    victim = Peer("n1")
    furnish(victim.database)
    victim.hear(
        accepted(victim), encode_message(Rumor(parcel("system.access", "notes", b'{"admins":7}', b"x" * 16), ()))
    )
    permissions = Permissions(victim.store)
    assert permissions.of("others") == NOBODY_NAMED
    assert permissions.level(Principal("ada", "certificate"), "notes") is Level.NONE
    assert permissions.level(Principal("root", "certificate", admin=True), "notes") is Level.ADMIN


@pytest.mark.parametrize(
    "text",
    [
        *(b"", b"{", b"[]", b"nul", b"7", b'"x"', b'{"a":}', b"\xff\xfe", b'{"a":NaN}', b'{"_attachments":[]}'),
        *(b'{"_attachments": {"x": {}}}', b'{"_attachments":{"x":{}}}'),
        b'{"_attachments":{"x":{"sha256":"zz","length":1}}}',
    ],
)
def test_a_body_that_is_none(text: bytes) -> None:
    victim = Peer("n1")
    furnish(victim.database)
    link = accepted(victim)
    victim.hear(link, encode_message(Rumor(parcel("notes", "x", text), ())))
    assert is_closed(victim, link)
    assert "x" not in victim.database["notes"]
    serves_on(victim)


@pytest.mark.parametrize("name", ["Notes", "../etc", "notes\n", "system.", "system.x/y", "é", "9lives"])
def test_a_name_that_no_collection_can_have(name: str) -> None:
    victim = Peer("n1")
    furnish(victim.database)
    link = accepted(victim)
    victim.hear(link, encode_message(Rumor(parcel(name, "x", b"{}"), ())))
    assert is_closed(victim, link)
    assert name not in victim.store.root.names
    serves_on(victim)


@pytest.mark.parametrize("doc_id", ["_x", "_local/", "_design/", "_"])
def test_an_id_that_no_document_can_have(doc_id: str) -> None:
    victim = Peer("n1")
    furnish(victim.database)
    link = accepted(victim)
    victim.hear(link, encode_message(Rumor(parcel("notes", doc_id, b"{}"), ())))
    assert is_closed(victim, link)
    serves_on(victim)


def test_an_attachment_that_is_not_what_its_digest_says() -> None:
    """The page is refused with its content; what came of it goes; another peer that has the content is asked next."""
    victim = Peer("n1")
    furnish(victim.database)
    file = content_of(b"the file")
    entry = {"content_type": "text/plain", "digest": file.digest, "length": 8, "revpos": 1, "sha256": file.sha256.hex()}
    text = json.dumps({"_attachments": {"x": entry}}, separators=(",", ":")).encode()
    link, exchange = dialed(victim)
    victim.hear(link, encode_message(PageMessage(exchange, 0, True, parcel("notes", "x", text))))
    assert victim.said(link, Fetch)
    victim.hear(link, encode_message(Piece(exchange, file.sha256, 0, True, b"no file!")))
    assert is_closed(victim, link)
    assert any("refused a frame of mad" in line and "isn't what its digest says" in line for line in victim.logs)
    assert "x" not in victim.database["notes"]
    assert victim.store.attachments.find(file.sha256) is None
    serves_on(victim)


def test_an_attachment_in_a_piece_that_is_too_large() -> None:
    victim = Peer("n1")
    file = content_of(b"x" * 1_000_000)
    entry = {
        "content_type": "a/b",
        "digest": file.digest,
        "length": file.length,
        "revpos": 1,
        "sha256": file.sha256.hex(),
    }
    text = json.dumps({"_attachments": {"x": entry}}, separators=(",", ":")).encode()
    link, exchange = dialed(victim)
    victim.hear(link, encode_message(PageMessage(exchange, 0, True, parcel("notes", "x", text))))
    victim.hear(link, encode_message(Piece(exchange, file.sha256, 3, True, b"x" * 1_000_000)))
    assert is_closed(victim, link)


# Membership


def gossip(victim: Peer, link: int, *members: Member) -> None:
    victim.hear(link, encode_message(Ping(1, members)))


def status_of(victim: Peer, name: str) -> Status:
    return victim.engine.membership.others[name].status


def pair(rounds: int = 20) -> tuple[Peer, Peer]:
    victim, honest = Peer("n1"), Peer("n2")
    meet(victim, honest, rounds)
    return victim, honest


@pytest.mark.parametrize("status", list(Status))
@pytest.mark.parametrize("incarnation", [INCARNATION_MAX, 2**63 - 1])
def test_a_member_is_not_shut_out_by_an_incarnation_that_others_tell(incarnation: int, status: Status) -> None:
    """The old rule believed any higher incarnation; one of 2^63 - 1 could never be refuted, nor written in a greeting."""
    victim, honest = pair()
    before = victim.engine.membership.others["n2"]
    link = accepted(victim)
    gossip(victim, link, before._replace(incarnation=incarnation, status=status))
    assert victim.engine.membership.others["n2"] == before
    assert is_closed(victim, link) == (incarnation > INCARNATION_MAX)

    link = accepted(honest)
    gossip(honest, link, honest.engine.membership.me._replace(incarnation=incarnation, status=status))
    assert honest.engine.membership.me.incarnation <= before.incarnation + 1
    meet(victim, honest)
    assert victim.engine.membership.others["n2"].status is Status.ALIVE
    assert not any("refus" in line and "n2" in line for line in victim.logs)


def test_step_by_step_does_not_help_either() -> None:
    """Whoever drives a member's incarnation up in plausible steps gets nowhere: the member itself says what it is."""
    victim, honest = pair()
    link = accepted(victim)
    for _ in range(50):
        known = victim.engine.membership.others["n2"]
        gossip(victim, link, known._replace(incarnation=known.incarnation + 1_000, status=Status.DEAD))
    assert status_of(victim, "n2") is Status.DEAD
    meet(victim, honest)
    assert status_of(victim, "n2") is Status.ALIVE
    assert victim.engine.membership.others["n2"].incarnation == honest.engine.membership.me.incarnation


def test_what_is_said_of_a_connected_member_is_passed_on_to_it_and_not_believed() -> None:
    victim = Peer("n1")
    other = Member("n2", b"2" * 16, b"2" * 16, "n2:1", 5, Status.ALIVE)
    there = victim.open("n2")
    victim.hear(there, encode_message(Hello(greeting(name="n2", store_id=b"2" * 16, actor=b"2" * 16, address="n2:1"))))
    link = accepted(victim)
    known = victim.engine.membership.others["n2"]
    gossip(victim, link, known._replace(status=Status.DEAD, incarnation=3))
    assert victim.engine.membership.others["n2"].status is Status.ALIVE
    assert any(one.name == "n2" and one.status is Status.DEAD for one in victim.engine.membership.news())
    victim.hear(there, encode_message(Ping(2, (known._replace(incarnation=4),))))
    assert victim.engine.membership.others["n2"].incarnation == 4
    assert other.name == "n2"


def test_an_address_that_others_tell_does_not_replace_the_one_where_a_member_was_met() -> None:
    victim, _ = pair()
    known = victim.engine.membership.others["n2"]
    gossip(victim, accepted(victim), known._replace(incarnation=known.incarnation + 1, address="6.6.6.6:6"))
    assert victim.engine.membership.addresses("n2") == {"n2", "6.6.6.6:6"}


def test_members_that_are_made_up_are_bounded_and_forgotten() -> None:
    victim, honest = pair()
    link = accepted(victim)
    for start in range(0, 12_000, 3_000):
        made_up = [
            Member(f"x{n}", n.to_bytes(16, "big"), n.to_bytes(16, "big"), f"10.0.0.1:{n}", 1, Status.ALIVE)
            for n in range(start, start + 3_000)
        ]
        gossip(victim, link, *made_up)
    assert len(victim.engine.membership.others) < 4_096
    meet(victim, honest, 5)  # all are told, in frames that are within the bounds
    new = victim.open("n3")
    victim.hear(new, encode_message(Hello(greeting(name="n3", store_id=b"3" * 16, actor=b"3" * 16, address="n3:1"))))
    assert "n3" in victim.engine.membership.others, "who is here is a member, however many others are made up"
    for one in (victim, honest):
        one.engine.closed(link, one.now)
        for _ in range(4):
            one.pass_time(30)
        assert set(one.engine.membership.others) <= {"n1", "n2", "n3", "mad"}


def test_a_member_that_says_that_this_node_is_a_copy_makes_it_enter_once() -> None:
    victim = Peer("n1")
    furnish(victim.database)
    starts = 0
    for _ in range(5):
        before = victim.store.identity.store_id
        link = victim.open("mad", "mad:1")
        victim.hear(link, encode_message(Refuse(Refusal.COPY, "you are a copy")))
        starts += victim.store.identity.store_id != before
        me = victim.engine.membership.me
        link = victim.open("mad")
        victim.hear(link, encode_message(Hello(greeting(store_id=me.store_id, actor=bytes(16)))))
        starts += victim.store.identity.store_id not in (before, me.store_id)
        victim.pass_time(200)
    assert starts == 1
    victim.start()
    assert victim.store.identity.store_id


def test_a_member_that_tells_of_writes_that_this_node_never_made_makes_it_enter_once() -> None:
    victim = Peer("n1")
    stores, actors = {victim.store.identity.store_id}, {victim.store.actor}
    for _ in range(60):
        link = victim.open("mad")
        victim.hear(link, encode_message(Hello(greeting(DotSet.vector({victim.store.actor: 2**63 - 1})))))
        stores.add(victim.store.identity.store_id)
        actors.add(victim.store.actor)
        victim.pass_time(5)
    assert len(stores) == 2
    assert len(actors) <= 2 + 5 + 1, "another actor once in a minute, since honest members may have come to believe it"


def test_an_honest_member_that_believes_a_rogue_is_not_kept_out() -> None:
    """A rogue forges writes of n2 at n1. What n1 then says of n2 is wrong, and it is no rogue."""
    victim, honest = pair()
    for attempt in range(3):
        last = Dot(honest.store.actor, 2**40)
        forged = parcel(f"forged{attempt}", "x", b"{}", creations=frozenset([last]))
        victim.hear(accepted(victim), encode_message(Rumor(forged, ())))
        assert last in victim.store.root.clock
        for _ in range(12):
            meet(victim, honest, 40)
            if victim.store.root.clock == honest.store.root.clock:
                break
        assert victim.store.root.clock == honest.store.root.clock
        assert not victim.engine.boundary.refused.get("n2")
        assert not honest.engine.boundary.refused.get("n1")
    assert honest.engine.readiness.ready
    honest.database["notes"].put("mine", {"n": 1})
    meet(victim, honest, 40)
    assert victim.database["notes"].get("mine") == {"n": 1}


@pytest.mark.parametrize("where", ["document", "creation", "clock"])
def test_counters_at_their_end_do_not_keep_a_node_from_writing(where: str) -> None:
    """A counter of 2^63 - 1 under a node's own actor: its next write would have one that can't be written."""
    victim = Peer("n1")
    furnish(victim.database)
    for _ in range(3):
        link, mine = accepted(victim), victim.store.actor
        last = Dot(mine, 2**63 - 1)
        if where == "document":
            named = parcel("notes", "x", b"{}", mine, 2**63 - 1)
            named[3] = []
        elif where == "creation":
            named = parcel("forged", "x", b"{}", creations=frozenset([last]))
        else:
            named = parcel("notes", "x", b"{}")
            named[0], named[3] = [MAD, CREATOR, mine], [[0, 1, 1], [2, 1, 2**63 - 1]]
        victim.hear(link, encode_message(Rumor(named, ())))
        assert is_closed(victim, link)
        assert victim.store.root.clock.highest(victim.store.actor) < 1_000
        victim.pass_time(200)
    assert sum("enters as a new store" in line for line in victim.logs) == (where == "clock")
    serves_on(victim)


def test_clocks_of_actors_without_end() -> None:
    """A node whose clock is larger than a greeting may be could greet nobody any more."""
    victim = Peer("n1")
    for many in (20_000, 10_000):
        for at in range(3):
            clock = DotSet.vector({f"{at} {n}".encode().ljust(16): 1 for n in range(many)})
            link, exchange = dialed(victim)
            named = parcel("notes", f"x{at}", b"{}")
            named[0] = [MAD, CREATOR, *clock.actors]
            named[3] = [[0, 1, 1], *([n, 1, 1] for n in range(2, many + 2))]
            victim.hear(link, encode_message(PageMessage(exchange, 0, True, named)))
            assert is_closed(victim, link) == (many == 20_000)
            victim.engine.closed(link, victim.now)
            victim.pass_time(200)
    assert len(victim.store.root.clock.actors) <= CLOCK_ACTORS_MAX
    link = victim.open("n2", "n2:1")
    victim.perform()
    assert all(len(payload) < HANDSHAKE_FRAME_BYTES_MAX for number, payload in victim.sent if number == link)


def test_one_peer_has_no_connections_without_end() -> None:
    victim = Peer("n1")
    links = [accepted(victim) for _ in range(10)]
    assert [is_closed(victim, link) for link in links] == [True] * 6 + [False] * 4
    victim.sent.clear()
    victim.hear(links[-1], encode_message(Ping(7, ())))
    assert victim.sent


# Locks


def test_a_token_that_cannot_be_one() -> None:
    victim, _ = pair()
    roster = roster_digest(victim.engine.locks)
    assert roster
    for message in (
        LockHold(1, roster, "x", Ticket(1, "mad", 1), 2**63 - 1, 1_000),
        LockHold(1, roster, "x", Ticket(1, "mad", 1), 2**62, 2**63 - 1),
        LockTold(roster, 2**63 - 1, ()),
        LockTold(roster, 1, (("x", Ticket(1, "mad", 1), 2**63 - 1, 1),)),
    ):
        link = accepted(victim)
        ids_of(victim.engine.locks)["mad"] = MAD
        victim.hear(link, encode_message(message))
        assert is_closed(victim, link), message
        victim.pass_time(200)
    victim.hear(accepted(victim), encode_message(LockHold(1, roster, "x", Ticket(1, "mad", 1), 2**60, 1_000)))
    assert "x" not in voter_of(victim.engine.locks).votes
    assert 0 < voter_of(victim.engine.locks).highest < 2**40, "a step towards it, in case that others believe it"


# The boundary


def test_a_peer_whose_frames_are_refused_is_kept_out_for_longer_each_time() -> None:
    victim = Peer("n1")
    pauses = []
    for _ in range(9):
        link = accepted(victim)
        victim.hear(link, b"\x00")
        assert is_closed(victim, link)
        pauses.append(victim.engine.boundary.held_off("mad", victim.now))
        again = victim.open("mad")
        victim.hear(again, encode_message(Hello(greeting())))
        (refused,) = victim.said(again, Refuse)
        assert refused.code == Refusal.HELD_OFF
        assert is_closed(victim, again)
        victim.engine.dial(victim.now)
        assert "mad:1" not in attempts_of(victim.engine.links.dialer)
        victim.now += pauses[-1]
    assert list(map(round, pauses)) == [1, 2, 4, 8, 16, 32, *([HOLD_OFF_SECONDS_MAX] * 3)]
    victim.now += 2 * HOLD_OFF_SECONDS_MAX
    victim.hear(accepted(victim), b"\x00")
    assert round(victim.engine.boundary.held_off("mad", victim.now)) == 1


def test_an_error_that_nobody_expected_ends_with_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    victim = Peer("n1")
    link = accepted(victim)

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(victim.store.replication, "receive", fail)
    victim.hear(link, encode_message(Rumor(parcel("notes", "x", b"{}"), ())))
    assert is_closed(victim, link)
    assert any("mad" in line and "ZeroDivisionError: a bug" in line and "test_rogues" in line for line in victim.logs)
    assert victim.engine.boundary.faults


def test_a_disk_that_fails_still_ends_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    victim = Peer("n1")
    link = accepted(victim)

    def fail(*_: object, **__: object) -> None:
        raise StoreFullError("the disk is full")

    monkeypatch.setattr(victim.store.replication, "receive", fail)
    with pytest.raises(StoreFullError):
        victim.hear(link, encode_message(Rumor(parcel("notes", "x", b"{}"), ())))
    boundary = Boundary(victim.engine.links, victim.engine.outbox)
    with pytest.raises(StoreFullError):
        boundary.duty("a duty", fail, 0.0)


def test_a_duty_that_fails_is_tried_again_later() -> None:
    victim = Peer("n1")
    boundary, done = victim.engine.boundary, []

    def act() -> bool:
        done.append(1)
        raise KeyError("store")

    for now in (100.0, 101.0, 105.0, 111.0):
        assert boundary.duty("a duty", act, now) is False
    assert len(done) == 2
