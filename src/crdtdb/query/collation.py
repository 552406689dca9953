"""The order of JSON values: null, false, true, numbers, strings, arrays, objects, as CouchDB has it.

Strings are compared by their code points, not by the rules of a language.
"""

from __future__ import annotations

from typing import Any

from crdtdb.jsontext import JSON


def sort_key(value: JSON) -> tuple[Any, ...]:
    """Return what orders a value among others."""
    if value is None:
        return (0,)
    if isinstance(value, bool):
        return (1, value)
    if isinstance(value, (int, float)):
        return (2, value)
    if isinstance(value, str):
        return (3, value)
    if isinstance(value, list):
        return (4, [sort_key(one) for one in value])
    return (5, [(key, sort_key(value[key])) for key in value])
