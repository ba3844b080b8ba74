// Clips that Python wrote, clips made by hand, and files that are no clips.

import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";

import { blend, ClipError, readClip, trackAt } from "../../../web/clip.js";
import { clip, packed, spz } from "./tiny_clip.mjs";

const U = [[[0, 0, 0], [255, 10, 7]], [[128, 255, 3], [0, 20, 7]], [[255, 1, 9], [100, 30, 7]]]; // [knot][Gaussian][channel]
const EIGHT = { name: "position", bits: 8, low: [-1, 0, 0], high: [1, 2.55, 255], u: U };
const SIXTEEN = { name: "scale", bits: 12, low: [0, 0, 0], high: [4095, 4095, 4095], u: U.map((k) => k.map((m) => m.map((v) => v * 16))) };

test("a clip made by hand is what it was made of", async () => {
  const read = await readClip(clip({ tracks: [EIGHT, SIXTEEN] }), "hand");
  assert.deepEqual([read.gaussians, read.moving, read.title, read.notes], [3, 2, "tiny", ["made by hand"]]);
  assert.equal(read.spz.length, spz(3).length);
  for (const [k, seconds] of [0, 0.5, 1].entries())
    for (const track of [EIGHT, SIXTEEN]) {
      const got = trackAt(read.motion, track.name, seconds);
      track.u[k].flat().forEach((u, i) => {
        const c = i % 3, want = track.low[c] + ((track.high[c] - track.low[c]) * u) / (2 ** track.bits - 1);
        assert.ok(Math.abs(got[i] - want) < 1e-4 * Math.max(1, Math.abs(want)), `${track.name} ${k} ${i}: ${got[i]} is not ${want}`);
      });
    }
  const between = trackAt(read.motion, "position", 0.25);
  assert.ok(Math.abs(between[0] - (-1 + 2 * (64 / 255))) < 1e-5);
});

test("rotations blend the short way round, also where w passes zero", async () => {
  const half = (angle) => { // about x, as a vector part with w ≥ 0
    const [v, w] = [Math.sin(angle / 2), Math.cos(angle / 2)];
    return Math.round(((w < 0 ? -v : v) + 1) * 32767.5);
  };
  const turns = [2.8, 3.4, 4.0]; // radians: between the first two, half a turn is passed
  const track = { name: "rotation", bits: 16, low: [-1, -1, -1], high: [1, 1, 1], u: turns.map((a) => [[half(a), 32768, 32768]]) };
  const { motion } = await readClip(clip({ tracks: [track], moving: 1 }));
  for (const [seconds, angle] of [[0, 2.8], [0.25, 3.1], [0.5, 3.4], [0.75, 3.7]]) {
    const [x, , , w] = trackAt(motion, "rotation", seconds);
    assert.ok(Math.abs(Math.abs(x * Math.sin(angle / 2) + w * Math.cos(angle / 2)) - 1) < 1e-4, `${seconds}: ${x}, ${w}`);
  }
});

test("a clip without motion stands still", async () => {
  const read = await readClip(clip());
  assert.equal(read.motion, null);
  assert.equal(read.cameras[0].fy, 60);
});

test("weights sum to one, pass through the knots and follow a straight line", () => {
  const knots = [0, 0.5, 1, 1.5];
  for (const interpolation of ["cubic", "linear", "hold"])
    for (let seconds = -0.5; seconds <= 2.2; seconds += 0.0625) {
      const at = blend({ knots, interpolation }, seconds);
      assert.ok(Math.abs(at.weights.reduce((a, b) => a + b) - 1) < 1e-12);
      assert.ok(at.knots.every((k) => k >= 0 && k < 4));
      const value = at.weights.reduce((sum, w, i) => sum + w * knots[at.knots[i]], 0), inside = Math.min(Math.max(seconds, 0), 1.5);
      const want = interpolation === "hold" ? Math.floor(inside / 0.5) * 0.5 : inside;
      assert.ok(Math.abs(value - want) < 1e-12, `${interpolation} at ${seconds}: ${value}`);
    }
  assert.deepEqual(blend({ knots: [3], interpolation: "cubic" }, 9), { knots: [0, 0, 0, 0], weights: [1, 0, 0, 0] });
});

test("a time that was rounded on its way still belongs to its own knot", () => {
  const motion = { knots: [0, 1 / 12, 2 / 12], interpolation: "hold" };
  assert.equal(blend(motion, Math.fround(1 / 12) - 1e-9).knots[0], 1);
  assert.equal(blend(motion, 1 / 12 - 1e-3).knots[0], 0);
});

