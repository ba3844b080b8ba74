// Player files in segments (version 2): what is played is loaded when it is needed, the next segment ahead of it, and few stay.

import { Unreachable } from "./bytes.mjs";
import { ClipError, contentOf, explained, readClip, readHeader, readMotion } from "./clip.js";

export { fromBytes, UrlBytes } from "./bytes.mjs";

const FIRST = 1 << 16; // bytes that are asked for first; most headers fit
const LARGEST_HEADER = 1 << 26, LARGEST_SEGMENT = 2 ** 31, MOST = 100_000;
const SLACK = 1e-6; // of a border's seconds
export const HELD = 4; // segments in memory: the one that plays, the next one, and two that were played
const SOONEST = 500, LATEST = 8000; // milliseconds before another try
export const LOST = "The connection was interrupted; trying again …";

/**
 * Open a clip of either version.
 * @param {{size: number|null, read: Function, close: Function}} source see bytes.mjs
 * @param {string} name what messages call it
 * @returns {Promise<object>} as `readClip`; `segments` is null or loads the motion
 * @throws {ClipError|Unreachable}
 */
export async function openClip(source, name = "the clip") {
  let head = await source.read(0, FIRST);
  const length = head.length < 12 ? 0 : new DataView(head.buffer, head.byteOffset).getUint32(8, true);
  const version = head.length < 12 ? 0 : new DataView(head.buffer, head.byteOffset).getUint32(4, true);
  if (version !== 2) {
    if (head.length === FIRST) head = joined(head, await source.read(FIRST, (source.size ?? LARGEST_SEGMENT) - FIRST));
    source.close();
    return { ...(await readClip(head, name)), segments: null };
  }
  if (12 + length > head.length && head.length === FIRST && length <= LARGEST_HEADER) head = joined(head, await source.read(FIRST, 12 + length - FIRST));
  const { about, start } = readHeader(head, name);
  return explained(name, async () => {
    const { offset, length: bytes, crc32: sum } = about.spz;
    room("splat", offset, bytes, source.size === null ? Infinity : source.size - start);
    const spz = await source.read(start + offset, bytes);
    if (spz.length < bytes) throw new ClipError(`it is cut short: its splat has ${spz.length} of ${bytes} bytes`);
    if (crc32(spz) !== sum) throw new ClipError("its splat is damaged");
    const clip = await contentOf(about, spz.slice());
    return { ...clip, segments: new Segments(about, clip, source, start, name) };
  });
}

/** The motion of a clip in segments. `want` says what is needed; `onChange` is called when something has come, or failed. */
export class Segments {
  constructor(about, clip, source, start, name, { soonest = SOONEST } = {}) {
    this.source = source;
    this.start = start;
    this.name = name;
    this.scene = String(about.scene);
    this.moving = clip.moving;
    this.tracks = about.tracks.map(String);
    this.places = placesOf(about, clip, source.size === null ? Infinity : source.size - start);
    this.held = new Map(); // index → motion, the one used last at the end
    this.failed = new Map(); // index → sentence
    this.wanted = [];
    this.loading = null; // {index, abort}
    this.lost = false; // the connection, since the last segment that came
    this.soonest = soonest;
    this.delay = soonest;
    this.wake = () => {};
    this.onChange = () => {};
    this.loads = 0; // segments that came so far
    this.closed = false;
  }

  /** Number of the segment of a time; at a border, of the one that begins there. */
  indexAt(seconds) {
    const slack = SLACK * (1 + Math.abs(seconds));
    let low = 0, high = this.places.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.places[middle].start <= seconds + slack) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  /** The motion around a time, or null where it is not there yet. */
  at(seconds) {
    const index = this.indexAt(seconds), motion = this.held.get(index) ?? null;
    if (motion) {
      this.held.delete(index);
      this.held.set(index, motion);
    }
    return motion;
  }

  /** Load what a time needs, and the segment after it, after the last one the first. */
  want(seconds) {
    if (this.closed) return;
    const current = this.indexAt(seconds), next = (current + 1) % this.places.length;
    if (current !== this.wanted[0]) {
      this.failed.delete(current);
      this.wanted = [...new Set([current, next])];
      this.wake();
    }
    const { loading } = this;
    if (loading && loading.index !== current && !this.held.has(current) && !this.failed.has(current)) loading.abort.abort();
    this.#work();
  }

  /** Why the segment that is wanted is not there; empty where it is, or is on its way. */
  get problem() {
    const [current] = this.wanted;
    if (current === undefined || this.held.has(current)) return "";
    return this.failed.get(current) ?? (this.lost ? LOST : "");
  }

  async #work() {
    if (this.working) return;
    this.working = true;
    try {
      for (let index = this.#missing(); index !== undefined && !this.closed; index = this.#missing()) await this.#try(index);
    } finally {
      this.working = false;
    }
  }

  #missing() { return this.wanted.find((index) => !this.held.has(index) && !this.failed.has(index)); }

