// Clips in segments that Python wrote, and where bytes come from.

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";

import { fromBytes, Unreachable, UrlBytes } from "../../../web/bytes.mjs";
import { ClipError, trackAt } from "../../../web/clip.js";
import { crc32, HELD, openClip } from "../../../web/segments.mjs";

const made = process.env.GS4D_TEST_CLIPS, path = made && join(made, "long.segments");
const bytes = path && existsSync(path) ? new Uint8Array(readFileSync(path)) : null;

/** The clip once the segment of a time is there. */
async function ready(clip, seconds) {
  const { segments } = clip;
  for (let tries = 0; tries < 2000; tries++) {
    segments.want(seconds);
    if (segments.at(seconds)) return segments.at(seconds);
    if (segments.problem) throw new Error(segments.problem);
    await new Promise((done) => setTimeout(done, 1));
  }
  throw new Error("nothing came");
}

test("Python's segments say the same here", { skip: !made && "GS4D_TEST_CLIPS names no folder: pytest tests/web/test_js.py" }, async () => {
  const clip = await openClip(fromBytes(bytes), "long"), want = JSON.parse(readFileSync(`${path}.json`, "utf8"));
  assert.ok(want.samples.length > 20);
  for (const { seconds, track, values } of want.samples) {
    const got = trackAt(await ready(clip, seconds), track, seconds);
    assert.equal(got.length, values.length);
    values.forEach((value, i) => {
      const q = 4 * (i >> 2); // q and −q are the same rotation
      const sign = track === "rotation" && [0, 1, 2, 3].reduce((dot, c) => dot + got[q + c] * values[q + c], 0) < 0 ? -1 : 1;
      assert.ok(Math.abs(sign * got[i] - value) < 2e-5, `${track} at ${seconds}: ${got[i]} is not ${value}`);
    });
  }
  assert.ok(clip.segments.held.size <= HELD && clip.segments.places.length > HELD);
  clip.segments.dispose();
  assert.equal(clip.segments.held.size, 0);
});

test("an index that lies is named", { skip: !made }, async () => {
  const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(8, true);
  const about = JSON.parse(new TextDecoder().decode(bytes.subarray(12, 12 + length)));
  const changed = (change) => {
    const copy = structuredClone(about);
    change(copy.segments, copy);
    const text = Buffer.from(JSON.stringify(copy)), head = Buffer.alloc(12);
    head.write("GS4C", 0, "latin1");
    head.writeUInt32LE(2, 4);
    head.writeUInt32LE(text.length, 8);
    return new Uint8Array(Buffer.concat([head, text, bytes.subarray(12 + length)]));
  };
  for (const [words, change] of Object.entries({
    "do not hold its segment 2": (s) => { s[1].length = 2 ** 40; },
    "do not hold its segment 3": (s) => { s[2].offset = -16; },
    "do not hold its segment 1": (s) => { s[0].length = 0; },
    "segment 2 from": (s) => s.splice(1, 1),
    "its segments end at": (s) => s.pop(),
    "0 segments": (s) => s.splice(0),
    "does not match its content": (s, about) => { about.spz = null; },
    "its splat is damaged": (s, about) => { about.spz.crc32 = 1; },
  }))
    await assert.rejects(openClip(fromBytes(changed(change)), "x"), (error) => error instanceof ClipError && error.message.startsWith("x: ") && error.message.includes(words), words);
  for (const [words, change] of Object.entries({
    "segment 2 is damaged": (s) => { s[1].length -= 3; },
    "segment 2 belongs to another scene or place": (s) => { Object.assign(s[1], { offset: s[2].offset, length: s[2].length, crc32: s[2].crc32 }); },
    "has the tracks": (s, about) => { about.tracks.pop(); },
  })) {
    const clip = await openClip(fromBytes(changed(change)), "x");
    await assert.rejects(ready(clip, 3), (error) => error.message.startsWith("x: ") && error.message.includes(words), words);
    clip.segments.dispose();
  }
});

test("checksums are those of zlib", () => {
  assert.equal(crc32(new TextEncoder().encode("123456789")), 0xcbf43926);
});

