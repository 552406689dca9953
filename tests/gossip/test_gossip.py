"""Gossip without sockets: membership, dialing, rumors and the flow of pages, one story each."""

from __future__ import annotations

from math import log2
from random import Random

from crdtdb.gossip import Asking, Dialer, GossipConfig, Membership, PageFlow, Rumors
from crdtdb.limits import RUMOR_DOCUMENTS_MAX
from crdtdb.wire.messages import Member, Ping, Probe, Status
from tests.inside import attempts_of

CONFIG = GossipConfig()


def member(name: str, incarnation: int = 1, status: Status = Status.ALIVE, store: bytes | None = None) -> Member:
    return Member(name, store or name.encode().ljust(16), name.encode().ljust(16), f"{name}:1", incarnation, status)


def status(one: Membership, name: str) -> str:
    return one.others[name].status.name


def ada(*others: str) -> Membership:
    made = Membership(member("ada"), (), CONFIG, Random(1), 0.0)
    for name in others:
        made.greeted(member(name), 0.0)
    return made


def test_a_member_that_answers_stays_alive() -> None:
    one = ada("bob")
    for now in range(20):
        for name, message in one.tick(float(now)):
            assert name == "bob"
            assert isinstance(message, Ping)
            one.acknowledged(message.number)
    assert status(one, "bob") == "ALIVE"


def test_a_silent_member_is_asked_for_by_others_then_suspected_then_dead() -> None:
    one = ada("bob", "cy", "dan")
    asked: set[str] = set()
    target = ""
    now = 0.0
    while not any(other.status is Status.SUSPECT for other in one.others.values()):
        for name, message in one.tick(now):
            if isinstance(message, Ping) and not target:
                target = name
            elif isinstance(message, Ping):
                one.acknowledged(message.number)
            elif isinstance(message, Probe):
                assert message.name == target
                asked.add(name)
        now += 0.1
        assert now < 5
    assert asked == {"bob", "cy", "dan"} - {target}
    suspected = now
    while status(one, target) == "SUSPECT":
        for name, message in one.tick(now):
            if isinstance(message, Ping) and name != target:
                one.acknowledged(message.number)
        now += 0.1
    assert status(one, target) == "DEAD"
    assert now - suspected < CONFIG.suspicion + 0.5
    assert target not in one.alive()
    assert target in one.others, "a dead member stays in the roster"


def test_a_suspected_member_refutes_by_a_higher_incarnation() -> None:
    bob = Membership(member("bob", 3), (), CONFIG, Random(1), 0.0)
    bob.learn([member("bob", 3, Status.SUSPECT)], 1.0)
    assert bob.me.incarnation == 4
    (news,) = [one for one in bob.news() if one.name == "bob"]
    one = ada("bob")
    one.learn([member("bob", 3, Status.DEAD)], 1.0)
    assert status(one, "bob") == "DEAD"
    one.learn([news], 2.0)
    assert status(one, "bob") == "ALIVE"


def test_news_is_ordered_by_incarnation_and_then_by_the_worse_status() -> None:
    one = ada("bob")
    one.learn([member("bob", 5)], 0.0)
    one.learn([member("bob", 4, Status.DEAD)], 0.0)
    assert status(one, "bob") == "ALIVE"
    one.learn([member("bob", 5, Status.SUSPECT)], 0.0)
    one.learn([member("bob", 5, Status.ALIVE)], 0.0)
    assert status(one, "bob") == "SUSPECT"
    one.heard("bob")
    assert status(one, "bob") == "ALIVE", "whoever speaks is alive"


def test_a_name_passes_to_another_store_only_when_its_holder_is_dead() -> None:
    one = ada("bob")
    thief = member("bob", 9, store=b"another store...")
    one.learn([thief], 0.0)
    assert one.others["bob"].store_id != thief.store_id
    one.learn([member("bob", 2, Status.DEAD)], 0.0)
    one.learn([thief], 0.0)
    assert one.others["bob"] == thief


def test_news_is_passed_on_log_n_times_and_then_no_more() -> None:
    one = ada(*(f"m{n}" for n in range(30)))
    for _ in range(100):
        one.news()
    one.learn([member("m3", 2)], 0.0)
    carried = 0
    while any(each.name == "m3" for each in one.news()):
        carried += 1
    assert log2(30) <= carried <= 5 * log2(30)


