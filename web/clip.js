// Reads clips (.gs4dclip): an .spz of the first moment and, for its first `moving` Gaussians, tracks of
// knots; docs/player_format.md. segments.mjs reads
// those in segments. Knows no page and no GPU. Axes are the file's: x right, y up, z back, as in three.js.

import { advice } from "./advice.mjs";

const CHANNELS = { position: 3, rotation: 3, scale: 3, opacity: 1, color: 3 };
const INTERPOLATIONS = ["cubic", "linear", "hold"];
// bytes that one unpacked track may have: in all, and for its packed ones beyond a few (deflate makes at most 1032 of one)
const LARGEST = 2 ** 31, SMALL = 2 ** 26, PER_BYTE = 1100;

/** What is wrong with a file, as a sentence for the person. */
export class ClipError extends Error {
  constructor(message) {
    super(oneLine(message));
  }
}

/** Values of a file may stand in a message as they are: it is made one line of at most 400 characters. */
function oneLine(message) {
  const ends = message.length > 4000 ? message.slice(0, 2000) + message.slice(-2000) : message;
  // whole characters: half of one cannot be printed
  const text = [...ends.replace(/[\p{C}\p{Z}]+/gu, " ")];
  return text.length > 400 ? `${text.slice(0, 250).join("")}…${text.slice(-149).join("")}` : text.join("");
}

/**
 * @param {ArrayBuffer|Uint8Array} data the file
 * @param {string} name what messages call it
 * @returns {Promise<object>} the header's entries, with `spz` as bytes and each track's `planes` ([c][K][M] whole numbers)
 * @throws {ClipError} foreign, newer, cut short, damaged, lying about what it holds
 */
export async function readClip(data, name = "the clip") {
  const bytes = data instanceof Uint8Array ? data : new Uint8Array(data);
  const { version, about, start } = readHeader(bytes, name);
  if (version !== 1) throw new ClipError(`${name} is in segments, which are opened by openClip.`);
  return explained(name, () => assemble(about, bytes.subarray(start)));
}

/** What `work` gives; its errors name the file. */
export async function explained(name, work) {
  try {
    return await work();
  } catch (error) {
    if (error instanceof ClipError) throw new ClipError(`${name}: ${error.message}; ${advice.again}`);
    // a header of the right name but with entries missing or of another kind
    if (error instanceof TypeError || error instanceof RangeError)
      throw new ClipError(`${name}: its header does not match its content (${error.message}); ${advice.again}`);
    throw error;
  }
}

/** The version, the header's entries and where the data begins, from at least the first bytes of a file. */
export function readHeader(bytes, name) {
  const magic = [71, 83, 52, 67]; // "GS4C"
  if (!bytes.length || magic.some((byte, i) => i < bytes.length && bytes[i] !== byte))
    throw new ClipError(`${name} is not a player file; use a .gs4dclip file.`);
  if (bytes.length < 12) throw new ClipError(`${name} is cut short; ${advice.again}`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const version = view.getUint32(4, true), length = view.getUint32(8, true);
  if (version !== 1 && version !== 2)
    throw new ClipError(`${name} is a player file of version ${version}, but this player supports versions 1 and 2; ${advice.update}`);
  if (12 + length > bytes.length) throw new ClipError(`${name} is cut short inside its header; ${advice.again}`);
  let about;
  try {
    about = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes.subarray(12, 12 + length)));
  } catch {
    throw new ClipError(`${name}: its header is damaged; ${advice.again}`);
  }
  if (about?.format !== "gs4d-clip") throw new ClipError(`${name} is not a player file; use a .gs4dclip file.`);
  return { version, about, start: 12 + length };
}

async function assemble(about, body) {
  const clip = await contentOf(about, block(about.spz, body, "splat"));
  if (clip.moving > 0 && !about.motion) throw unlikeTracks(clip.moving, clip.gaussians);
  if (clip.moving > 0) clip.motion = await readMotion(about.motion, body, clip.moving);
  return clip;
}

