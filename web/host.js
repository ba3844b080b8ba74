// ComfyUI's frontend, as much of it as the player needs; the only file that knows it.

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";

const GONE = "The preview's file is gone (ComfyUI clears it at start): run the graph again.";
const NOT_READ = "The preview's file cannot be fetched";

/**
 * Have `life(node)` called for each node of a type as it is made. What it returns is told about the node's life:
 * added() once it is in a graph, configured() once its saved properties are there, executed(output) after a run,
 * removed() at its end.
 */
export function onNodes(extension, type, life) {
  app.registerExtension({
    name: extension,
    beforeRegisterNodeDef(nodeType, definition) {
      if (definition.name !== type) return;
      const lives = new WeakMap(), { prototype } = nodeType;
      const before = (name, act) => {
        const inherited = prototype[name];
        prototype[name] = function (...given) {
          const result = inherited?.apply(this, given);
          act(this, ...given);
          return result;
        };
      };
      before("onNodeCreated", (node) => lives.set(node, life(node)));
      before("onAdded", (node) => lives.get(node)?.added());
      before("onConfigure", (node) => lives.get(node)?.configured());
      before("onExecuted", (node, output) => lives.get(node)?.executed(output));
      before("onRemoved", (node) => lives.get(node)?.removed());
    },
  });
}

/** Put an element into a node as a widget of at least `height`; both of the frontend's renderers show it. */
export function addElement(node, name, element, height) {
  element.classList.add("widget-expands"); // the Vue renderer gives such a one the room that is left
  element.style.minHeight = `${height}px`;
  const widget = node.addDOMWidget(name, name, element, { serialize: false, hideOnZoom: false, getMinHeight: () => height });
  widget.serialize = false; // of the graph's file; the option above is of the prompt
  return widget;
}

/** Address of a file that a node's output names: {filename, subfolder, type}. */
export function address({ filename, subfolder = "", type = "temp" }) {
  return api.apiURL(`/view?${new URLSearchParams({ filename, subfolder, type })}`);
}

/** The bytes of such a file. Raises a sentence for the person. */
export async function read(file) {
  let answer;
  try {
    answer = await fetch(address(file));
  } catch {
    throw new Error(`${NOT_READ}: the server does not answer; is ComfyUI running?`);
  }
  if (answer.status === 404) throw new Error(GONE);
  if (!answer.ok) throw new Error(`${NOT_READ} (${answer.status} ${answer.statusText}): run the graph again.`);
  try {
    return await answer.arrayBuffer();
  } catch {
    throw new Error(`${NOT_READ}: the connection ended half-way; run the graph again.`);
  }
}

/** The language that the page is in, by its code: "en", "zh", "ja". */
export function language() {
  return app.extensionManager?.setting?.get?.("Comfy.Locale") ?? app.ui?.settings?.getSettingValue?.("Comfy.Locale") ?? "en";
}

/** Whether a widget's value comes from elsewhere, over a wire: what is written into it would not count. */
export function wired(node, name) {
  return Boolean(node.inputs?.some((input) => input.widget?.name === name && input.link != null));
}

/** Write a widget's value as if a person had typed it. */
export function writeWidget(node, name, value) {
  const widget = node.widgets?.find((each) => each.name === name);
  if (!widget) return false;
  widget.value = value;
  widget.callback?.(value, app.canvas, node);
  changed(node);
  return true;
}

/** The graph is another now: to be saved, and to be drawn. */
export function changed(node) {
  node.graph?.change?.();
  node.setDirtyCanvas?.(true, true);
  const tracker = app.extensionManager?.workflow?.activeWorkflow?.changeTracker;
  if (tracker?.captureCanvasState) tracker.captureCanvasState(); // the newer name
  else tracker?.checkState?.();
}
