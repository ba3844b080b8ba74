// The player's elements: viewport, divider, time line, buttons. Tells `act` what a person did; decides nothing itself.

import { icon } from "./icons.js";
import { SPEEDS } from "./player.js";
import { BACKGROUND_NAMES } from "./style.js";

function make(document, tag, attributes = {}, ...inside) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== null) element.setAttribute(name, value);
  element.append(...inside);
  return element;
}

/**
 * All elements by name; `root` holds them. `act` has one function per deed; without `act.useCamera` there is no such button.
 * `t` says a text in the language of whoever looks.
 */
export function buildPanel(document, act, t) {
  const el = (...parts) => make(document, ...parts);
  const named = (text) => ({ title: t(text), "aria-label": t(text) });
  const button = (sign, title, deed, kind = "") => {
    const made = el("button", { type: "button", class: kind || null, ...named(title) }, icon(document, sign));
    made.addEventListener("click", deed);
    return made;
  };
  const choice = (title, options, deed) => {
    const made = el("select", named(title), ...options.map(([value, text]) => el("option", { value }, text)));
    made.addEventListener("change", () => deed(made.value));
    return made;
  };
  const slider = (title, name, attributes, deed) => {
    const made = el("input", { type: "range", class: name, ...named(title), ...attributes });
    made.addEventListener("input", () => deed(Number(made.value)));
    return made;
  };

  const canvas = el("canvas", { "aria-hidden": "true" });
  const frame = el("div", { class: "gs4d-frame", hidden: "" });
  const left = el("div", { class: "gs4d-tag", style: "left: 8px" }), right = el("div", { class: "gs4d-tag", style: "right: 8px" });
  const divider = el("div", {
    class: "gs4d-divider", role: "slider", tabindex: "0", "aria-label": t("Divider between before and after"),
    "aria-valuemin": "0", "aria-valuemax": "100", title: t("Drag to compare: before on the left, after on the right"), hidden: "",
  });
  divider.append(el("span", {}, icon(document, "divider")));
  const say = el("div", { class: "gs4d-say", role: "status", hidden: "" });
  const port = el(
    "div",
    { class: "gs4d-port", tabindex: "0", "data-capture-wheel": "true", role: "application",
      "aria-label": t("4D scene: drag to orbit, right-drag to pan, scroll to zoom; space plays or pauses, arrow keys step frames, shift and arrow keys orbit, plus and minus zoom") },
    canvas, frame, left, right, divider, say,
  );

  const play = button("play", "Play (space)", act.toggle);
  const time = slider("Time", "gs4d-time", { min: 0, max: 1, step: "any" }, act.seek);
  const clock = el("span", { class: "gs4d-clock" });
  const back = button("back", "Previous frame (left arrow)", () => act.step(-1));
  const forward = button("forward", "Next frame (right arrow)", () => act.step(1));
  const loop = button("loop", "Loop playback", act.loop);
  const speed = choice("Speed", SPEEDS.map((s) => [String(s), `${s}×`]), (value) => act.speed(Number(value)));
  const cameras = choice("View through a captured camera", [["", t("free view")]], act.camera);
  const backgrounds = choice("Background", BACKGROUND_NAMES.map((n) => [n, t(n === "grey" ? "gray" : n)]), act.background);
  const size = slider("Splat size", "gs4d-size", { min: -2, max: 1, step: 0.05 }, (value) => act.size(2 ** value));
  const reset = button("reset", "Reset view", act.reset);
  const full = button("full", "Full screen", act.full);
  const use = act.useCamera && button("camera", "Use this camera: send this view to the node's camera output", act.useCamera, "gs4d-act");
  if (use) use.append(t("Use this camera"));
  const notes = el("div", { class: "gs4d-notes" });
  const timeline = el("div", { class: "gs4d-row" }, play, back, forward, time, clock);
  const tools = el(
    "div", { class: "gs4d-row" }, loop, speed, cameras, backgrounds, size, el("span", { class: "gs4d-room" }), ...(use ? [use] : []), reset, full,
  );
  const root = el("div", { class: "gs4d" }, port, timeline, notes, tools);
  return {
    root, port, canvas, frame, left, right, divider, say, play, time, clock, back, forward, loop, speed, cameras, backgrounds,
    size, reset, full, use, notes, timeline, tools, t,
  };
}

/** Bring the elements up to date with the player and the state. */
export function showPanel(panel, player, state) {
  const { playing, frame, frames, time, start, end } = player, { t } = panel;
  if (panel.play.dataset.playing !== String(playing)) {
    panel.play.dataset.playing = String(playing);
    panel.play.replaceChildren(icon(panel.root.ownerDocument, playing ? "pause" : "play"));
    panel.play.title = t(playing ? "Pause (space)" : "Play (space)");
    panel.play.setAttribute("aria-label", panel.play.title);
  }
  for (const part of [panel.play, panel.back, panel.forward, panel.time, panel.loop, panel.speed]) part.disabled = !player.moves;
  panel.time.min = start;
  panel.time.max = player.moves ? end : start + 1;
  panel.time.value = time;
  panel.time.style.setProperty("--fill", `${(100 * (time - start)) / (end - start || 1)}%`);
  panel.time.setAttribute("aria-valuetext", t("frame {} of {}, {} seconds", frame + 1, frames, time.toFixed(2)));
  panel.clock.textContent = `${frame + 1} / ${frames} · ${time.toFixed(2)} s`;
  panel.loop.setAttribute("aria-pressed", String(player.loop));
  panel.speed.value = String(player.speed);
  panel.cameras.value = state.lens ?? "";
  panel.backgrounds.value = state.background;
  panel.size.value = Math.log2(state.size);
  panel.size.style.setProperty("--fill", `${(100 * (Math.log2(state.size) + 2)) / 3}%`);
  panel.divider.style.left = `${100 * state.divider}%`;
  panel.divider.setAttribute("aria-valuenow", String(Math.round(100 * state.divider)));
}
