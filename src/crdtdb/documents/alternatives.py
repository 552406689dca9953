"""Alternatives: concurrent values beside the shown fields, each with a name.

Two types of field at one path, texts of two lives, a field under a plain value: one of them shows, the others are a conflict of
the field. Each hidden alternative is listed after the siblings, under a revision that follows from its path and its dots: so a
client can read it, put on it and delete it like a sibling, and a resolution that has seen it decides its value.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

from crdtdb.canonical_json import JSON, canonical, document_text, load
from crdtdb.causality import Dot
from crdtdb.crdts import REMNANT, Address, Draft, Field, Place, SequenceField, Spot, catalogue
from crdtdb.documents.fields import is_sequence, whole
from crdtdb.documents.given import Given, place
from crdtdb.documents.revisions import DIGEST_BYTES, Rev
from crdtdb.errors import UndecidedFieldError

OBJECT = ""
"""Kind of an object with fields that a field at the same path hides."""

ABSENT: Any = object()
"""The value at a path without a value."""
_VALUE_CHARACTERS_TOLD = 80


class Alternative(NamedTuple):
    """One of several fields or objects at one path."""

    path: Place
    kind: str
    part: str
    dots: tuple[Dot, ...]

    @property
    def rev(self) -> Rev:
        """Revision under which it is listed. It changes with each edit of this field, not with other edits."""
        keys = [key.encode() for key in (self.kind, self.part, *self.path)]
        keys += [b"%b%d" % (dot.actor, dot.counter) for dot in self.dots]
        text = b"alternative" + b"".join(b"%d:%b" % (len(key), key) for key in keys)
        return Rev(1, blake2b(text, digest_size=DIGEST_BYTES).hexdigest())

    def show_in(self, draft: Draft) -> None:
        """Make a draft show it instead of the visible field."""
        draft.preferred[self.path] = (self.kind, self.part)


class Dispute(NamedTuple):
    """Concurrent values at one path: fields in order of precedence, and whether a plain value hides them."""

    path: Place
    fields: tuple[Alternative, ...]
    is_under_plain: bool

    @property
    def hidden(self) -> tuple[Alternative, ...]:
        """The alternatives that don't show."""
        return self.fields if self.is_under_plain else self.fields[1:]

    def listed(self, beside: Iterable[bytes]) -> tuple[Alternative, ...]:
        """The alternatives to list beside siblings with these bodies: those that a sibling shows need no entry."""
        if self.is_under_plain and any(not hides(load(text), self.path) for text in beside):
            return self.fields[1:]
        return self.hidden


def is_disputed(standing: Iterable[Address], text: bytes) -> bool:
    """Whether fields of these addresses hide each other, or a body of this text hides one: in one pass, without opening any."""
    types = catalogue.catalogue()
    found: dict[Place, str] = {}
    for address in standing:
        path, kind, part = address
        if path and part != REMNANT and kind in types:
            name = kind + part if is_sequence(address) else kind
            if found.setdefault(path, name) != name:
                return True
    for path in found:
        if any(found.get(path[:depth], "map") != "map" for depth in range(1, len(path))):
            return True
    named = {key for key in {path[0] for path in found} if canonical(key) in text}
    near = [path for path, kind in found.items() if kind != "map" and path[0] in named]
    body = load(text) if near else {}
    return any(hides(body, path) for path in near)


def hides(body: Any, path: Place) -> bool:
    """Whether a body has a plain value at the place of a field, or where an object would have to be that leads to it."""
    for key in path:
        if not isinstance(body, dict):
            return True
        if key not in body:
            return False
        body = body[key]
    return True


def covered_places(draft: Draft, text: bytes) -> frozenset[Place]:
    """Return the places at which a body shows a plain value over fields."""
    paths = {address.path for address in draft.standing() if address.path and address.part != REMNANT}
    named = {key for key in {path[0] for path in paths} if canonical(key) in text}
    near = [path for path in paths if path[0] in named]
    body = load(text) if near else {}
    return frozenset(place for path in near if (place := _plain_over(draft.at(path), body)) is not None)