def test_known_members_are_suspects_after_a_restart() -> None:
    one = Membership(member("ada"), [member("bob"), member("cy", 1, Status.DEAD)], CONFIG, Random(1), 0.0)
    assert status(one, "bob") == "SUSPECT"
    assert status(one, "cy") == "DEAD"
    one.tick(CONFIG.suspicion + 0.1)
    assert status(one, "bob") == "DEAD"


def test_dialing_doubles_its_pauses_with_jitter_and_never_stops() -> None:
    dialer, now, pauses = Dialer(CONFIG, Random(1)), 0.0, []
    dialer.want({"bob:1"}, now)
    for _ in range(30):
        assert dialer.due(now) == ["bob:1"]
        assert dialer.due(now) == [], "once, until it is told what became of it"
        dialer.ended("bob:1", now)
        began = now
        while not attempts_of(dialer)["bob:1"].at <= now:
            now += 0.01
        pauses.append(now - began)
    assert pauses[0] <= CONFIG.dial_first + 0.02
    assert all(pause <= CONFIG.dial_most + 0.02 for pause in pauses)
    assert len({round(pause, 2) for pause in pauses[-10:]}) > 3
    assert dialer.due(now) == ["bob:1"]
    dialer.greeted("bob:1")
    dialer.ended("bob:1", now)
    assert dialer.due(now + CONFIG.dial_first) == ["bob:1"], "after a success it begins with short pauses"
    dialer.want(set(), now)
    dialer.ended("bob:1", now)
    assert dialer.due(now + 100) == []


def test_in_a_small_cluster_nobody_is_told_twice() -> None:
    rng = Random(1)
    nodes = {name: Rumors(4, rng) for name in ("ada", "bob", "cy")}
    nodes["ada"].heard([("notes", "a")], ())
    told = {"ada": 1}
    pending = ["ada"]
    while pending:
        me = pending.pop()
        for _, peers, names in nodes[me].take(me, [name for name in nodes if name != me]):
            for peer in peers:
                told[peer] = told.get(peer, 0) + 1
                nodes[peer].heard([("notes", "a")], {*names, me})
                pending.append(peer)
    assert told == {"ada": 1, "bob": 1, "cy": 1}


def test_a_rumor_reaches_nearly_all_of_a_large_cluster() -> None:
    size, rng = 300, Random(1)
    names = [f"n{number}" for number in range(size)]
    nodes = {name: Rumors(CONFIG.rumor_fanout, rng) for name in names}
    nodes["n0"].heard([("notes", "a")], ())
    reached, wave, hops = {"n0"}, ["n0"], 0
    while wave:
        following = []
        for me in wave:
            for _, peers, told in nodes[me].take(me, [name for name in names if name != me]):
                for peer in peers:
                    if peer not in reached:
                        reached.add(peer)
                        nodes[peer].heard([("notes", "a")], told)
                        following.append(peer)
        wave, hops = following, hops + 1
    assert len(reached) > 0.95 * size
    assert hops < 3 * log2(size)


def test_too_much_for_a_rumor_becomes_a_poke() -> None:
    rumors = Rumors(4, Random(1))
    rumors.heard([("notes", str(n)) for n in range(RUMOR_DOCUMENTS_MAX + 1)], ())
    assert len(rumors.take("ada", ["bob"])[0][0]) == RUMOR_DOCUMENTS_MAX
    assert rumors.take_overflow(["bob"]) == ["bob"]
    assert rumors.take_overflow(["bob"]) == []
    assert bool(rumors) is False


def test_a_page_out_of_order_ends_the_exchange() -> None:
    asking = Asking(1, "bob", 0.0)
    assert asking.take(0, 1.0)
    assert asking.take(1, 2.0)
    assert not asking.take(1, 3.0), "doubled"
    assert not asking.take(3, 3.0), "one is missing"
    assert asking.heard == 2.0


def send_all(flow: PageFlow) -> int:
    while flow.may_send:
        flow.sent += 1
    return flow.sent


def test_no_more_pages_go_out_than_were_wanted_whatever_is_wanted() -> None:
    flow = PageFlow(1, 4, 0.0)
    assert send_all(flow) == 4
    flow.more(1_000_000, 1.0, 4)
    assert send_all(flow) == 8