const DATA = Uint8Array.from({ length: 1000 }, (_, i) => i % 251);
/** A server in memory. */
function serving({ ranges = true, piece = 100, breaks = () => false } = {}) {
  const asked = [];
  const fetch = async (url, { headers, signal } = {}) => {
    const found = ranges && /bytes=(\d+)-(\d+)/.exec(headers?.Range ?? "");
    const from = found ? Number(found[1]) : 0, to = found ? Math.min(Number(found[2]) + 1, DATA.length) : DATA.length;
    asked.push(from);
    if (from >= DATA.length) return new Response(null, { status: 416 });
    let at = from;
    const body = new ReadableStream({
      pull(controller) {
        if (signal?.aborted || breaks(at, asked.length)) return controller.error(new TypeError("network error"));
        if (at >= to) return controller.close();
        controller.enqueue(DATA.slice(at, Math.min(at + piece, to)));
        at += piece;
      },
    });
    const more = found ? { "Content-Range": `bytes ${from}-${to - 1}/${DATA.length}` } : {};
    return new Response(body, { status: found ? 206 : 200, headers: { "Content-Length": String(to - from), ...more } });
  };
  return { fetch, asked };
}

for (const ranges of [true, false])
  test(`any part can be read, ${ranges ? "by ranges" : "from a server without ranges"}`, async () => {
    const { fetch, asked } = serving({ ranges }), source = new UrlBytes("scene", { fetch });
    for (const [offset, length] of [[0, 130], [130, 1], [500, 333], [200, 10], [990, 50], [1000, 5], [0, 1000]])
      assert.deepEqual([...(await source.read(offset, length))], [...DATA.subarray(offset, offset + length)], `${offset} + ${length}`);
    assert.equal(source.size, 1000);
    if (!ranges) assert.ok(asked.length <= 5, asked.join());
  });

for (const ranges of [true, false])
  test(`a connection that breaks is Unreachable, and the next read works (${ranges})`, async () => {
    let down = true;
    const { fetch } = serving({ ranges, breaks: (at) => down && at >= 400 }), source = new UrlBytes("scene", { fetch });
    assert.equal((await source.read(0, 200)).length, 200);
    await assert.rejects(source.read(300, 200), Unreachable);
    down = false;
    assert.deepEqual([...(await source.read(300, 200))], [...DATA.subarray(300, 500)]);
  });

test("a read that is no longer wanted ends, and the stream goes on from there", async () => {
  let give;
  const { fetch, asked } = serving({ ranges: false }), slow = async (...all) => {
    const answer = await fetch(...all), reader = answer.body.getReader();
    return new Response(new ReadableStream({
      async pull(controller) {
        await new Promise((done) => { give = done; });
        const { value, done } = await reader.read();
        if (done) controller.close();
        else controller.enqueue(value);
      },
    }, { highWaterMark: 0 }), { headers: answer.headers });
  };
  const source = new UrlBytes("scene", { fetch: slow }), abort = new AbortController();
  const tick = setInterval(() => give?.(), 1);
  assert.equal((await source.read(0, 100)).length, 100);
  clearInterval(tick);
  const unwanted = source.read(100, 300, { signal: abort.signal });
  await new Promise((done) => setTimeout(done, 5));
  abort.abort();
  await assert.rejects(unwanted, { name: "AbortError" });
  const again = setInterval(() => give?.(), 1);
  assert.deepEqual([...(await source.read(150, 100))], [...DATA.subarray(150, 250)]);
  clearInterval(again);
  assert.equal(asked.length, 1);
});

test("a server that says nothing is given up", async () => {
  const source = new UrlBytes("scene", { fetch: () => new Promise(() => {}), patience: 10 });
  await assert.rejects(source.read(0, 10), Unreachable);
});

for (const [status, kind] of [[404, ClipError], [403, ClipError], [503, Unreachable], [429, Unreachable]])
  test(`status ${status}`, async () => {
    const source = new UrlBytes("scene", { fetch: async () => new Response("no", { status }) });
    await assert.rejects(source.read(0, 10), kind);
  });