def _plain_over(spot: Spot, body: Any) -> Place | None:
    """Return the place of the plain value that a body has over a field, None if it has none."""
    for depth, key in enumerate(spot.path):
        if not isinstance(body, dict):
            return spot.path[:depth]
        if key not in body:
            return None
        body = body[key]
    return None if isinstance(body, dict) and catalogue.shown_kind(spot) in (None, "map") else spot.path


def disputes(draft: Draft, text: bytes) -> list[Dispute]:
    """Return the places where more is kept than shows."""
    if not is_disputed(draft.standing(), text):
        return []
    body = load(text)
    found = (_dispute(spot, body) for spot in _places(draft.at(())))
    return [one for one in found if one.hidden]


def alternatives(draft: Draft, text: bytes, beside: Collection[bytes] = ()) -> list[Alternative]:
    """Return the alternatives that neither the winner nor the siblings with the bodies `beside` show."""
    return [hidden for one in disputes(draft, text) for hidden in one.listed(beside)]


def conflicts(draft: Draft, text: bytes) -> list[Place]:
    """Return the places where more is kept than shows."""
    return [one.path for one in disputes(draft, text)]


def find_alternative(draft: Draft, text: bytes, rev: Rev) -> Alternative | None:
    """Return the alternative of a name, None if there is none."""
    return next((one for one in alternatives(draft, text) if one.rev == rev), None)


def value_with(alternative: Alternative, draft: Draft, text: bytes) -> dict[str, JSON]:
    """Return the value of a document with an alternative in place of the visible field."""
    draft.preferred.clear()
    alternative.show_in(draft)
    shown = whole(without(text, alternative.path), draft)
    draft.preferred.clear()
    return shown


def value_of(alternative: Alternative, draft: Draft) -> JSON:
    """Return the value of an alternative."""
    draft.preferred.clear()
    alternative.show_in(draft)
    value = catalogue.value(draft.at(alternative.path))
    draft.preferred.clear()
    return value


def without(text: bytes, path: Place) -> bytes:
    """Return the text of a body without the plain value that hides the fields at a path."""
    body = load(text)
    if not hides(body, path):
        return text
    holder = body
    for key in path:
        if key == path[-1] or not isinstance(holder[key], dict):
            del holder[key]
            break
        holder = holder[key]
    return document_text(body)


def with_plain_of(rest: bytes, text: bytes, path: Place) -> bytes:
    """Return a body with the plain value that another body has over a path, if it has one."""
    body = load(text)
    if not hides(body, path):
        return rest
    holder, after = body, load(rest)
    for depth, key in enumerate(path, 1):
        holder = holder[key]
        if depth == len(path) or not isinstance(holder, dict):
            place(after, path[:depth], holder)
            break
    return document_text(after)


def value_at(body: Any, path: Place) -> Any:
    """Return the value at a path, or at one above it; ABSENT if there is none."""
    for key in path:
        if not isinstance(body, dict):
            return body
        if key not in body:
            return ABSENT
        body = body[key]
    return body


def drop(draft: Draft, alternative: Alternative) -> None:
    """Remove one of the alternatives at a path."""
    spot = draft.at(alternative.path)
    if alternative.kind == OBJECT:
        for child in list(spot.children()):
            catalogue.remove(child)
        return
    field = catalogue.field_type(alternative.kind)
    parts = spot.parts(alternative.kind) if issubclass(field, SequenceField) else []
    if len(parts) > 1 and alternative.part != parts[-1]:
        spot.remove(alternative.kind, alternative.part)
    elif len(parts) > 1:
        spot.remove(alternative.kind, alternative.part)
        draft.begin_life()
    else:
        field.reset(spot)