const unlikeTracks = (moving, gaussians) =>
  new ClipError(`it claims ${moving} moving Gaussians of ${gaussians}, which does not match its tracks`);

/** What the header and the first frame say; `motion` is null. */
export async function contentOf(about, spz) {
  const gaussians = whole(about.gaussians, "number of Gaussians"), moving = whole(about.moving, "number of moving Gaussians");
  if (moving > gaussians) throw unlikeTracks(moving, gaussians);
  await checkSpz(spz, gaussians);
  const times = ascending(about.times, "times");
  return {
    title: String(about.title ?? ""), gaussians, moving, times,
    fps: positive(about.fps, "fps"),
    up: numbers(about.up, 3, "up"), center: numbers(about.center, 3, "center"), radius: positive(about.radius, "radius"),
    background: numbers(about.background, 3, "background"),
    cameras: about.cameras.map((camera, i) => ({
      name: String(camera.name), width: positive(camera.width, "width"), height: positive(camera.height, "height"),
      fx: positive(camera.fx, "fx"), fy: positive(camera.fy, "fy"), cx: finite(camera.cx, "cx"), cy: finite(camera.cy, "cy"),
      camera_to_world: numbers(camera.camera_to_world, 16, `camera ${i}`),
    })),
    error: { max: Number(about.error?.max), mean: Number(about.error?.mean) },
    notes: (about.notes ?? []).map(String),
    spz, motion: null,
  };
}

/** Knots, interpolation and tracks; those of a segment say how they were packed. `breathe` is awaited between long computations. */
export async function readMotion(about, body, moving, { isSegment = false, breathe = () => {} } = {}) {
  const knots = ascending(about.knots, "knots");
  if (!INTERPOLATIONS.includes(about.interpolation))
    throw new ClipError(`it is interpolated by '${String(about.interpolation).slice(0, 20)}', which is not supported`);
  if (about.interpolation !== "hold" && knots.length > 2) {
    const gap = (knots.at(-1) - knots[0]) / (knots.length - 1);
    if (knots.some((knot, i) => Math.abs(knot - knots[0] - i * gap) > 0.01 * gap))
      throw new ClipError("its knots are not evenly spaced");
  }
  const tracks = {};
  for (const entry of about.tracks) {
    const { name, channels, bits } = entry;
    if (CHANNELS[name] !== channels || !Number.isInteger(bits) || bits < 1 || bits > 16 || tracks[name])
      throw new ClipError(`its track '${String(name).slice(0, 20)}' of ${channels} channels with ${bits} bits is not supported`);
    tracks[name] = {
      channels, bits,
      low: numbers(entry.low, channels, `low of ${name}`), high: numbers(entry.high, channels, `high of ${name}`),
      planes: await unpack(block(entry, body, `track '${name}'`), entry, knots.length, moving, isSegment, breathe),
    };
  }
  return { knots, interpolation: about.interpolation, moving, tracks };
}

/** The whole numbers of a track, [c][K][M], from its zlib stream of differences. */
async function unpack(packed, entry, knots, moving, isSegment, breathe) {
  const { name, bits, channels } = entry;
  const count = channels * knots * moving, wide = bits <= 8 ? 1 : 2;
  if (count * wide > Math.min(LARGEST, SMALL + PER_BYTE * packed.length))
    throw new ClipError(`its track '${name}' claims ${count * wide} bytes, more than can be read`);
  // only segments say what was predicted; such entries of version 1 are ignored
  const { order, spatial } = isSegment ? entry : { order: 1, spatial: false };
  if ((order !== 1 && order !== 2) || typeof spatial !== "boolean")
    throw new ClipError(`its track '${name}' is predicted in an unsupported way`);
  const bytes = await inflate(packed, "deflate", count * wide, `track '${name}'`);
  const planes = wide === 1 ? bytes : new Uint16Array(count);
  if (wide === 2) for (let i = 0; i < count; i++) planes[i] = bytes[i] | (bytes[count + i] << 8);
  // each number is what a prediction left over; the array's own width wraps sums around
  for (let c = 0; c < channels; c++) {
    const from = c * knots * moving, to = from + knots * moving;
    if (isSegment && wide === 2) for (let i = from; i < to; i++) planes[i] = (planes[i] >>> 1) ^ -(planes[i] & 1);
    if (spatial) for (let i = from; i < to; i++) if ((i - from) % moving) planes[i] += planes[i - 1];
    if (order === 2) for (let i = from + 2 * moving; i < to; i++) planes[i] += planes[i - moving];
    for (let i = from + moving; i < to; i++) planes[i] += planes[i - moving];
    await breathe();
  }
  if (bits !== 8 && bits !== 16 && planes.some((value) => value >= 2 ** bits))
    throw new ClipError(`its track '${name}' contains numbers of more than ${bits} bits`);
  return planes;
}

