"""Reading of row groups of prepared rows, of which a limited number is in memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from polymodal.data.store.items import Items
from polymodal.preparation.prepared_shard import PreparedShard

#: Row groups that are read at once.
READERS = 8


class GroupReader:
    """Row groups of all shards, numbered one shard after the other.

    open_groups: row groups that are used at once. As many more may be in memory, which were read in advance; those that
        were used least recently are dropped
    """

    def __init__(self, shards: Sequence[PreparedShard], open_groups: int) -> None:
        self._places = [(shard, group) for shard in shards for group in range(len(shard.group_rows))]
        self.most = 2 * open_groups
        self._groups: OrderedDict[int, Future[dict[str, Items]]] = OrderedDict()
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(min(READERS, self.most), "row groups")

    def items(self, name: str, group: int) -> Items:
        """The items of an input in a row group.

        Raises:
            DataError: the file cannot be read, or is damaged.
        """
        return self._request(group).result()[name]

    def expect(self, groups: Sequence[int]) -> None:
        """Begin to read row groups that will be needed, in this order."""
        for group in groups[: self.most]:
            self._request(group)

    def _request(self, group: int) -> Future[dict[str, Items]]:
        with self._lock:
            if group not in self._groups:
                shard, number = self._places[group]
                self._groups[group] = self._threads.submit(shard.items, number)
            self._groups.move_to_end(group)
            while len(self._groups) > self.most:
                self._groups.popitem(last=False)
            return self._groups[group]