def decide(
    draft: Draft, bodies: Sequence[bytes], text: bytes, given: Given, doc_id: str, seen: Collection[Rev] | None
) -> None:
    """Settle each dispute of which the author of a resolution saw all, by what stands at its path in the new document.

    `bodies` are those of all siblings, the winner's first, `seen` what was seen; None is all. Of several fields the one stays
    that shows the value already, or else the first that can hold it; a plain value stays plain if no field can. Raises
    UndecidedFieldError for a path of which the new document says nothing, or where nothing can be what it says.
    """
    before, *beside = bodies
    found = disputes(draft, before)
    wanted = load(text) if found else {}
    for one in found:
        listed = one.listed(beside)
        if seen is not None and not all(hidden.rev in seen for hidden in listed):
            continue
        value = given.get(one.path) or value_at(wanted, one.path)
        if value is ABSENT and not listed:
            continue
        if value is ABSENT:
            raise UndecidedFieldError(_undecided(one, draft, before, doc_id))
        chosen = _meant(one, draft, value)
        if chosen is None and not one.is_under_plain:
            raise UndecidedFieldError(_undecided(one, draft, before, doc_id))
        for field in one.fields:
            if field != chosen:
                drop(draft, field)


def _meant(dispute: Dispute, draft: Draft, value: Any) -> Alternative | None:
    """Return the field that is to have a value; None if it is to be plain."""
    if isinstance(value, Field):
        return next((one for one in dispute.fields if one.kind == value.kind), None)
    able = [one for one in dispute.fields if _holds(one, value)]
    equal = (one for one in able if canonical(value_of(one, draft)) == canonical(value))
    return next(equal, able[0] if able else None)


def _holds(alternative: Alternative, value: Any) -> bool:
    if alternative.kind == OBJECT:
        return isinstance(value, dict)
    try:
        catalogue.field_type(alternative.kind).checked(value)
    except ValueError:
        return False
    return True


def _undecided(dispute: Dispute, draft: Draft, before: bytes, doc_id: str) -> str:
    where = ".".join(dispute.path)
    kept = [f"a {one.kind or 'object'} ({_told(value_of(one, draft))})" for one in dispute.fields]
    if dispute.is_under_plain:
        kept.append(f"a plain value ({_told(value_at(load(before), dispute.path))})")
    return (
        f"document {doc_id!r} keeps {' and '.join(kept)} at {where!r}, and the resolution doesn't say which: "
        f"give a value of one of them at {where!r}, such as crdtdb.Counter(7) or what is to stand there"
    )


def _told(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _VALUE_CHARACTERS_TOLD else text[: _VALUE_CHARACTERS_TOLD - 1] + "…"


def _places(spot: Spot) -> Iterator[Spot]:
    """Yield every place at which there is a field, outermost first."""
    for child in spot.children():
        if child.kinds() & catalogue.catalogue().keys():
            yield child
        yield from _places(child)


def _dispute(spot: Spot, body: Mapping[str, Any]) -> Dispute:
    kinds, found = spot.kinds(), []
    for kind, field in catalogue.catalogue().items():
        if kind not in kinds:
            continue
        if issubclass(field, SequenceField):
            found += [_alternative(spot, kind, part) for part in reversed(spot.parts(kind))]
        else:
            found.append(_alternative(spot, kind, None))
    shows = found[0].kind
    if shows != "map" and any(spot.children()):
        found.append(_object(spot))
    return Dispute(spot.path, tuple(found), shows != "map" and hides(body, spot.path))


def _alternative(spot: Spot, kind: str, part: str | None) -> Alternative:
    parts = [part] if part is not None else spot.parts(kind)
    dots = {dot for part in parts for dot in spot.dots(kind, part)}
    return Alternative(spot.path, kind, part or "", tuple(sorted(dots)))


def _object(spot: Spot) -> Alternative:
    inside = [one for one in spot.draft.standing() if len(one.path) > len(spot.path)]
    inside = [one for one in inside if one.path[: len(spot.path)] == spot.path]
    dots = {dot for one in inside for dot in spot.draft.deltas(one)}
    return Alternative(spot.path, OBJECT, "", tuple(sorted(dots)))
