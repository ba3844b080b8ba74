"""What the engine knows of the machine, on systems that say less of themselves."""

from types import SimpleNamespace

from engine import backends


def test_memory_is_known_where_the_system_has_no_sysconf(monkeypatch):
    known = backends.memory()
    backends.memory.cache_clear()
    monkeypatch.setattr(backends, "os", SimpleNamespace())
    try:
        assert abs(backends.memory() - known) < 0.01 * known
        backends.memory.cache_clear()
        monkeypatch.setattr(backends, "installed", lambda package: False)
        assert backends.memory() == 64e9
    finally:
        monkeypatch.undo()
        backends.memory.cache_clear()
