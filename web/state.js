// How a scene is looked at, as plain data for JSON: what it is at first, what is kept of it, what is taken back.

import { fromLoad3d, toLoad3d } from "./camera.js";
import { BACKGROUND_NAMES } from "./style.js";

export const START = { camera: null, lens: null, about: null, time: 0, speed: 1, loop: true, background: "scene", divider: 0.5, size: 1 };

/** What is to be kept of a state and of its player. */
export function keep({ camera, ...rest }, { time, speed, loop }) {
  return { ...rest, camera: camera && toLoad3d(camera), time, speed, loop };
}

/** Take what `keep` gave into the state and the player; anything missing or odd stays as it is. */
export function restore(state, player, saved) {
  const number = (value, low, high, other) => (Number.isFinite(value) ? Math.min(Math.max(value, low), high) : other);
  state.camera = (saved.camera && fromLoad3d(saved.camera)) || state.camera;
  state.about = saved.about ?? state.about;
  state.lens = typeof saved.lens === "string" ? saved.lens : null;
  state.background = BACKGROUND_NAMES.includes(saved.background) ? saved.background : state.background;
  state.divider = number(saved.divider, 0, 1, state.divider);
  state.size = number(saved.size, 0.25, 2, state.size);
  state.time = number(saved.time, -1e9, 1e9, state.time);
  player.loop = saved.loop ?? player.loop;
  player.setSpeed(number(saved.speed, 0.1, 4, player.speed));
}

/** Whether a kept view was of the same subject: its middle and extent are about the same. */
export function sameSubject(about, clip) {
  if (!about || !Array.isArray(about.center) || !(about.radius > 0)) return false;
  const away = Math.hypot(...clip.center.map((v, i) => v - about.center[i]));
  return away < 0.5 * Math.max(clip.radius, about.radius) && Math.abs(Math.log(clip.radius / about.radius)) < Math.LN2;
}
