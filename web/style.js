// The player's looks: ComfyUI's own colours where its page defines them, calm dark ones elsewhere.

const CSS = `
.gs4d { --gs-back: var(--comfy-menu-bg, #1c1d20); --gs-field: var(--comfy-input-bg, #26282c); --gs-line: var(--border-color, #3d4045);
  --gs-text: var(--input-text, #d6d8db); --gs-quiet: var(--descrip-text, #9a9da3); --gs-accent: var(--p-primary-color, #5b9df0);
  box-sizing: border-box; display: flex; flex-direction: column; width: 100%; height: 100%; min-height: 200px; overflow: hidden;
  background: var(--gs-back); color: var(--gs-text); font: 12px/1.35 system-ui, sans-serif; border-radius: 8px; user-select: none; }
.gs4d [hidden] { display: none !important; }
.gs4d *, .gs4d *::before { box-sizing: border-box; }
.gs4d-port { position: relative; flex: 1 1 0; min-height: 120px; overflow: hidden; outline: none; cursor: grab; touch-action: none; }
.gs4d-port:active { cursor: grabbing; }
.gs4d-port canvas, .gs4d-port video { position: absolute; inset: 0; width: 100%; height: 100%; display: block; }
.gs4d-port video { object-fit: contain; background: #000; }
.gs4d-port:focus-visible::after { content: ""; position: absolute; inset: 0; border: 1px solid var(--gs-accent); pointer-events: none; }
.gs4d-frame { position: absolute; border: 1px dashed rgba(128,128,128,.55); pointer-events: none; }
.gs4d-say { position: absolute; inset: 0; display: flex; align-items: center; justify-content: center; padding: 8%; text-align: center;
  color: var(--gs-text); background: color-mix(in srgb, var(--gs-back) 82%, transparent); pointer-events: none; white-space: pre-line; }
.gs4d-say.gs4d-foot { inset: auto 0 0 0; padding: 6px 10px; }
.gs4d-tag { position: absolute; top: 8px; max-width: 42%; padding: 2px 8px; border-radius: 10px; background: rgba(20,21,24,.62); color: #eceded;
  font-size: 11px; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; pointer-events: none; }
.gs4d-divider { position: absolute; top: 0; bottom: 0; width: 24px; margin-left: -12px; cursor: ew-resize; touch-action: none; outline: none; }
.gs4d-divider::before { content: ""; position: absolute; left: 11px; top: 0; bottom: 0; width: 2px; background: rgba(255,255,255,.85); box-shadow: 0 0 3px rgba(0,0,0,.6); }
.gs4d-divider span { position: absolute; top: 50%; left: 0; width: 24px; height: 24px; margin-top: -12px; border-radius: 50%; display: grid;
  place-items: center; background: #f2f3f4; color: #2a2c30; box-shadow: 0 1px 4px rgba(0,0,0,.5); }
.gs4d-divider:focus-visible span { outline: 2px solid var(--gs-accent); }
.gs4d-row { display: flex; align-items: center; gap: 3px; padding: 5px 8px 0; flex: none; flex-wrap: wrap; }
.gs4d-row:last-child { padding-bottom: 6px; }
.gs4d button, .gs4d select { appearance: none; height: 26px; border: 1px solid transparent; border-radius: 6px; background: transparent; color: inherit;
  font: inherit; cursor: pointer; }
.gs4d button { min-width: 26px; padding: 0 5px; display: inline-flex; align-items: center; justify-content: center; gap: 5px; flex: none; }
.gs4d select { background: var(--gs-field); padding: 0 5px; max-width: 80px; text-overflow: ellipsis; }
.gs4d select option { background: #26282c; color: #d6d8db; }
.gs4d button:hover:not(:disabled), .gs4d select:hover { border-color: var(--gs-line); background: var(--gs-field); }
.gs4d button:focus-visible, .gs4d select:focus-visible, .gs4d input:focus-visible { outline: 1.5px solid var(--gs-accent); outline-offset: 1px; }
.gs4d button:disabled, .gs4d select:disabled, .gs4d input:disabled { opacity: .4; cursor: default; }
.gs4d button[aria-pressed="true"] { color: var(--gs-accent); }
.gs4d .gs4d-act { border-color: var(--gs-line); padding: 0 8px; }
.gs4d input[type=range] { appearance: none; height: 18px; margin: 0; background: transparent; cursor: pointer; min-width: 40px; accent-color: var(--gs-accent); }
.gs4d input[type=range]::-webkit-slider-runnable-track { height: 4px; border-radius: 2px; background: linear-gradient(to right, var(--gs-accent) var(--fill, 0%), var(--gs-line) var(--fill, 0%)); }
.gs4d input[type=range]::-moz-range-track { height: 4px; border-radius: 2px; background: var(--gs-line); }
.gs4d input[type=range]::-moz-range-progress { height: 4px; border-radius: 2px; background: var(--gs-accent); }
.gs4d input[type=range]::-webkit-slider-thumb { appearance: none; width: 12px; height: 12px; margin-top: -4px; border-radius: 50%; background: var(--gs-text); border: none; }
.gs4d input[type=range]::-moz-range-thumb { width: 12px; height: 12px; border-radius: 50%; background: var(--gs-text); border: none; }
.gs4d-time { flex: 1 1 90px; }
.gs4d-size { width: 52px; }
.gs4d-clock { min-width: 104px; text-align: right; font-variant-numeric: tabular-nums; color: var(--gs-quiet); white-space: nowrap; }
.gs4d-room { flex: 1; }
.gs4d-notes { padding: 4px 10px 0; color: var(--gs-quiet); font-size: 11px; flex: none; max-height: 3.9em; overflow: auto; user-select: text; }
.gs4d-notes:empty { display: none; }
.gs4d:fullscreen { border-radius: 0; }
`;
const BACKGROUNDS = {
  black: "#000", white: "#fff", grey: "#808080",
  checker: "repeating-conic-gradient(#8a8a8a 0% 25%, #b4b4b4 0% 50%) 0 0 / 24px 24px",
  transparent: "transparent",
};
export const BACKGROUND_NAMES = ["scene", ...Object.keys(BACKGROUNDS)];

/** CSS background; `scene` [r, g, b] 0..1 is the clip's own. */
export function background(name, scene) {
  return BACKGROUNDS[name] ?? `rgb(${scene.map((v) => Math.round(255 * Math.min(Math.max(v, 0), 1))).join(" ")})`;
}

/** Put the style sheet into the document, or into the shadow root, once. */
export function dress(document, root = document) {
  if (root.getElementById("gs4d-style")) return;
  const sheet = document.createElement("style");
  sheet.id = "gs4d-style";
  sheet.textContent = CSS;
  if (root.head) root.head.append(sheet);
  else root.prepend(sheet); // before the host's own, which may change it
}
