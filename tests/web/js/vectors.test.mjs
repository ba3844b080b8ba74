// The test vectors of docs/player_format.md (tests/player_format), decoded by the player's own code.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import test from "node:test";
import { fileURLToPath } from "node:url";

import { multiply } from "../../../web/camera.js";
import { readClip, trackAt } from "../../../web/clip.js";
import { fromBytes, openClip } from "../../../web/segments.mjs";

const FOLDER = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "player_format");
const names = readdirSync(FOLDER).filter((name) => name.endsWith(".gs4dclip"));

/** The motion around a time; of a clip in segments, once its segment is there. */
async function motionAt({ motion, segments }, seconds) {
  if (!segments) return motion;
  for (let tries = 0; tries < 2000; tries++) {
    segments.want(seconds);
    const found = segments.at(seconds);
    if (found) return found;
    assert.equal(segments.problem, "");
    await new Promise((done) => setTimeout(done, 1));
  }
  throw new Error("nothing came");
}

/** The first frame moved by the tracks, as the shader of splats.mjs does it. */
async function moved({ base }, clip, seconds) {
  const now = structuredClone(base), M = clip.moving, motion = await motionAt(clip, seconds);
  const of = (name, width) => {
    if (!motion?.tracks[name]) return null;
    const values = trackAt(motion, name, seconds);
    return (m) => [...values.subarray(m * width, (m + 1) * width)];
  };
  const position = of("position", 3), rotation = of("rotation", 4), scale = of("scale", 3), opacity = of("opacity", 1), color = of("color", 3);
  for (let m = 0; m < M; m++) {
    const plus = (a, b) => a.map((v, i) => v + b[i]);
    if (position) now.centers[m] = plus(now.centers[m], position(m));
    if (rotation) now.rotations[m] = multiply(rotation(m), now.rotations[m]);
    if (scale) now.scales[m] = now.scales[m].map((v, i) => v * Math.exp(scale(m)[i]));
    if (opacity) now.opacities[m] = Math.min(Math.max(opacity(m)[0], 0), 1);
    if (color) now.colors[m] = plus(now.colors[m], color(m));
  }
  return now;
}

test("there are vectors", () => assert.deepEqual(names.sort(), ["cubic", "hold", "linear", "segments_cubic", "segments_hold", "segments_one", "still"].map((name) => `${name}.gs4dclip`)));

for (const name of names)
  test(`the vector ${name}`, async () => {
    const want = JSON.parse(readFileSync(join(FOLDER, name.replace(".gs4dclip", ".json")), "utf8"));
    const bytes = readFileSync(join(FOLDER, name));
    const clip = name.startsWith("segments") ? await openClip(fromBytes(new Uint8Array(bytes)), name) : { ...(await readClip(bytes, name)), segments: null };
    assert.deepEqual([clip.gaussians, clip.moving], [want.gaussians, want.moving]);
    if (clip.segments) {
      const parts = [];
      for (const { start, end } of clip.segments.places) parts.push({ start, end, interpolation: (await motionAt(clip, start)).interpolation });
      assert.deepEqual([parts, clip.segments.tracks.toSorted()], [want.segments, want.tracks]);
    } else
      assert.deepEqual([clip.motion?.interpolation ?? null, Object.keys(clip.motion?.tracks ?? {}).sort()], [want.interpolation, want.tracks]);
    assert.equal(want.frames.length, 8);
    for (const frame of want.frames) {
      const got = await moved(want, clip, frame.seconds);
      for (const part of ["centers", "scales", "opacities", "colors"])
        got[part].flat().forEach((value, i) => {
          const wanted = frame[part].flat()[i];
          assert.ok(Math.abs(value - wanted) <= 1e-5 * Math.abs(wanted) + 2e-6, `${part} at ${frame.seconds}: ${value} is not ${wanted}`);
        });
      got.rotations.forEach((q, i) => {
        const dot = q.reduce((sum, v, c) => sum + v * frame.rotations[i][c], 0);
        assert.ok(Math.abs(dot) > 1 - 1e-6, `rotation ${i} at ${frame.seconds}: ${q} is not ${frame.rotations[i]}`);
      });
    }
  });
