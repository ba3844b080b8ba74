"""Other people's programs that judge splat files: npm's splat-transform (PlayCanvas), gltf-validator (Khronos Group),
gaussian-splats-3d (Mark Kellogg), whose format .ksplat is, and @adobe/spz, Niantic's own library of the format .spz.

They are development dependencies, installed into tools/judges when a test first asks for them.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.scene import Gaussians

FOLDER = Path(__file__).resolve().parents[1] / "tools" / "judges"
# the first node with a stable test runner and DecompressionStream
OLDEST = 20
VALIDATE = """
const fs = require('fs');
require('gltf-validator').validateBytes(new Uint8Array(fs.readFileSync(process.argv[1])), { maxIssues: 0 })
  .then((report) => console.log(JSON.stringify(report)));
"""
# a .ply to a .ksplat, as the program's own converter does it; it wants a browser's window
PACK = """
import { readFileSync, writeFileSync } from "node:fs";
globalThis.window = globalThis;
const { PlyParser, SplatBufferGenerator } = await import("@mkkellogg/gaussian-splats-3d");
const [source, target, ...numbers] = process.argv.slice(1);
const [degree, level, section, block, bucket] = numbers.map(Number), { buffer } = new Uint8Array(readFileSync(source));
const maker = SplatBufferGenerator.getStandardGenerator(0, level, section, undefined, block, bucket);
const made = maker.generateFromUncompressedSplatArray(PlyParser.parseToUncompressedSplatArray(buffer, degree));
writeFileSync(target, Buffer.from(made.bufferData));
"""
# an .spz to JSON in some axes, and back with an extension that names the file's axes
SPZ = """
import { readFileSync, writeFileSync } from "node:fs";
import createSpzModule from "@adobe/spz";
const spz = await createSpzModule({ print() {}, printErr() {} });
const parts = ["positions", "scales", "rotations", "alphas", "colors", "sh"];
const [how, file, axes, version, stored] = process.argv.slice(1);
if (how === "read") {
  const cloud = spz.loadSpzFromBuffer(new Uint8Array(readFileSync(file)), { to: spz.CoordinateSystem[axes] });
  console.log(JSON.stringify(Object.fromEntries(parts.map((name) => [name, Array.from(cloud[name])]))));
} else {
  const { numPoints, shDegree, ...values } = JSON.parse(readFileSync(0));
  const cloud = { numPoints, shDegree, antialiased: false, extensions: [] };
  for (const name of parts) cloud[name] = Float32Array.from(values[name]);
  const options = { version: 4, from: spz.CoordinateSystem[axes], sh1Bits: 8, shRestBits: 8 };
  if (stored) {
    // the library saves extensions that it has read, and none that are made here: two are put into a file's head
    const plain = spz.saveSpzToBuffer(cloud, options), records = new Uint32Array(8);
    records.set([0xadbe0002, 12, 0, 0, 0, 0xadbe0003, 4, spz.CoordinateSystem[stored].value]);
    const file = new Uint8Array(plain.length + 32), head = new DataView(file.buffer);
    file.set(plain.subarray(0, 32)), file.set(new Uint8Array(records.buffer), 32), file.set(plain.subarray(32), 64);
    head.setUint8(14, 2), head.setUint32(16, 64, true);
    cloud.extensions = spz.loadSpzFromBuffer(file, { to: spz.CoordinateSystem[axes] }).extensions;
  }
  writeFileSync(file, spz.saveSpzToBuffer(cloud, { ...options, version: Number(version) }));
}
"""


def splat_transform(source: Path, target: Path, *options: str) -> Path:
    """Convert a splat file with splat-transform, on the CPU; skips the test where it cannot be had."""
    program = modules() / "@playcanvas" / "splat-transform" / "bin" / "cli.mjs"
    command = [node(), str(program), "-w", "-q", "-g", "cpu", "-i", "1", "--max-workers", "0", *options]
    run = subprocess.run([*command, str(source), str(target)], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, f"splat-transform cannot convert {source.name}:\n{run.stdout}\n{run.stderr}"
    return target


def ksplat(
    source: Path, target: Path, degree: int, level: int, section: int = 0, block: float = 5, bucket: int = 256
) -> Path:
    """Pack a .ply with gaussian-splats-3d; skips the test where it cannot be had.

    Args:
        source: The .ply.
        target: The .ksplat.
        degree: SH degree to keep, 0 to 2.
        level: Compression, 0 to 2.
        section: Gaussians of a section; 0: all.
        block: Size of the cubes that share a center, world units.
        bucket: Gaussians that share one, at most.
    """
    modules()
    numbers = [str(n) for n in (degree, level, section, block, bucket)]
    command = [node(), "--input-type=module", "-e", PACK, str(source), str(target), *numbers]
    # modules are looked for from the current folder
    run = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    return target


def niantic_read(file: Path, axes: str = "RDF") -> Gaussians:
    """What Niantic's library reads from an .spz, in some axes (this pack's unless others are named)."""
    cloud = json.loads(_spz("read", str(file), axes))
    count = len(cloud["alphas"])
    rows = {name: torch.tensor(values).reshape(count, -1) for name, values in cloud.items()}
    return Gaussians(
        rows["positions"],
        rows["scales"],
        rows["rotations"][:, [3, 0, 1, 2]],
        rows["alphas"][:, 0],
        torch.cat([rows["colors"], rows["sh"]], dim=1).reshape(count, -1, 3),
    )


def niantic_write(g: Gaussians, target: Path, version: int, stored: str = "", axes: str = "RDF") -> Path:
    """An .spz of Niantic's library, of Gaussians in some axes; with `stored`, in these, and the file says so."""
    values = {
        "positions": g.means,
        "scales": g.log_scales,
        "rotations": g.quats[:, [1, 2, 3, 0]],
        "alphas": g.logit_opacities,
        "colors": g.sh[:, 0],
        "sh": g.sh[:, 1:],
    }
    cloud = {"numPoints": len(g), "shDegree": g.sh_degree}
    text = json.dumps(cloud | {name: tensor.flatten().tolist() for name, tensor in values.items()})
    _spz("write", str(target), axes, str(version), stored, text=text)
    return target


