// The test vectors of docs/player_format.md (tests/player_format), decoded by the player's own code.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import test from "node:test";
import { fileURLToPath } from "node:url";

import { multiply } from "../../../web/camera.js";
import { readClip, trackAt } from "../../../web/clip.js";

const FOLDER = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "player_format");
const names = readdirSync(FOLDER).filter((name) => name.endsWith(".gs4dclip"));

/** The first frame moved by the tracks, as the shader of splats.mjs does it. */
function moved({ base }, clip, seconds) {
  const now = structuredClone(base), M = clip.moving;
  const of = (name, width) => {
    if (!clip.motion?.tracks[name]) return null;
    const values = trackAt(clip.motion, name, seconds);
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

test("there are vectors", () => assert.deepEqual(names.sort(), ["cubic.gs4dclip", "hold.gs4dclip", "linear.gs4dclip", "still.gs4dclip"]));

for (const name of names)
  test(`the vector ${name}`, async () => {
    const want = JSON.parse(readFileSync(join(FOLDER, name.replace(".gs4dclip", ".json")), "utf8"));
    const clip = await readClip(readFileSync(join(FOLDER, name)), name);
    assert.deepEqual([clip.gaussians, clip.moving], [want.gaussians, want.moving]);
    assert.equal(clip.motion?.interpolation ?? null, want.interpolation);
    assert.deepEqual(Object.keys(clip.motion?.tracks ?? {}).sort(), want.tracks);
    assert.equal(want.frames.length, 8);
    for (const frame of want.frames) {
      const got = moved(want, clip, frame.seconds);
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