/** Exactly `wanted` bytes, or a ClipError; no more is ever unpacked. */
async function inflate(packed, format, wanted, what, exactly = true) {
  const out = new Uint8Array(wanted);
  let filled = 0;
  const reader = new Blob([packed]).stream().pipeThrough(new DecompressionStream(format)).getReader();
  try {
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      const room = wanted - filled;
      out.set(room < part.value.length ? part.value.subarray(0, room) : part.value, filled);
      filled += Math.min(room, part.value.length);
      if (room < part.value.length || (!exactly && filled === wanted)) {
        await reader.cancel();
        if (exactly) throw new ClipError(`its ${what} is longer than the expected ${wanted} bytes`);
        break;
      }
    }
  } catch (error) {
    if (error instanceof ClipError) throw error;
    throw new ClipError(`its ${what} is damaged or cut short`); // what DecompressionStream says differs by browser
  }
  if (filled < wanted) throw new ClipError(`its ${what} holds ${filled} of ${wanted} bytes`);
  return out;
}

/**
 * The .spz is decoded by the splat renderer, which takes memory for as many Gaussians as its header claims; that it is one, and
 * unpacks to as many bytes as these have, is seen here.
 */
async function checkSpz(spz, gaussians) {
  const head = new DataView((await inflate(spz, "gzip", 16, "splat", false)).buffer);
  if (head.getUint32(0, true) !== 0x5053474e) throw new ClipError("its splat is not an .spz file");
  const count = head.getUint32(8, true);
  if (count !== gaussians) throw new ClipError(`it claims ${gaussians} Gaussians and holds ${count}`);
  const version = head.getUint32(4, true), bases = (head.getUint8(12) + 1) ** 2;
  const unpacked = 16 + count * ((version === 1 ? 6 : 9) + (version >= 3 ? 4 : 3) + 7 + 3 * (bases - 1));
  // gzip ends with the number of bytes that it holds, of which it keeps 32 bits
  const held = new DataView(spz.buffer, spz.byteOffset + spz.length - 4, 4).getUint32(0, true);
  if (held !== unpacked % 2 ** 32 || unpacked > SMALL + PER_BYTE * spz.length)
    throw new ClipError(`its splat claims ${count} Gaussians (${unpacked} bytes) and holds ${held} bytes`);
}

/**
 * Which knots count how much at a time: value = Σ weights[i] · value at knots[i]; weights sum to 1.
 * Cubic: uniform Catmull-Rom (Catmull & Rom 1974), continued beyond its ends by reflection, p₋₁ = 2p₀ − p₁.
 * Before the first and after the last knot, that knot.
 * @returns {{knots: number[], weights: number[]}} four of each
 */
