// Where a player file's bytes come from: memory, or a server that is asked for the parts that are needed.

import { ClipError } from "./clip.js";

// milliseconds without a byte after which a connection counts as lost
const PATIENCE = 20_000;
const SILENT = "The server of this scene does not respond.";
const REFUSED = (status) => `The scene's file cannot be read (${status}).`;

/** The connection failed: trying again later may help. */
export class Unreachable extends Error {}

/** Bytes in memory. */
export function fromBytes(bytes) {
  return {
    size: bytes.length,
    read: async (offset, length) => bytes.subarray(offset, offset + length),
    close() {},
  };
}

/**
 * A file on a server: HTTP range requests where the server takes them, else its one stream, read on and begun anew for what lies
 * before it. No more is kept than what was asked for.
 */
export class UrlBytes {
  /**
   * @param {string|URL} url
   * @param {{fetch?: typeof fetch, patience?: number, signal?: AbortSignal, lost?: string, cut?: string, missing?: string,
   *   refused?: (status: string) => string}} options `signal`: of reads without one of their own; sentences for a server that
   *   does not respond, a connection that ends, a file that is not there, and any other answer
   */
  constructor(url, { fetch = globalThis.fetch.bind(globalThis), patience = PATIENCE, signal, lost = SILENT, cut = lost, missing = "", refused = REFUSED } = {}) {
    Object.assign(this, { signal, lost, cut, missing, refused });
    this.url = url;
    this.fetch = fetch;
    this.patience = patience;
    this.size = null; // bytes of the file, once a server has said so
    this.takesRanges = true;
    this.stream = null; // {reader, at, rest}: of a server without ranges
    this.turn = Promise.resolve(); // one reads from the stream at a time
  }

  /**
   * @param {number} offset  @param {number} length bytes; fewer come at the end of the file
   * @param {{signal?: AbortSignal, fresh?: boolean}} options `fresh`: past the browser's cache
   * @returns {Promise<Uint8Array>}
   * @throws {Unreachable} the connection failed; {ClipError} the server refuses
   */
  async read(offset, length, { signal = this.signal, fresh = false } = {}) {
    if (this.takesRanges) {
      const answer = await this.#ask({ Range: `bytes=${offset}-${offset + length - 1}` }, signal, fresh);
      if (answer.status === 206) return this.#part(answer, offset, length, signal);
      if (answer.status === 416) {
        answer.body?.cancel();
        return new Uint8Array(0);
      }
      // the whole file comes
      this.takesRanges = false;
      this.size = Number(answer.headers.get("Content-Length")) || null;
      this.stream = { reader: answer.body.getReader(), at: 0, rest: null };
    }
    const mine = this.turn.then(() => this.#onward(offset, length, signal));
    this.turn = mine.catch(() => {});
    return mine;
  }

  async #ask(headers, signal, fresh) {
    let answer;
    try {
      answer = await this.#soon(this.fetch(this.url, { headers, signal, cache: fresh ? "reload" : "default" }));
    } catch (error) {
      throw failed(error, signal, this.lost);
    }
    if (answer.ok || answer.status === 416) return answer;
    answer.body?.cancel();
    if (answer.status === 404 && this.missing) throw new ClipError(this.missing);
    const status = `${answer.status} ${answer.statusText}`.trim();
    if (answer.status >= 500 || answer.status === 408 || answer.status === 429) throw new Unreachable(this.refused(status));
    throw new ClipError(this.refused(status));
  }

  async #part(answer, offset, length, signal) {
    const [, start, total] = /^bytes (\d+)-\d+\/(\d+|\*)/.exec(answer.headers.get("Content-Range") ?? "") ?? [];
    if (start !== undefined && Number(start) !== offset) {
      answer.body?.cancel();
      throw new ClipError("the server sends other bytes than it was asked for");
    }
    if (total !== undefined && total !== "*") this.size = Number(total);
    const wanted = this.size === null ? length : Math.max(0, Math.min(length, this.size - offset));
    const stream = { reader: answer.body.getReader(), at: offset, rest: null };
    try {
      const bytes = await this.#take(stream, wanted, signal);
      // a connection may end early without an error
      if (bytes.length < wanted && this.size !== null) throw new Unreachable(this.cut);
      return bytes;
    } finally {
      stream.reader.cancel().catch(() => {});
    }
  }

  /** From the one stream of a server without ranges. */
  async #onward(offset, length, signal) {
    try {
      if (!this.stream || this.stream.at > offset) {
        this.#drop();
        // without the signal, which would end the stream for later reads too
        const answer = await this.#ask({}, undefined, false);
        this.stream = { reader: answer.body.getReader(), at: 0, rest: null };
      }
      const { stream } = this;
      while (stream.at < offset) if (!(await this.#skip(stream, offset, signal))) return new Uint8Array(0);
      const bytes = await this.#take(stream, length, signal);
      if (bytes.length < length && this.size !== null && stream.at < this.size) throw new Unreachable(this.cut);
      return bytes;
    } catch (error) {
      // what was asked for is no longer wanted: the stream goes on from where it is
      if (!signal?.aborted) this.#drop();
      throw error;
    }
  }

  async #skip(stream, offset, signal) {
    const part = stream.rest ?? (await this.#next(stream, signal));
    if (!part) return false;
    const many = Math.min(part.length, offset - stream.at);
    stream.at += many;
    stream.rest = many < part.length ? part.subarray(many) : null;
    return true;
  }

  async #take(stream, length, signal) {
    const parts = [];
    let filled = 0;
    const begun = stream.at;
    while (filled < length) {
      let part;
      try {
        part = stream.rest ?? (await this.#next(stream, signal));
      } catch (error) {
        // given back, so that the same bytes can be asked for again
        if (parts.length) [stream.rest, stream.at] = [joined(parts, filled, stream.rest), begun];
        throw error;
      }
      if (!part) break;
      const many = Math.min(part.length, length - filled);
      parts.push(part.subarray(0, many));
      filled += many;
      stream.at += many;
      stream.rest = many < part.length ? part.subarray(many) : null;
    }
    return joined(parts, filled);
  }

  async #next(stream, signal) {
    if (signal?.aborted) throw failed(null, signal);
    try {
      // a read that is given up keeps its turn: its bytes are the next ones
      stream.pending ??= stream.reader.read();
      const { value, done } = await this.#soon(Promise.race([stream.pending, aborted(signal)]));
      stream.pending = null;
      return done ? null : value;
    } catch (error) {
      throw failed(error, signal, this.cut);
    }
  }

  /** The promise, or Unreachable where it takes too long. */
  async #soon(promise) {
    let timer;
    const late = new Promise((_, reject) => { timer = setTimeout(() => reject(new Unreachable(this.lost)), this.patience); });
    try {
      return await Promise.race([promise, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  #drop() {
    this.stream?.reader.cancel().catch(() => {});
    this.stream = null;
  }

  /** Nothing more is wanted. */
  close() { this.#drop(); }
}

function joined(parts, length, rest = null) {
  if (parts.length === 1 && !rest) return parts[0];
  const bytes = new Uint8Array(length + (rest?.length ?? 0));
  let at = 0;
  for (const part of rest ? [...parts, rest] : parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

function aborted(signal) {
  return new Promise((_, reject) => signal?.addEventListener("abort", () => reject(new DOMException("", "AbortError")), { once: true }));
}

function failed(error, signal, lost = SILENT) {
  if (signal?.aborted) return new DOMException("no longer wanted", "AbortError");
  return error instanceof ClipError ? error : new Unreachable(error instanceof Unreachable ? error.message : lost);
}
