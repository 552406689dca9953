"""The documents that are measured with: made from a seed, or the user's own as JSON Lines.

Made documents have about a kilobyte of JSON: a title, tags, a number, and prose of words that are as long and as often repeated
as those of a language. So they compress about as well as real text does, and no better; the ids come in no order.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from random import Random
from typing import Any

Document = dict[str, Any]

_SYLLABLES = ["ba", "cor", "de", "fin", "gro", "ha", "ing", "jo", "ka", "lu", "men", "nor", "o", "pra", "qui", "ra", "st", "tu", "ver", "zo"]  # fmt: skip  # noqa: E501
_WORDS = 4_000
_TEXT_CHARACTERS = 820


class Documents:
    """A source of documents: any number of them, the same for the same seed."""

    def __init__(self, name: str, own: list[Document] | None = None) -> None:
        """With `own` documents these are used, again and again if there are too few."""
        self.name, self._own = name, own

    @classmethod
    def from_lines(cls, path: Path) -> Documents:
        """Read documents, one JSON object a line. Raises ValueError for anything else."""
        own = []
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if line.strip():
                document = json.loads(line)
                if not isinstance(document, dict):
                    raise ValueError(f"{path}:{number} isn't a JSON object")
                own.append({key: value for key, value in document.items() if key[:1] != "_"})
        if not own:
            raise ValueError(f"{path} holds no document")
        return cls(f"{len(own):,} of {path.name}", own)

    def take(self, number: int, seed: int = 0) -> list[tuple[str, Document]]:
        """Return documents with their ids. Those of another seed have other ids."""
        rng = Random(seed)
        bodies = islice(cycle(self._own), number) if self._own is not None else _made(number, rng)
        return [(f"{rng.getrandbits(64):016x}", body) for body in bodies]

    def lines(self, path: Path, number: int) -> None:
        """Write documents as JSON Lines."""
        with path.open("w") as file:
            for doc_id, body in self.take(number):
                file.write(json.dumps({"_id": doc_id, **body}) + "\n")


GENERATED = Documents("generated, 1 kB each")


def _made(number: int, rng: Random) -> Iterator[Document]:
    vocabulary = Random(1)
    words = ["".join(vocabulary.choices(_SYLLABLES, k=vocabulary.randint(1, 4))) for _ in range(_WORDS)]
    # As in a language, the word of rank r comes 1/r as often as the first (Zipf).
    weights = [1 / rank for rank in range(1, _WORDS + 1)]
    pool = rng.choices(words, weights, k=50_000)
    for n in range(number):
        start = rng.randrange(len(pool) - 400)
        text = " ".join(pool[start : start + 400])[:_TEXT_CHARACTERS]
        yield {"title": f"document {n}", "tags": rng.sample(words, 3), "n": n, "seen": False, "text": text}