export function blend({ knots, interpolation }, seconds) {
  const last = knots.length - 1;
  const one = (i) => ({ knots: [i, i, i, i], weights: [1, 0, 0, 0] });
  if (last === 0) return one(0);
  const span = knots[last] - knots[0];
  if (interpolation === "hold") {
    const slack = (1e-6 * span) / last; // a time that was rounded on its way still belongs to its own knot
    let i = 0;
    while (i < last && knots[i + 1] <= seconds + slack) i++;
    return one(i);
  }
  const where = Math.min(Math.max(((seconds - knots[0]) / span) * last, 0), last);
  const i = Math.min(Math.floor(where), last - 1), f = where - i;
  if (interpolation === "linear") return { knots: [i, i + 1, i, i], weights: [1 - f, f, 0, 0] };
  const w = [
    0.5 * (-f + 2 * f ** 2 - f ** 3),
    0.5 * (2 - 5 * f ** 2 + 3 * f ** 3),
    0.5 * (f + 4 * f ** 2 - 3 * f ** 3),
    0.5 * (f ** 3 - f ** 2),
  ];
  if (i === 0) { w[1] += 2 * w[0]; w[2] -= w[0]; w[0] = 0; }
  if (i === last - 1) { w[2] += 2 * w[3]; w[1] -= w[3]; w[3] = 0; }
  return { knots: [Math.max(i - 1, 0), i, i + 1, Math.min(i + 2, last)], weights: w };
}

/**
 * What a track says at a time, [M][c] numbers; a rotation as unit quaternions xyzw, c = 4. The GPU does the same; this is
 * for tests and for small things.
 */
export function trackAt(motion, name, seconds) {
  const { channels, bits, low, high, planes } = motion.tracks[name];
  const at = blend(motion, seconds), count = motion.knots.length, steps = 2 ** bits - 1;
  const value = (c, knot, m) => low[c] + ((high[c] - low[c]) * planes[(c * count + knot) * motion.moving + m]) / steps;
  if (name === "rotation") return turnsAt(motion.moving, at, value);
  const values = new Float32Array(motion.moving * channels);
  for (let c = 0; c < channels; c++)
    for (let m = 0; m < motion.moving; m++)
      values[m * channels + c] = at.knots.reduce((sum, knot, k) => sum + at.weights[k] * value(c, knot, m), 0);
  return values;
}

/** Rotations are kept as vector parts with w ≥ 0 and blended as quaternions, each with the sign nearest to the one before. */
function turnsAt(moving, at, value) {
  const turns = new Float32Array(moving * 4);
  for (let m = 0; m < moving; m++) {
    let before = null;
    const sum = [0, 0, 0, 0];
    at.knots.forEach((knot, k) => {
      let q = [0, 1, 2].map((c) => value(c, knot, m));
      const square = q[0] ** 2 + q[1] ** 2 + q[2] ** 2;
      q = [...q.map((v) => v / Math.max(1, Math.sqrt(square))), Math.sqrt(Math.max(0, 1 - square))];
      if (before && q.reduce((dot, v, i) => dot + v * before[i], 0) < 0) q = q.map((v) => -v);
      q.forEach((v, i) => { sum[i] += at.weights[k] * v; });
      before = q;
    });
    const length = Math.hypot(...sum) || 1;
    turns.set(sum.map((v) => v / length), 4 * m);
  }
  return turns;
}

export function block(entry, body, what) {
  const { offset, length } = entry;
  if (!Number.isInteger(offset) || !Number.isInteger(length) || offset < 0 || length < 0 || offset + length > body.length)
    throw new ClipError(`it is cut short: ${body.length} bytes do not hold its ${what}`);
  return body.subarray(offset, offset + length);
}

export function whole(value, what) {
  if (!Number.isInteger(value) || value < 0) throw new ClipError(`its ${what} is ${value}, not a whole number`);
  return value;
}

function positive(value, what) {
  if (typeof value !== "number" || !(value > 0) || !Number.isFinite(value)) throw new ClipError(`its ${what} is ${value}, not a positive number`);
  return value;
}

function finite(value, what) {
  if (!Number.isFinite(value)) throw new ClipError(`its ${what} is ${value}, not a number`);
  return value;
}

export function numbers(values, count, what) {
  if (!Array.isArray(values) || values.length !== count || !values.every(Number.isFinite))
    throw new ClipError(`its ${what} is not ${count} numbers`);
  return values;
}

export function ascending(values, what) {
  if (!Array.isArray(values) || !values.length || !values.every(Number.isFinite) || values.some((v, i) => i && v <= values[i - 1]))
    throw new ClipError(`its ${what} are not in ascending order`);
  return values;
}
