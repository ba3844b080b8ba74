// Clips made by hand, from the description of the format alone.

import { deflateSync, gzipSync } from "node:zlib";

/** An .spz header (version 3) and as many bytes as `count` Gaussians of SH degree 0 take. */
export function spz(count, says = count) {
  const bytes = Buffer.alloc(16 + 20 * count);
  bytes.writeUInt32LE(0x5053474e, 0);
  bytes.writeUInt32LE(3, 4);
  bytes.writeUInt32LE(says, 8);
  bytes[13] = 12;
  return gzipSync(bytes);
}

/** A track's bytes from its whole numbers u[k][m][c]. */
export function packed(u, bits) {
  const [knots, moving, channels] = [u.length, u[0].length, u[0][0].length], low = [], high = [], mask = bits <= 8 ? 0xff : 0xffff;
  for (let c = 0; c < channels; c++)
    for (let k = 0; k < knots; k++)
      for (let m = 0; m < moving; m++) {
        const difference = (u[k][m][c] - (k ? u[k - 1][m][c] : 0)) & mask;
        low.push(difference & 255);
        high.push(difference >> 8);
      }
  return deflateSync(Buffer.from(bits <= 8 ? low : [...low, ...high]));
}

/** A whole file. `tracks`: [{name, bits, low, high, u, data?}]; `changes` replace entries of the header. */
export function clip({ gaussians = 3, moving = 2, knots = [0, 0.5, 1], interpolation = "linear", tracks = [], changes = {}, splat = spz(gaussians) } = {}) {
  const blocks = [splat];
  let end = splat.length;
  const entries = tracks.map(({ name, bits, low, high, u, data = packed(u, bits) }) => {
    const padding = (16 - (end % 16)) % 16;
    blocks.push(Buffer.alloc(padding), data);
    const entry = { name, channels: low.length, bits, low, high, offset: end + padding, length: data.length };
    end += padding + data.length;
    return entry;
  });
  const about = {
    format: "gs4d-clip", version: 1, title: "tiny", gaussians, moving: tracks.length ? moving : 0, times: [0, 0.25, 0.5, 0.75, 1], fps: 4,
    up: [0, 1, 0], center: [0, 0, 0], radius: 1, background: [0, 0, 0],
    cameras: [{ name: "cam", width: 64, height: 48, fx: 50, fy: 60, cx: 30, cy: 25, camera_to_world: [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 4, 0, 0, 0, 1] }],
    spz: { offset: 0, length: splat.length },
    motion: tracks.length ? { knots, interpolation, tracks: entries } : null,
    error: { max: 0, mean: 0 }, notes: ["made by hand"], ...changes,
  };
  let text = JSON.stringify(about);
  text = text.padEnd(text.length + ((16 - ((12 + Buffer.byteLength(text)) % 16)) % 16));
  const head = Buffer.alloc(12);
  head.write("GS4C", 0, "latin1");
  head.writeUInt32LE(1, 4);
  head.writeUInt32LE(Buffer.byteLength(text), 8);
  return new Uint8Array(Buffer.concat([head, Buffer.from(text), ...blocks]));
}
