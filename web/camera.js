// The viewer's camera: where it is, how a hand moves it, and ComfyUI's LOAD3D_CAMERA. Knows no page and no GPU.
// World: x right, y up, z back. A camera: position, target (what it turns about), quaternion xyzw (it looks along its
// own −z, its y is up) and fov, the vertical field of view in degrees.

const STEEPEST = 0.02; // radians that stay between the line of sight and the pole
const add = (a, b, s = 1) => a.map((x, i) => x + s * b[i]);
const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const length = (a) => Math.hypot(...a);
const unit = (a) => { const l = length(a) || 1; return a.map((x) => x / l); };
const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];

/** q ⊗ p, both xyzw. */
export function multiply([ax, ay, az, aw], [bx, by, bz, bw]) {
  return [
    aw * bx + ax * bw + ay * bz - az * by,
    aw * by - ax * bz + ay * bw + az * bx,
    aw * bz + ax * by - ay * bx + az * bw,
    aw * bw - ax * bx - ay * by - az * bz,
  ];
}

/** A vector turned by a unit quaternion. */
export function turn(q, v) {
  const t = cross(q, v).map((x) => 2 * x);
  return add(add(v, t, q[3]), cross(q, t));
}

const about = (axis, angle) => [...axis.map((x) => x * Math.sin(angle / 2)), Math.cos(angle / 2)];

/** Unit quaternion of a rotation whose columns are right, up and back. */
export function fromAxes(right, up, back) {
  const [m00, m10, m20] = right, [m01, m11, m21] = up, [m02, m12, m22] = back, trace = m00 + m11 + m22;
  let q;
  if (trace > 0) q = [m21 - m12, m02 - m20, m10 - m01, 1 + trace];
  else if (m00 > m11 && m00 > m22) q = [1 + m00 - m11 - m22, m01 + m10, m02 + m20, m21 - m12];
  else if (m11 > m22) q = [m01 + m10, 1 + m11 - m00 - m22, m12 + m21, m02 - m20];
  else q = [m02 + m20, m12 + m21, 1 + m22 - m00 - m11, m10 - m01];
  const l = Math.hypot(...q);
  return q.map((x) => x / l);
}

/** A camera at `position` that looks at `target` with `up` upwards. */
export function lookAt(position, target, up, fov) {
  const back = unit(add(position, target, -1));
  let right = cross(up, back);
  if (length(right) < 1e-6) right = cross(Math.abs(back[0]) < 0.9 ? [1, 0, 0] : [0, 1, 0], back);
  right = unit(right);
  return { position, target, quaternion: fromAxes(right, cross(back, right), back), fov };
}

/** The view of a captured camera (an entry of a clip's header); it turns about the point of its axis nearest to `center`. */
export function captured(entry, center) {
  const m = entry.camera_to_world, column = (i) => unit([m[i], m[4 + i], m[8 + i]]);
  const position = [m[3], m[7], m[11]], back = column(2);
  const depth = Math.max(-dot(add(center, position, -1), back), 1e-3);
  return {
    position,
    target: add(position, back, -depth),
    quaternion: fromAxes(column(0), column(1), back),
    fov: (360 / Math.PI) * Math.atan(entry.height / (2 * entry.fy)),
  };
}

/** The view to begin with, and to come back to: the first captured camera, else the subject from the front. */
export function home(clip) {
  if (clip.cameras.length) return captured(clip.cameras[0], clip.center);
  const up = unit(clip.up), side = Math.abs(up[2]) < 0.9 ? [0, 0, 1] : [0, 1, 0];
  const away = unit(add(side, up, -dot(side, up))), fov = 40;
  const far = (1.15 * clip.radius) / Math.sin((fov * Math.PI) / 360);
  return lookAt(add(add(clip.center, away, far), up, 0.15 * far), [...clip.center], up, fov);
}

