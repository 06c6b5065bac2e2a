"""Slot ids: small numbers, handed out once each to an endpoint, which keeps them."""

from __future__ import annotations

from l7fp import abi


class SlotIds:
    """Ids 1 .. MAX_SLOTS - 1; 0 means no slot. `highest` bounds what a sweep has to look at."""

    def __init__(self) -> None:
        self.highest = 0

    def new(self) -> int | None:
        """An id that no endpoint has; None when all are taken."""
        if self.highest + 1 >= abi.MAX_SLOTS:
            return None
        self.highest += 1
        return self.highest
