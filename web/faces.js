// Faces of the pack's nodes: where a number stands for a word ("steps (0 = auto)"), the canvas shows the word, and settings that
// few need are folded away. What the graph holds of a widget, and in which order, stays as it is.

import { grow, language, onNodes, setting, wired } from "./host.js";
import { varySeed } from "./seeds.js";
import { translator } from "./words.js";

const CAPTION = /^(.*?)\s*[(（]([^()（）]*=[^()（）]*)[)）]$/u; // "steps (0 = auto)", in any language
const ENTRY = /^\s*(-?\d+)\s*=\s*(.+?)\s*$/u;

/** A caption in its parts: the name, and the words by their numbers. Null where it has no words. */
export function captionParts(caption) {
  const [, name, inside] = CAPTION.exec(caption ?? "") ?? [];
  const words = (inside ?? "").split(/[,，、]/u).map((entry) => ENTRY.exec(entry));
  if (!name || !words.every(Boolean)) return null;
  return { name, words: new Map(words.map(([, number, word]) => [Number(number), word])) };
}

/** The digits of the number that a typed text stands for, or the text. */
export function digitsOf(text, words) {
  const typed = String(text).trim().toLowerCase();
  for (const [number, word] of words) if (word.toLowerCase() === typed) return String(number);
  return text;
}

/**
 * Have a number widget show its words. The Vue renderer has nothing that decides what a number is shown as: there, the caption
 * tells what the number means.
 */
function showWords(widget) {
  const words = captionParts(widget.label)?.words;
  if (!words || typeof widget.value !== "number") return;
  const drawn = (name, replaced) => {
    const inherited = Object.getPrototypeOf(widget);
    Object.defineProperty(widget, name, {
      configurable: true,
      get() {
        return (words.has(this.value) && replaced(this)) || Reflect.get(inherited, name, this);
      },
    });
  };
  drawn("_displayValue", (each) => (each.computedDisabled ? "" : words.get(each.value)));
  drawn("displayName", (each) => captionParts(each.label)?.name);
  const { onClick, setValue } = widget;
  // canvas: the frontend's own, whose prompt is replaced for the time of the click
  widget.onClick = function (given) {
    const { canvas } = given, { prompt } = canvas;
    canvas.prompt = (title, value, done, ...more) =>
      prompt.call(canvas, title, words.get(value) ?? value, (text) => done(digitsOf(text, words)), ...more);
    try {
      return onClick.call(this, given);
    } finally {
      delete canvas.prompt;
      if (canvas.prompt !== prompt) canvas.prompt = prompt;
    }
  };
  // the arrows lead from a number far off, such as -1000, to where amounts begin
  widget.setValue = function (value, ...more) {
    const isStep = this.value < -1 && words.has(this.value) && value > this.value && value < this.value / 2;
    return setValue.call(this, isStep ? 0 : value, ...more);
  };
}

/** Have the canvas give a widget no room while `isGone()`: it leaves some free for each that it does not draw. */
function roomless(widget, isGone) {
  let own = widget.computeSize;
  Object.defineProperty(widget, "computeSize", {
    configurable: true,
    get: () => (isGone() ? () => [0, -4] : own), // the canvas adds 4 to each
    set: (given) => { own = given; },
  });
}

const MORE = "gs4d_more"; // the button's name
const ALWAYS = "Comfy.Node.AlwaysShowAdvancedWidgets";

/**
 * Fold a node's advanced widgets away on the canvas, but those that are wired or differ from their defaults. A button shows them
 * all; whether it does is `node.showAdvanced`, which graphs hold and the frontend's own menu changes. The Vue renderer folds by
 * itself and has a button of its own; older ones, which do not have the setting ALWAYS, show everything: once a value was
 * changed, they no longer follow a node's list of widgets.
 */
function fold(node) {
  const advanced = (node.widgets ?? []).filter((widget) => widget.options?.advanced);
  // a button in place of a single widget would save nothing
  if (advanced.length < 2 || !node.addWidget) return null;
  const defaults = new Map(advanced.map((widget) => [widget, widget.value]));
  const text = translator(language());
  const isFolded = (widget) => setting(ALWAYS) !== true && widget.value === defaults.get(widget) && !wired(node, widget.name);
  const button = node.addWidget("button", MORE, null, () => show(!node.showAdvanced), { serialize: false, canvasOnly: true });
  button.serialize = false; // of the graph's file; the option above is of the prompt
  // behind what the graph holds: the frontend finds values by their place
  node.widgets.splice(node.widgets.indexOf(button), 1);
  node.widgets.splice(node.widgets.findLastIndex((widget) => widget.serialize !== false) + 1, 0, button);

  let folded = [];
  for (const widget of advanced) roomless(widget, () => !node.showAdvanced && folded.includes(widget));
  roomless(button, () => button.hidden);
  const update = () => {
    folded = advanced.filter(isFolded);
    for (const widget of advanced) {
      const is = folded.includes(widget);
      widget.options.advanced = is; // the Vue renderer's
      widget.advanced = is; // the canvas'
    }
    button.label = node.showAdvanced ? text("fewer settings") : text("more settings ({})", folded.length);
    button.hidden = !folded.length;
  };
  /** Show all or not, and change the node's height by what its widgets then need. */
  const show = (all) => {
    const before = node.computeSize()[1];
    node.showAdvanced = all;
    update();
    const after = node.computeSize()[1];
    node.setSize([node.size[0], Math.max(after, node.size[1] + after - before)]);
    node.setDirtyCanvas?.(true, true);
  };
  show(node.showAdvanced);
  const settle = () => {
    update();
    grow(node);
  };
  return { added: settle, configured: settle, rewired: settle };
}

onNodes("gs4d.faces", (type) => type.startsWith("GS4D_"), (node) => {
  for (const widget of node.widgets ?? []) showWords(widget);
  const seed = varySeed(node), folding = fold(node) ?? {};
  return {
    ...folding,
    ...seed,
    configured() {
      seed.configured?.();
      folding.configured?.();
    },
  };
});