def _spz(*words: str, text: str = "") -> str:
    modules()
    command = [node(), "--input-type=module", "-e", SPZ, *words]
    run = subprocess.run(command, cwd=FOLDER, input=text, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    return run.stdout


def validated(glb: Path) -> dict[str, Any]:
    """The report of gltf-validator; skips the test where it cannot be had."""
    run = subprocess.run(
        [node(), "-e", VALIDATE, str(glb)],
        env={**os.environ, "NODE_PATH": str(modules())},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return json.loads(run.stdout)


def node() -> str:
    found = shutil.which("node")
    if found is None:
        pytest.skip(f"NOT RUN: no node here (node {OLDEST} or later)")
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.strip().lstrip("v").split(".")[0]) < OLDEST:
        pytest.skip(f"NOT RUN: node {version.strip()} is too old (node {OLDEST} or later)")
    return found


def modules() -> Path:
    """node_modules as the lock file says, installed where it is missing or older."""
    lock = FOLDER / "package-lock.json"
    stamp, wanted = FOLDER / "node_modules" / ".installed", hashlib.sha256(lock.read_bytes()).hexdigest()
    if not _holds(stamp, wanted):
        _install(stamp, wanted)
    return FOLDER / "node_modules"


def _install(stamp: Path, wanted: str) -> None:
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("NOT RUN: no npm here to install the programs of tools/judges")
    # other test processes wait for the one that installs
    busy = FOLDER / "node_modules.partial"
    try:
        busy.mkdir()
    except FileExistsError:
        ends = time.monotonic() + 300
        while busy.exists() and time.monotonic() < ends:
            time.sleep(0.5)
        if _holds(stamp, wanted):
            return
    try:
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        run = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=300)
        if run.returncode:
            pytest.skip(f"NOT RUN: npm cannot install the programs of tools/judges: {run.stderr[-300:]}")
        stamp.write_text(wanted, encoding="utf-8")
    finally:
        shutil.rmtree(busy, ignore_errors=True)


def _holds(stamp: Path, wanted: str) -> bool:
    return stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted
