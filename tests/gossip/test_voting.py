"""One voter: what it promises, what it remembers, and when it holds off."""

from __future__ import annotations

from crdtdb.limits import LOCK_SECONDS_MAX
from crdtdb.locks.voter import ASKING_SECONDS, Kept, Vote, Voter
from crdtdb.wire.messages import Ticket

A, B, C = (Ticket(stamp, name, 1) for stamp, name in enumerate("abc", 1))
IDS = [bytes([n]) * 16 for n in range(8)]


def voter(*members: int) -> tuple[Voter, list[Kept]]:
    """Return a voter that has heard from everybody, and what it keeps."""
    kept: list[Kept] = []
    made = Voter(Kept(), lambda one, name: kept.append(one), 0.0)
    made.members_are(frozenset(IDS[n] for n in members or (0,)), IDS[0], 0.0)
    for n in members:
        made.told(IDS[n], {}, 0, 0.0)
    assert not made.held_off(0.0)
    return made, kept


def test_one_lock_is_promised_to_one_request() -> None:
    one, kept = voter()
    assert one.ask("x", A, 30, 1).granted
    assert not one.ask("x", B, 30, 1).granted
    assert one.ask("y", B, 30, 1).granted
    assert one.ask("x", A, 30, 2).granted, "asked again"
    assert set(kept[-1].votes) == {"x", "y"}


def test_a_promise_without_a_lease_ends_soon_and_a_lease_when_it_does() -> None:
    one, _ = voter()
    assert one.ask("x", A, 30, 1).granted
    assert one.ask("x", B, 30, 1 + ASKING_SECONDS).granted
    assert one.hold("x", B, 7, 30, 10).granted
    assert not one.ask("x", C, 30, 39.9).granted
    answer = one.ask("x", C, 30, 40)
    assert (answer.granted, answer.token) == (True, 7)


def test_the_first_ticket_is_served_first() -> None:
    one, _ = voter()
    assert one.hold("x", A, 1, 30, 0).granted
    assert not one.ask("x", C, 30, 1).granted
    assert not one.ask("x", B, 30, 2).granted
    assert one.free("x", A, False, 3) == "b"
    assert not one.ask("x", C, 30, 3).granted, "others came before"
    assert one.ask("x", B, 30, 3).granted


def test_who_stops_asking_loses_its_turn() -> None:
    one, _ = voter()
    assert one.hold("x", A, 1, 30, 0).granted
    assert not one.ask("x", B, 30, 1).granted
    assert not one.ask("x", C, 30, 5).granted
    assert one.free("x", A, False, 1 + ASKING_SECONDS) == "c"


def test_who_gives_back_and_waits_on_is_not_called_for_that() -> None:
    one, _ = voter()
    assert one.ask("x", A, 30, 1).granted
    assert one.free("x", A, True, 1) is None
    assert one.free("x", B, False, 1) == "a", "but when somebody else gives up"


def test_a_token_is_checked_against_the_lease() -> None:
    one, _ = voter()
    assert not one.check("x", 0, 0).granted
    assert one.ask("x", A, 30, 0).granted
    assert not one.check("x", 0, 0).granted, "a promise isn't a lease"
    assert one.hold("x", A, 3, 30, 1).granted
    assert one.check("x", 3, 2).granted
    assert not one.check("x", 2, 2).granted
    assert not one.check("x", 3, 31).granted


def test_promises_outlive_a_restart_at_full_length() -> None:
    one, kept = voter()
    assert one.ask("x", A, 30, 0).granted
    assert one.hold("x", A, 4, 30, 0).granted
    again = Voter(kept[-1], lambda one, name: None, 1_000.0)
    again.members_are(frozenset({IDS[0]}), IDS[0], 1_000.0)
    refused = again.ask("x", B, 30, 1_029.0)
    assert (refused.granted, refused.token) == (False, 4)
    assert again.ask("x", B, 30, 1_030.0).granted


def test_one_member_more_or_less_changes_nothing() -> None:
    one, _ = voter(0, 1, 2)
    one.members_are(frozenset(IDS[:4]), IDS[0], 1_000.0)
    assert not one.held_off(1_000.0)
    one.members_are(frozenset(IDS[:3]), IDS[0], 2_000.0)
    assert not one.held_off(2_000.0)


def test_two_changes_within_the_longest_lease_need_everybody_to_tell() -> None:
    one, _ = voter(0, 1, 2)
    one.members_are(frozenset(IDS[:4]), IDS[0], 1_000.0)
    one.members_are(frozenset(IDS[:5]), IDS[0], 1_001.0)
    assert one.held_off(1_001.0)
    assert not one.ask("x", A, 30, 1_001.0).granted
    assert one.unheard == frozenset(IDS[1:5])
    for n in (1, 2, 3):
        one.told(IDS[n], {}, 0, 1_002.0)
    assert one.held_off(1_002.0)
    one.told(IDS[4], {"x": Vote(B, 9, 20, 0.0)}, 9, 1_003.0)
    assert not one.held_off(1_003.0)
    refused = one.ask("x", A, 30, 1_004.0)
    assert (refused.granted, refused.token) == (False, 9), "what was told counts as promised"


def test_a_member_that_never_tells_is_waited_for_no_longer_than_a_lease_lasts() -> None:
    one, _ = voter(0, 1, 2)
    one.members_are(frozenset(IDS[:6]), IDS[0], 1_000.0)
    assert one.held_off(1_000.0 + LOCK_SECONDS_MAX - 1)
    assert not one.held_off(1_000.0 + LOCK_SECONDS_MAX)


def test_where_a_majority_has_gone_at_once_nobody_is_left_to_tell() -> None:
    one, _ = voter(0, 1, 2, 3, 4)
    one.members_are(frozenset(IDS[:2]), IDS[0], 1_000.0)
    one.told(IDS[1], {}, 0, 1_000.0)
    assert one.held_off(1_001.0)
    assert not one.held_off(1_000.0 + LOCK_SECONDS_MAX)


def test_a_new_voter_asks_before_it_promises_anything() -> None:
    one = Voter(Kept(), lambda kept, name: None, 0.0)
    one.members_are(frozenset(IDS[:3]), IDS[0], 0.0)
    assert one.unheard == {IDS[1], IDS[2]}
    assert not one.ask("x", A, 30, 0.0).granted


def test_a_lease_goes_on_at_a_voter_that_never_promised_it() -> None:
    one, _ = voter()
    assert one.hold("x", A, 5, 30, 0).granted
    assert not one.hold("x", B, 4, 30, 1).granted