  async #try(index) {
    const abort = new AbortController();
    this.loading = { index, abort };
    try {
      const motion = await this.#load(index, abort.signal);
      if (this.closed) return;
      this.#hold(index, motion);
      [this.lost, this.delay] = [false, this.soonest];
    } catch (error) {
      if (abort.signal.aborted || this.closed) return;
      this.lost = error instanceof Unreachable;
      if (!this.lost) this.failed.set(index, error instanceof ClipError ? error.message : String(error?.message ?? error));
    } finally {
      this.loading = null;
    }
    this.onChange();
    if (this.lost) await this.#pause();
  }

  async #load(index, signal) {
    const { offset, length } = this.places[index];
    const read = async (fresh) => {
      const bytes = await this.source.read(this.start + offset, length, { signal, fresh });
      return explained(this.name, () => decodeSegment(bytes, index, this, signal));
    };
    try {
      return await read(false);
    } catch (error) {
      // what the browser kept, or what came, may be damaged: once more, from the server
      if (!(error instanceof ClipError) || signal.aborted) throw error;
      return read(true);
    }
  }

  #hold(index, motion) {
    this.held.set(index, motion);
    this.loads += 1;
    for (const old of [...this.held.keys()]) {
      if (this.held.size <= HELD) break;
      if (!this.wanted.includes(old)) this.held.delete(old);
    }
  }

  /** Wait before another try: longer each time, but not once the connection is back or another segment is wanted. */
  #pause() {
    return new Promise((done) => {
      const on = () => {
        clearTimeout(timer);
        globalThis.removeEventListener?.("online", on);
        this.wake = () => {};
        done();
      };
      const timer = setTimeout(on, this.delay);
      this.delay = Math.min(2 * this.delay, LATEST);
      globalThis.addEventListener?.("online", on);
      this.wake = on;
    });
  }

  /** Nothing more is wanted, and nothing is kept. */
  dispose() {
    this.closed = true;
    this.loading?.abort.abort();
    this.wake();
    this.held.clear();
    this.source.close();
  }
}

/** The motion in a segment's bytes. */
async function decodeSegment(bytes, index, { places, scene, moving, tracks }, signal) {
  const place = places[index], called = `segment ${index + 1}`;
  if (bytes.length !== place.length) throw new ClipError(`it is cut short: ${called} has ${bytes.length} of ${place.length} bytes`);
  const { about, start } = segmentHeader(bytes, called);
  if (about.scene !== scene || about.segment !== index)
    throw new ClipError(`${called} belongs to another scene or place`);
  if (crc32(bytes) !== place.crc32) throw new ClipError(`${called} is damaged`);
  const motion = await readMotion(about.motion, bytes.subarray(start), moving, {
    isSegment: true,
    breathe: async () => {
      // the page goes on playing meanwhile
      await new Promise((done) => setTimeout(done));
      signal?.throwIfAborted();
    },
  });
  const names = Object.keys(motion.tracks);
  if (names.length !== tracks.length || !tracks.every((track) => names.includes(track)))
    throw new ClipError(`${called} has the tracks ${names.join(", ")}, and the header names ${tracks.join(", ").slice(0, 200)}`);
  const { knots } = motion, late = motion.interpolation === "hold" ? 0 : Math.abs(knots.at(-1) - place.end);
  if (Math.max(Math.abs(knots[0] - place.start), late) > SLACK * (1 + Math.abs(place.end)))
    throw new ClipError(`the knots of ${called} go from ${knots[0]} to ${knots.at(-1)} seconds, and the index says ${place.start} to ${place.end}`);
  return motion;
}

function segmentHeader(bytes, called) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length >= 12 && view.getUint32(0, true) === 0x53345347 && view.getUint32(4, true) === 2 && 12 + view.getUint32(8, true) <= bytes.length)
    try {
      const start = 12 + view.getUint32(8, true);
      const about = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes.subarray(12, start)));
      if (about && typeof about === "object") return { about, start };
    } catch {
      // said below
    }
  throw new ClipError(`${called} is damaged`);
}

function placesOf({ segments }, { times, moving }, space) {
  if (!Array.isArray(segments) || !segments.length || segments.length > MOST || !moving)
    throw new ClipError(`its index has ${segments?.length} segments for ${moving} moving Gaussians`);
  let border = times[0];
  const near = (a, b) => Math.abs(a - b) <= SLACK * (1 + Math.abs(b));
  for (const [i, { start, end, offset, length }] of segments.entries()) {
    room(`segment ${i + 1}`, offset, length, space);
    if (!near(start, border) || !(start < end) || !Number.isFinite(end))
      throw new ClipError(`its index has segment ${i + 1} from ${start} to ${end} seconds after one that ends at ${border}`);
    border = end;
  }
  if (!near(border, times.at(-1))) throw new ClipError(`its segments end at ${border} seconds, and its frames at ${times.at(-1)}`);
  return segments.map(({ start, end, offset, length, crc32: sum }) => ({ start, end, offset, length, crc32: sum }));
}

function room(what, offset, length, space) {
  const fits = Number.isSafeInteger(offset) && Number.isSafeInteger(length) && offset >= 0 && length > 0 && length <= LARGEST_SEGMENT;
  if (!fits || offset + length > space) throw new ClipError(`it is cut short: ${Math.max(space, 0)} bytes do not hold its ${what} at ${offset} + ${length}`);
}

const TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1;
  return n;
});

/** CRC-32 as zlib computes it. */
export function crc32(bytes) {
  let sum = ~0;
  for (let i = 0; i < bytes.length; i++) sum = TABLE[(sum ^ bytes[i]) & 255] ^ (sum >>> 8);
  return ~sum >>> 0;
}

function joined(a, b) {
  const bytes = new Uint8Array(a.length + b.length);
  bytes.set(a);
  bytes.set(b, a.length);
  return bytes;
}