/** Turn about the target: `yaw` about `up`, `pitch` about the camera's own right; a camera that leans keeps leaning. */
export function orbit(camera, up, yaw, pitch) {
  const axis = unit(up), right = turn(camera.quaternion, [1, 0, 0]), ahead = turn(camera.quaternion, [0, 0, -1]);
  // stop before the pole, where yaw would spin the picture
  const above = Math.asin(Math.max(-1, Math.min(1, dot(ahead, axis))));
  const most = Math.PI / 2 - STEEPEST;
  const upright = dot(turn(camera.quaternion, [0, 1, 0]), axis) >= 0 ? 1 : -1;
  const to = Math.max(Math.min(above + upright * pitch, Math.max(most, above)), Math.min(-most, above));
  const q = multiply(about(axis, yaw * upright), about(right, upright * (to - above)));
  return {
    ...camera,
    position: add(camera.target, turn(q, add(camera.position, camera.target, -1))),
    quaternion: normalised(multiply(q, camera.quaternion)),
  };
}

const normalised = (q) => { const l = Math.hypot(...q) || 1; return q.map((x) => x / l); };

/** Move sideways: `x`, `y` in heights of the picture at the target's depth. */
export function pan(camera, x, y) {
  const high = 2 * distance(camera) * Math.tan((camera.fov * Math.PI) / 360);
  const by = add(turn(camera.quaternion, [1, 0, 0]).map((v) => v * -x * high), turn(camera.quaternion, [0, 1, 0]), y * high);
  return { ...camera, position: add(camera.position, by), target: add(camera.target, by) };
}

/** Come nearer (factor < 1) or go away; never through the target nor out of sight of it. */
export function dolly(camera, factor, radius = 1) {
  const offset = add(camera.position, camera.target, -1), far = length(offset);
  const to = Math.min(Math.max(far * factor, 0.01 * radius), Math.max(100 * radius, far));
  return { ...camera, position: add(camera.target, offset, to / far) };
}

export const distance = (camera) => length(add(camera.position, camera.target, -1));

/** ComfyUI's LOAD3D_CAMERA as a plain object. */
export function toLoad3d(camera) {
  const point = (v, names = ["x", "y", "z"]) => Object.fromEntries(names.map((n, i) => [n, v[i]]));
  return {
    position: point(camera.position), target: point(camera.target),
    quaternion: point(camera.quaternion, ["x", "y", "z", "w"]),
    fov: camera.fov, zoom: 1, cameraType: "perspective",
  };
}

/** The camera of a LOAD3D_CAMERA object, or null where it is none. */
export function fromLoad3d(given) {
  const list = (v, names) => names.map((n) => Number(v?.[n]));
  const position = list(given?.position, ["x", "y", "z"]), target = list(given?.target, ["x", "y", "z"]);
  const zoom = Number(given?.zoom ?? 1) || 1, q = list(given?.quaternion, ["x", "y", "z", "w"]), wide = Number(given?.fov) || 35;
  const fov = zoom === 1 ? wide : (360 / Math.PI) * Math.atan(Math.tan((wide * Math.PI) / 360) / zoom);
  if (![...position, ...target, fov].every(Number.isFinite) || !(fov > 0 && fov < 180)) return null;
  if (!(length(add(position, target, -1)) > 0)) return null; // it could neither turn nor come nearer
  if (!q.every(Number.isFinite) || Math.hypot(...q) < 1e-6) return lookAt(position, target, [0, 1, 0], fov);
  return { position, target, quaternion: normalised(q), fov };
}

/**
 * Projection [16, column-major] of a picture that shows at least the camera's own frame of `aspect` (width / height),
 * as high as the viewport where that is wide enough. `lens` {x, y, stretch} is a captured camera's: its principal point
 * off the middle, in halves of the picture (right, up), and fx / fy.
 */
export function projection(camera, viewport, aspect, near, far, lens = null) {
  const shrink = Math.min(1, viewport / aspect), focal = shrink / Math.tan((camera.fov * Math.PI) / 360);
  const { x = 0, y = 0, stretch = 1 } = lens ?? {};
  const m = new Array(16).fill(0);
  m[0] = (focal / viewport) * stretch;
  m[5] = focal;
  m[8] = -x * ((aspect * shrink) / viewport);
  m[9] = -y * shrink;
  m[10] = (far + near) / (near - far);
  m[11] = -1;
  m[14] = (2 * far * near) / (near - far);
  return m;
}

/** Of a captured camera, what `projection` calls lens. */
export const lensOf = (entry) => ({
  x: (2 * entry.cx) / entry.width - 1,
  y: 1 - (2 * entry.cy) / entry.height,
  stretch: entry.fx / entry.fy,
});
