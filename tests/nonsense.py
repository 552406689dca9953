"""What a hostile peer may put in the place of anything."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**70) | st.binary(max_size=17) | st.text(max_size=5) | st.floats(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=20,
)


def spoil(data: st.DataObject, spot: list[Any]) -> None:
    """Put nonsense somewhere into arrays of arrays."""
    for _ in range(data.draw(st.integers(0, 4))):
        inner = [index for index, value in enumerate(spot) if isinstance(value, list) and value]
        if not inner:
            break
        spot = spot[data.draw(st.sampled_from(inner))]
    spot[data.draw(st.integers(0, len(spot) - 1))] = data.draw(plain)
