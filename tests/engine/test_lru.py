"""The cache forgets what was unused for longest, and never holds more than it may."""

import pytest

from engine.lru import LruCache


def test_the_least_recently_used_goes_first() -> None:
    cache: LruCache[str, str] = LruCache(room=6, size=len)
    for key in ("aa", "bb", "cc"):
        cache.put(key, key)
    assert cache.get("aa") == "aa"
    cache.put("dd", "dd")
    assert "bb" not in cache and all(key in cache for key in ("aa", "cc", "dd"))
    cache.put("long", "12345")
    assert len(cache) == 1 and cache.used == 5 and cache.get("aa") is None


def test_what_is_larger_than_the_room_is_kept_only_where_something_must_be() -> None:
    cache: LruCache[str, str] = LruCache(room=3, size=len)
    cache.put("long", "12345")
    assert len(cache) == 0 and cache.used == 0
    keeping: LruCache[str, str] = LruCache(room=3, size=len, at_least=1)
    keeping.put("a", "1")
    keeping.put("long", "12345")
    assert keeping.get("long") == "12345" and len(keeping) == 1 and keeping.used == 5


def test_putting_a_key_again_does_not_count_it_twice() -> None:
    cache: LruCache[str, str] = LruCache(room=6, size=len)
    cache.put("a", "123")
    cache.put("a", "456")
    assert cache.used == 3 and cache.get("a") == "123"
    cache.clear()
    assert cache.used == 0 and len(cache) == 0


def test_a_value_is_made_once() -> None:
    made = []
    cache: LruCache[int, str] = LruCache(room=10, size=len, make=lambda key: made.append(key) or str(key))
    assert [cache[1], cache[2], cache[1]] == ["1", "2", "1"]
    assert made == [1, 2]
    with pytest.raises(KeyError):
        LruCache[int, str](room=10, size=len)[1]