const refused = {
  "is not a player file": new TextEncoder().encode("ply\nformat ascii"),
  "is not a player file; use": new Uint8Array(0),
  "version 7": (() => { const b = clip(); b[4] = 7; return b; })(),
  "cut short inside its header": clip().slice(0, 200),
  "cut short;": clip().slice(0, 9),
  "header is damaged": (() => { const b = clip(); b[12] = 120; return b; })(),
  "do not hold its track 'position'": (() => { const b = clip({ tracks: [EIGHT] }); return b.slice(0, b.length - 5); })(),
  "damaged or cut short": clip({ tracks: [{ ...EIGHT, data: Buffer.from("no zlib stream at all") }] }),
  "track 'position' is damaged": clip({ tracks: [{ ...EIGHT, data: packed(U, 8).subarray(0, -4) }] }), // without its checksum
  "holds 12 of 18 bytes": clip({ tracks: [{ ...EIGHT, data: packed(U.slice(0, 2), 8) }] }),
  "longer than the expected 18 bytes": clip({ tracks: [{ ...EIGHT, data: packed([...U, ...U], 8) }] }),
  "claims 3 Gaussians and holds 9": clip({ splat: spz(3, 9) }),
  "claims 2 moving Gaussians of 3, which does not match its tracks": clip({ changes: { moving: 2 } }),
  "claims 9 moving": clip({ tracks: [EIGHT], changes: { moving: 9 } }),
  "not evenly spaced": clip({ tracks: [EIGHT], knots: [0, 0.9, 1] }),
  "knots are not in ascending order": clip({ tracks: [EIGHT], knots: [0, 1, 0.5] }),
  "'spline', which is not supported": clip({ tracks: [EIGHT], interpolation: "spline" }),
  "'position' of 3 channels with 40 bits": clip({ tracks: [{ ...EIGHT, bits: 40, data: packed(U, 8) }] }),
  "radius is null": clip({ changes: { radius: NaN } }),
  "splat is damaged": clip({ splat: Buffer.from("not gzip") }),
  "does not match its content": clip({ changes: { spz: null } }),
  "claims 72000000 bytes, more than can be read": clip({ gaussians: 12e5, moving: 12e5, tracks: [EIGHT], knots: [...Array(20).keys()] }),
  "'position' contains numbers of more than 7 bits": clip({ tracks: [{ ...EIGHT, bits: 7 }] }),
  "cx is null": clip({ changes: { cameras: [{ name: "c", width: 4, height: 4, fx: 1, fy: 1, cx: NaN, cy: 2, camera_to_world: Array(16).fill(1) }] } }),
  "its splat claims 50000000 Gaussians (1000000016 bytes) and holds 76 bytes": clip({ gaussians: 5e7, splat: spz(3, 5e7) }),
};
test("a sentence is one line of whole characters", () => {
  for (const filler of ["x", "\n", "\u2028", "😀", "\ud83d", "é\u00a0"])
    for (const length of [1, 249, 250, 251, 399, 400, 401, 1999, 2000, 2001, 100000]) {
      const { message } = new ClipError(`a${filler.repeat(length)}.`);
      assert.ok([...message].length <= 400 && !/[\p{C}\p{Zl}\p{Zp}\u00a0]/u.test(message), message);
      assert.ok(message.startsWith("a") && message.endsWith("."), message);
    }
});

for (const [words, bytes] of Object.entries(refused))
  test(`one sentence: ${words}`, async () => {
    await assert.rejects(readClip(bytes, "x.gs4dclip"), (error) => {
      assert.ok(error instanceof ClipError, error.stack);
      assert.ok(error.message.includes(words), error.message);
      assert.ok(error.message.startsWith("x.gs4dclip") && error.message.endsWith(".") && !error.message.includes("\n"), error.message);
      return true;
    });
  });

const made = process.env.GS4D_TEST_CLIPS;
const names = made && existsSync(made) ? readdirSync(made).filter((name) => name.endsWith(".gs4dclip")) : [];
test("Python's clips say the same here", { skip: !made && "GS4D_TEST_CLIPS names no folder: pytest tests/web/test_js.py" }, async (t) => {
  assert.ok(names.length >= 3, "no clips were made");
  for (const name of names)
    await t.test(name, async () => {
      const path = join(made, name), want = JSON.parse(readFileSync(`${path}.json`, "utf8"));
      const read = await readClip(readFileSync(path), name);
      assert.deepEqual([read.gaussians, read.moving, read.times.length, read.cameras.length], want.counts);
      assert.equal(read.motion?.interpolation ?? null, want.interpolation);
      for (const { seconds, track, values } of want.samples) {
        const got = trackAt(read.motion, track, seconds);
        assert.equal(got.length, values.length);
        values.forEach((value, i) => {
          const q = 4 * (i >> 2); // q and −q are the same rotation
          const sign = track === "rotation" && [0, 1, 2, 3].reduce((dot, c) => dot + got[q + c] * values[q + c], 0) < 0 ? -1 : 1;
          assert.ok(Math.abs(sign * got[i] - value) < 2e-5, `${track} at ${seconds}: ${got[i]} is not ${value}`);
        });
      }
    });
  for (const share of [0.05, 0.5, 0.9, 0.999])
    await t.test(`cut to ${share}`, async () => {
      const bytes = readFileSync(join(made, names[0]));
      await assert.rejects(readClip(bytes.subarray(0, Math.floor(bytes.length * share)), "cut"), ClipError);
    });
});
