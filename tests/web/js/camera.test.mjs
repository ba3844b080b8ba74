import assert from "node:assert/strict";
import test from "node:test";

import { captured, dolly, distance, fromLoad3d, home, lensOf, lookAt, orbit, pan, projection, toLoad3d, turn } from "../../../web/camera.js";

const close = (a, b, by = 1e-9) => a.forEach((x, i) => assert.ok(Math.abs(x - b[i]) < by, `${a} is not ${b}`));
const UP = [0, 1, 0];
const ENTRY = { width: 64, height: 48, fx: 50, fy: 60, cx: 30, cy: 25, camera_to_world: null };
const axes = (camera) => [[1, 0, 0], [0, 1, 0], [0, 0, 1]].map((v) => turn(camera.quaternion, v));

/** A captured camera that stands anywhere and leans. */
function entry(seed) {
  const camera = lookAt([3 * Math.sin(seed), 1 + seed, 3 * Math.cos(seed)], [0.1, 0.2, -0.1], [0.3 * seed, 1, 0.2], 40);
  const [r, u, b] = axes(camera), p = camera.position;
  return { ...ENTRY, camera_to_world: [r[0], u[0], b[0], p[0], r[1], u[1], b[1], p[1], r[2], u[2], b[2], p[2], 0, 0, 0, 1] };
}

/** Where a world point falls, in pixels of a captured camera, by its own matrix and by the projection of the player. */
function bothWays(e, point, wide, high) {
  const m = e.camera_to_world, d = point.map((v, i) => v - m[4 * i + 3]);
  const [x, y, z] = [0, 1, 2].map((c) => d[0] * m[c] + d[1] * m[4 + c] + d[2] * m[8 + c]);
  const own = [e.cx + (e.fx * x) / -z, e.cy - (e.fy * y) / -z];
  const camera = captured(e, [0, 0, 0]), q = camera.quaternion;
  const [vx, vy, vz] = turn([-q[0], -q[1], -q[2], q[3]], point.map((v, i) => v - camera.position[i]));
  const p = projection(camera, wide / high, e.width / e.height, 0.01, 100, lensOf(e));
  const ndc = [(p[0] * vx + p[8] * vz) / -vz, (p[5] * vy + p[9] * vz) / -vz];
  const scale = Math.min(wide / e.width, high / e.height); // the camera's frame, whole and in the middle
  const player = [(ndc[0] * wide) / 2 / scale + e.width / 2, (-ndc[1] * high) / 2 / scale + e.height / 2];
  return { own, player };
}

test("through a captured camera every point falls where it fell, in wide and in high viewports", () => {
  for (const seed of [0, 0.7, 2.1, 4.4])
    for (const [wide, high] of [[640, 480], [900, 300], [200, 500]])
      for (const point of [[0, 0, 0], [0.5, -0.3, 0.2], [-0.4, 0.6, -0.7]]) {
        const { own, player } = bothWays(entry(seed), point, wide, high);
        close(own, player, 1e-7);
      }
});

test("LOAD3D_CAMERA there and back is the same camera", () => {
  for (const seed of [0.3, 1.9, 3.5]) {
    const camera = captured(entry(seed), [0, 0, 0]), again = fromLoad3d(JSON.parse(JSON.stringify(toLoad3d(camera))));
    close(again.position, camera.position);
    close(again.target, camera.target);
    axes(again).forEach((axis, i) => close(axis, axes(camera)[i]));
    assert.ok(Math.abs(again.fov - camera.fov) < 1e-9);
  }
  assert.equal(toLoad3d(captured(entry(1), [0, 0, 0])).cameraType, "perspective");
});

test("what is no camera gives none, and one without a quaternion looks at its target", () => {
  for (const odd of [null, {}, { position: { x: 1 } }, { position: { x: 1, y: 2, z: 3 }, target: { x: 1, y: 2, z: 3 } }, { position: { x: 0, y: 0, z: "a" }, target: { x: 0, y: 0, z: 0 } }])
    assert.equal(fromLoad3d(odd), null);
  const camera = fromLoad3d({ position: { x: 0, y: 0, z: 5 }, target: { x: 0, y: 0, z: 0 }, fov: 50, zoom: 2 });
  close(turn(camera.quaternion, [0, 0, -1]), [0, 0, -1]);
  assert.ok(camera.fov < 27 && camera.fov > 26);
});

test("turning keeps the distance and the target in the middle", () => {
  let camera = captured(entry(1.2), [0, 0, 0]);
  const far = distance(camera);
  for (let i = 0; i < 40; i++) camera = orbit(camera, UP, 0.3, i % 3 ? 0.2 : -0.35);
  assert.ok(Math.abs(distance(camera) - far) < 1e-9);
  close(turn(camera.quaternion, [0, 0, -distance(camera)]).map((v, i) => v + camera.position[i]), camera.target, 1e-6);
});

test("yaw goes round the clip's up, pitch stops before the pole", () => {
  const start = lookAt([0, 0, 4], [0, 0, 0], UP, 40);
  close(orbit(start, UP, Math.PI / 2, 0).position, [4, 0, 0], 1e-9);
  const above = orbit(start, UP, 0, -10);
  assert.ok(above.position[1] > 3.99 && turn(above.quaternion, [0, 1, 0])[2] < 0);
  assert.ok(orbit(start, UP, 0, 10).position[1] < -3.99);
});

test("moving sideways carries the target along, by heights of the picture", () => {
  const start = lookAt([0, 0, 4], [0, 0, 0], UP, 90), moved = pan(start, 0.5, 0);
  close(moved.target, [-4, 0, 0]);
  close(moved.position, [-4, 0, 4]);
  close(pan(start, 0, 0.25).target, [0, 2, 0]);
});

test("coming nearer never passes the target", () => {
  let camera = lookAt([0, 0, 4], [0, 0, 0], UP, 40);
  for (let i = 0; i < 100; i++) camera = dolly(camera, 0.5);
  assert.ok(distance(camera) >= 0.00999 && camera.position[2] > 0);
  for (let i = 0; i < 100; i++) camera = dolly(camera, 2);
  assert.ok(distance(camera) <= 100.001);
});

test("the first view is the first captured camera, or the subject from the front and whole", () => {
  const clip = { cameras: [entry(0.4)], center: [0, 0, 0], radius: 1, up: UP };
  close(home(clip).position, captured(clip.cameras[0], clip.center).position);
  for (const up of [[0, 1, 0], [0, 0, -1], [0.3, -0.9, 0.1]]) {
    const view = home({ ...clip, cameras: [], center: [5, 6, 7], up });
    const upwards = turn(view.quaternion, UP).reduce((sum, v, i) => sum + v * up[i], 0);
    assert.ok(upwards > 0.9 * Math.hypot(...up));
    assert.ok(distance(view) * Math.sin((view.fov * Math.PI) / 360) > 1);
  }
});
