"""The figures that other benchmarks printed, as one image.

    python benchmarks/table.py FILE.json ... --out table.png [--title TEXT] [--look light|dark] [--only KEY ...]

Each FILE holds what `benchmarks/NAME.py --json` printed: the last line that is a JSON object is used. Files with the same
figures become the rows of one table; a nested dictionary of dictionaries becomes its own table; machine, device and
versions are shown below.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.table_picture import Table, tables_picture
from engine.errors import InputError
from engine.files.atomic import write_atomically

MOST_COLUMNS = 9  # more figures are listed vertically
UNITS = {"psnr": "dB", "mb": "MB", "ms": "ms"}
CAPITALS = {"psnr": "PSNR", "ssim": "SSIM", "lpips": "LPIPS", "cpu": "CPU", "gpu": "GPU", "fps": "FPS"}


def read(path: Path) -> dict[str, Any]:
    """The last JSON object of a file. Raises InputError if there is none, or if it reports a failure."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            "BEN-009", f"{path.name} cannot be read as text; give a file with the output of a benchmark."
        ) from error
    for part in [text, *reversed(text.splitlines())]:
        try:
            found = json.loads(part)
        except ValueError:
            continue
        if isinstance(found, dict):
            if "error" in found:
                raise InputError(
                    "BEN-010", f"{path.name} reports a failure instead of figures: {found['error']}"
                )
            return found
    raise InputError(
        "BEN-011",
        f"{path.name} does not contain a JSON object; run the benchmark with --json and save its output.",
    )


def cell(value: Any) -> str:
    """A value as short text."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}".replace(",", "\u202f") if abs(value) >= 10_000 else str(value)
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(cell(v) for v in value[:6]) + (", …" if len(value) > 6 else "")
    return str(value)


def heading(key: str) -> str:
    """A readable key, with its unit in brackets if the name contains it."""
    words = key.split("_")
    unit = next((UNITS[word] for word in words if UNITS.get(word)), "")
    plain = " ".join(CAPITALS.get(word, word) for word in words if word not in ("mb", "ms")) or key
    return f"{plain} ({unit})" if unit and unit not in plain else plain


def is_plain(value: Any) -> bool:
    return not isinstance(value, dict) and not (
        isinstance(value, list) and any(isinstance(v, dict | list) for v in value)
    )


def tables(reports: dict[str, dict[str, Any]], only: list[str]) -> list[Table]:
    """One table for files with the same figures, and one for each dictionary of dictionaries in a file."""
    made: list[Table] = []
    groups: dict[tuple[str, ...], dict[str, dict[str, Any]]] = {}
    for name, report in reports.items():
        figures = {k: v for k, v in report.items() if is_plain(v) and (not only or k in only)}
        if figures:
            groups.setdefault(tuple(figures), {})[name] = figures
    for keys, members in groups.items():
        if len(keys) <= MOST_COLUMNS and (len(members) > 1 or len(keys) <= 4):
            table = by_columns("", list(keys), members)
            named = tuple((name, *row[1:]) for name, row in zip(members, table.rows, strict=True))
            made.append(Table("", table.columns, named))
        else:
            rows = tuple((heading(k), *(cell(figures[k]) for figures in members.values())) for k in keys)
            made.append(Table("", ("", *members), rows))
    for name, report in reports.items():
        made += nested(name, report, only)
    return made


def nested(name: str, report: dict[str, Any], only: list[str]) -> list[Table]:
    """Dictionaries of dictionaries as rows and columns; plain ones with the same keys as the rows of one table."""
    made: list[Table] = []
    alike: dict[tuple[str, ...], dict[str, dict[str, Any]]] = {}
    for key, value in report.items():
        if key == "env" or not isinstance(value, dict) or not value:
            continue
        rows = {str(k): inner for k, inner in value.items() if isinstance(inner, dict)}
        if not rows and (not only or key in only):
            figures = {str(k): v for k, v in value.items() if is_plain(v)}
            alike.setdefault(tuple(figures), {})[key] = figures
        every = dict.fromkeys(k for inner in rows.values() for k, v in inner.items() if is_plain(v))
        keys = [k for k in every if not only or k in only]
        if rows and keys:
            made.append(by_columns(f"{name} · {heading(key)}", keys, rows))
    made += [by_columns(name, list(keys), rows) for keys, rows in alike.items() if keys]
    return made


def by_columns(title: str, keys: list[str], rows: dict[str, dict[str, Any]]) -> Table:
    columns = [column([figures.get(k) for figures in rows.values()]) for k in keys]
    body = tuple((heading(name), *(cells[r] for cells in columns)) for r, name in enumerate(rows))
    return Table(title, ("", *map(heading, keys)), body)


def column(values: list[Any]) -> list[str]:
    """Cells of one column; all fractions have the digits that the most precise one needs."""
    cells = [cell(value) for value in values]
    fractions = [
        len(text.split(".")[1])
        for text, v in zip(cells, values, strict=True)
        if isinstance(v, float) and "." in text
    ]
    digits = max(fractions, default=0)
    largest = max((abs(v) for v in values if isinstance(v, float)), default=0.0)
    digits = min(digits, max(0, 4 - len(str(int(largest)))) if largest >= 1 else 4)
    return [
        f"{v:.{digits}f}" if isinstance(v, float) and (v == 0 or abs(v) >= 10**-digits) else text
        for v, text in zip(values, cells, strict=True)
    ]


def notes(reports: dict[str, dict[str, Any]]) -> list[str]:
    """Machine, device, seed and versions; once for all files that share them."""
    report_text: dict[str, list[str]] = {}
    for name, report in reports.items():
        env = report.get("env")
        if isinstance(env, dict):
            versions = " ".join(f"{k} {v}" for k, v in (env.get("versions") or {}).items() if v)
            parts = [str(env[k]) for k in ("machine", "device") if env.get(k)]
            parts += [f"seed {env['seed']}"] if "seed" in env else []
            report_text.setdefault(" · ".join([*parts, versions]), []).append(name)
    return [
        text if len(report_text) == 1 else f"{', '.join(names)}: {text}"
        for text, names in report_text.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Figures of benchmarks as one image.")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.json")
    parser.add_argument("--out", type=Path, required=True, help="the image to write; .png or .jpg")
    parser.add_argument("--title", default="")
    parser.add_argument("--look", choices=("light", "dark"), default="light")
    parser.add_argument("--only", nargs="*", default=[], metavar="KEY", help="only these figures")
    parser.add_argument("--json", action="store_true", help="print the tables as one JSON object")
    arguments = parser.parse_args()
    try:
        reports = {path.stem: read(path) for path in arguments.files}
        found = tables(reports, arguments.only)
        picture = tables_picture(found, arguments.title, notes(reports), arguments.look)
        kind = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}.get(arguments.out.suffix.lower())
        if kind is None:
            raise InputError(
                "BEN-012", f"{arguments.out.name}: the format of a table is .png or .jpg; change the ending."
            )
        if kind == "PNG":  # text on a plain background needs few colors
            picture = picture.quantize(64)
        with write_atomically(arguments.out) as partial:
            picture.save(partial, kind, **({"optimize": True} if kind == "PNG" else {"quality": 92}))
    except InputError as error:
        sys.exit(f"error: {error}")
    if arguments.json:
        size = arguments.out.stat().st_size
        print(json.dumps({"tables": len(found), "rows": sum(len(t.rows) for t in found), "bytes": size}))


if __name__ == "__main__":
    main()
