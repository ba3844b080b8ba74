"""The one cache that forgets: at most so many bytes, the least recently used goes first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class LruCache(Generic[Key, Value]):
    """Values by key in at most `room` bytes. Not thread-safe.

    Args:
        room: Bytes that all values together may take.
        size: Bytes of one value.
        make: Makes the value of a key that `cache[key]` does not find.
        at_least: How many values stay even where they take more than `room`.
    """

    def __init__(
        self,
        room: int,
        size: Callable[[Value], int],
        make: Callable[[Key], Value] | None = None,
        at_least: int = 0,
    ) -> None:
        self.room = room
        self.used = 0
        self._size, self._make, self._at_least = size, make, at_least
        self._values: OrderedDict[Key, Value] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: Key) -> bool:
        return key in self._values

    def __getitem__(self, key: Key) -> Value:
        value = self.get(key)
        if value is None:
            if self._make is None:
                raise KeyError(key)
            value = self._make(key)
            self.put(key, value)
        return value

    def get(self, key: Key) -> Value | None:
        """The value where it is there; it counts as used."""
        if key not in self._values:
            return None
        self._values.move_to_end(key)
        return self._values[key]

    def put(self, key: Key, value: Value) -> None:
        """Keep a value as the latest; one that is there already stays."""
        if key in self._values:
            return
        self._values[key] = value
        self.used += self._size(value)
        while self.used > self.room and len(self._values) > self._at_least:
            self.used -= self._size(self._values.popitem(last=False)[1])

    def clear(self) -> None:
        self._values.clear()
        self.used = 0
