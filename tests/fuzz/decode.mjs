// Decodes player files and plays them, under node: a line of JSON for each, `node decode.mjs FILE…`.

import { readFileSync } from "node:fs";
import { performance } from "node:perf_hooks";
import { blend, ClipError, readClip, trackAt } from "../../web/clip.js";

const say = (entry) => process.stdout.write(`${JSON.stringify(entry)}\n`);

for (const path of process.argv.slice(2)) {
  const start = performance.now(), before = process.memoryUsage.rss();
  say({ start: path });
  const entry = { path, ended: "value" };
  try {
    const clip = await readClip(readFileSync(path), "a.gs4dclip");
    const motion = clip.motion;
    for (const seconds of motion ? [...clip.times.slice(0, 3), clip.times.at(-1), -1e9, 1e9] : []) {
      const { weights, knots } = blend(motion, seconds), sum = weights.reduce((a, b) => a + b);
      if (!(Math.abs(sum - 1) < 1e-6) || knots.some((knot) => !(knot in motion.knots)))
        throw new Error(`weights ${weights} of knots ${knots} at ${seconds}`);
      for (const name in motion.tracks) trackAt(motion, name, seconds);
    }
  } catch (error) {
    entry.ended = error instanceof ClipError ? "sentence" : "exception";
    entry.message = error instanceof ClipError ? error.message : `${error.stack}`.slice(0, 500);
  }
  say({ ...entry, seconds: (performance.now() - start) / 1000, grown: process.memoryUsage.rss() - before });
}
