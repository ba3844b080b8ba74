import assert from "node:assert/strict";
import test from "node:test";

import { nearest, newest, Pace, Player, remembered } from "../../../web/player.js";

const MOMENTS = [0, 0.25, 0.5, 0.75];
const ready = (times = MOMENTS, fps = 4) => {
  const player = new Player(() => { player.calls = (player.calls ?? 0) + 1; });
  player.setMoments(times, fps);
  return player;
};
const run = (player, seconds, step = 0.05, from = 100) => {
  for (let t = 0; t <= seconds + 1e-9; t += step) player.tick(from + t);
};

test("it plays at its own rate, and at others", () => {
  for (const [speed, after] of [[1, 0.5], [0.5, 0.25], [0.1, 0.05]]) {
    const player = ready();
    player.setSpeed(speed);
    player.play();
    run(player, 0.5);
    assert.ok(Math.abs(player.time - after) < 1e-9, `${speed}: ${player.time}`);
  }
});

test("a looping round keeps the last moment as long as any other", () => {
  const player = ready();
  player.play();
  run(player, 0.9);
  assert.equal(player.time, 0.75);
  assert.equal(player.frame, 3);
  player.tick(100.9 + 0.2);
  assert.ok(Math.abs(player.time - 0.1) < 1e-9);
  assert.ok(player.playing);
});

test("without looping it stops at the end, and begins anew when asked to play", () => {
  const player = ready();
  player.setLoop(false);
  player.play();
  run(player, 2);
  assert.deepEqual([player.time, player.playing], [0.75, false]);
  player.play();
  assert.deepEqual([player.time, player.playing], [0, true]);
});

test("scrubbing stays within the moments, between them too, and play goes on from there", () => {
  const player = ready();
  player.seek(9);
  assert.equal(player.time, 0.75);
  player.seek(-9);
  assert.equal(player.time, 0);
  player.seek(NaN);
  assert.equal(player.time, 0);
  player.seek(0.3);
  assert.deepEqual([player.time, player.frame], [0.3, 1]);
  player.play();
  run(player, 0.1);
  assert.ok(Math.abs(player.time - 0.4) < 1e-9);
});

test("steps go from moment to moment, round when looping, and stop the clock", () => {
  const player = ready();
  player.play();
  player.step(1);
  assert.deepEqual([player.time, player.playing], [0.25, false]);
  player.step(-2);
  assert.equal(player.time, 0.75);
  player.setLoop(false);
  player.step(1);
  assert.equal(player.time, 0.75);
});

test("a tab that slept does not jump", () => {
  const player = ready([0, 10], 1);
  player.play();
  player.tick(1);
  player.tick(5000);
  assert.ok(player.time <= 0.25);
});

test("one moment does not play", () => {
  const player = ready([2], 24);
  player.play();
  assert.deepEqual([player.playing, player.time, player.frame, player.tick(3)], [false, 2, 0, false]);
});

test("whoever listens is told once about each change, and not about none", () => {
  const player = ready();
  player.calls = 0;
  player.pause();
  assert.equal(player.calls, 0);
  player.play();
  player.play();
  player.pause();
  player.seek(0.5);
  assert.equal(player.calls, 3);
});

test("speed keeps within 0.1 and 4", () => {
  const player = ready();
  for (const [asked, got] of [[9, 4], [0.01, 0.1], [-3, 0.1], [NaN, 0.1], [2, 2]]) {
    player.setSpeed(asked);
    assert.equal(player.speed, got);
  }
});

test("the nearest of unevenly spaced moments", () => {
  const times = [0, 0.1, 0.5, 2];
  for (const [seconds, index] of [[-1, 0], [0.04, 0], [0.06, 1], [0.31, 2], [1.2, 2], [1.3, 3], [9, 3]])
    assert.equal(nearest(times, seconds), index, String(seconds));
  assert.equal(nearest([7], 0), 0);
});

test("the newest request wins, whichever ends first, and older errors are not told", async () => {
  const request = newest(), ends = [];
  const slow = request(() => new Promise((done) => ends.push(() => done("slow"))));
  const failing = request(() => new Promise((_, fail) => ends.push(() => fail(new Error("old")))));
  const seen = [];
  const quick = request(async (stillWanted) => { seen.push(stillWanted()); return "quick"; });
  assert.equal(await quick, "quick");
  ends.forEach((end) => end());
  assert.deepEqual([await slow, await failing], [undefined, undefined]);
  assert.deepEqual(seen, [true]);
  await assert.rejects(request(async () => { throw new Error("new"); }), /new/);
});

test("whatever stands in a graph's file, what is remembered has its shape", () => {
  const file = { filename: "a.gs4dclip", subfolder: "gs4d", type: "temp" };
  for (const odd of [undefined, null, "text", 7, [], {}, { files: null, movies: "x", notes: 3 }, { files: [null, 1, {}], notes: [{}] }])
    assert.deepEqual([remembered(odd).files, remembered(odd).movies, remembered(odd).notes], [[], [], []]);
  const whole = { files: [file], movies: [file], notes: ["said"], view: { time: 1 } };
  assert.deepEqual(remembered(whole), whole);
});

test("after a slow frame a player rests for two, after a fast one not at all", () => {
  const pace = new Pace();
  pace.begin(1000);
  pace.finish(1200);
  assert.ok(pace.rests(1599) && !pace.rests(1600));
  pace.finish(1700); // nothing was begun
  assert.equal(pace.took, 200);
  pace.begin(2000);
  pace.finish(2016);
  assert.ok(!pace.rests(2017));
});
