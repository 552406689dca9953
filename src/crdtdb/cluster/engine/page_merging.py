"""The pages of one exchange that have come, merged in their order, a slice of a page at a time.

A page of updated documents takes tenths of a second to merge. In one commit, all local writers and all frames of other links
would wait for that. So a page is merged in several commits, as if its sender had made several pages of it: only the last slice
of the last page takes over the sender's clock, and what is merged before an exchange breaks off is kept.
"""

from __future__ import annotations

from collections import deque

from crdtdb.cluster.engine.links import Link
from crdtdb.wire.codec import parcel_in
from crdtdb.wire.delta_batch import DeltaBatch
from crdtdb.wire.messages import PageMessage


class Merging:
    """The pages of one exchange that wait to be merged."""

    def __init__(self, link: Link, updates_max: int) -> None:
        """`updates_max` is how many documents of a slice may have more than their first revision."""
        self.link = link
        self._updates_max = updates_max
        self._pages: deque[PageMessage] = deque()
        self._slices: deque[DeltaBatch] = deque()
        """Of the first page; empty until that is read."""

    def __len__(self) -> int:
        return len(self._pages)

    def add(self, page: PageMessage) -> None:
        """Put a page behind the others."""
        self._pages.append(page)

    @property
    def page(self) -> PageMessage:
        """The page that is being merged."""
        return self._pages[0]

    @property
    def next_slice(self) -> DeltaBatch:
        """What is to be merged next. Raises EncodingError if the page can't be read."""
        if not self._slices:
            self._slices.extend(parcel_in(self.page.parcel).slices(self._updates_max))
        return self._slices[0]

    @property
    def in_last_slice(self) -> bool:
        """Whether the next slice is the last of its page."""
        return len(self._slices) == 1

    def merged(self) -> bool:
        """Take note that the next slice is merged; return whether its page is, too."""
        self._slices.popleft()
        if self._slices:
            return False
        self._pages.popleft()
        return True
