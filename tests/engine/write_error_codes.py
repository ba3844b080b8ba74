"""Adds new error codes to tests/error_codes.json and marks those that nothing raises any more as retired.

    python tests/engine/write_error_codes.py

A new error takes the next free number of its room (printed below); its code must stand in an entry of
docs/troubleshooting.md first. A code that is already in the table keeps its line.
"""

import json
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.engine.test_error_codes import TABLE, explained, raised


def main() -> int:
    known = json.loads(TABLE.read_text(encoding="utf-8")) if TABLE.is_file() else {}
    titles, current = explained(), set(raised()) - {""}
    if missing := sorted(current - set(titles)):
        print(f"not explained in docs/troubleshooting.md: {', '.join(missing)}", file=sys.stderr)
        return 1
    if reused := sorted(code for code in current if known.get(code) == "retired"):
        print(f"retired codes are never used again: {', '.join(reused)}", file=sys.stderr)
        return 1
    codes = dict.fromkeys(set(known) - current, "retired") | {c: known.get(c, titles[c]) for c in current}
    TABLE.write_text(
        json.dumps(dict(sorted(codes.items())), indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    last = Counter[str]()
    for code in codes:
        room, _, number = code.partition("-")
        last[room] = max(last[room], int(number))
    print("next free: " + ", ".join(f"{room}-{number + 1:03d}" for room, number in sorted(last.items())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
