"""Pages of long lists: counted so far as anybody turns pages, and no further."""

from __future__ import annotations

from typing import Any

from django.core.paginator import Paginator
from django.utils.functional import cached_property

#: Rows that are counted at the most; who looks for older ones filters.
COUNTED = 10_000


class BoundedPaginator(Paginator):  # type: ignore[type-arg]  # generic for type checkers alone
    """Counts the first :data:`COUNTED` rows: a count of a million takes longer than the page."""

    @cached_property
    def count(self) -> int:
        """How many rows there are, as far as they are counted."""
        rows: Any = self.object_list
        return int(rows.order_by()[:COUNTED].count())
