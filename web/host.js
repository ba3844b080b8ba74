// ComfyUI's frontend, as much of it as the player and the notes need; the only file that knows it.

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { advice } from "./advice.mjs";

const GONE = "The preview file is missing (ComfyUI clears its temp folder at start); run the graph again.";
const NOT_READ = "The preview file could not be loaded";

Object.assign(advice, {
  again: "run the graph again, or export it again.",
  update: "update the pack.",
  library: "Check that ComfyUI is running and reload the page.",
  contexts: "too many 3D nodes are open. Remove some and run the graph again.",
  film: "The preview video is missing (ComfyUI clears its temp folder at start); run the graph again.",
});

let queued = 0;
api.addEventListener("status", ({ detail }) => { queued = detail?.exec_info?.queue_remaining ?? 0; });

/** Whether a graph is running on the server, or waits to. */
export function isWorking() { return queued > 0; }

/**
 * Have `life(node)` called for each node of a type as it is made. What it returns is told about the node's life:
 * added() once it is in a graph, configured() once its saved properties are there, executed(output) after a run,
 * restored(output) when the frontend shows an earlier run again, rewired() when its wires change,
 * serialized(data) when it is saved, removed() at its end.
 * @param {(type: string) => boolean} wanted whether nodes of this type are meant
 */
export function onNodes(extension, wanted, life) {
  const lives = new WeakMap();
  app.registerExtension({
    name: extension,
    onNodeOutputsUpdated(outputs) {
      for (const [place, output] of Object.entries(outputs ?? {})) lives.get(nodeAt(place))?.restored?.(output);
    },
    beforeRegisterNodeDef(nodeType, definition) {
      if (!wanted(definition.name)) return;
      const { prototype } = nodeType;
      const before = (name, act) => {
        const inherited = prototype[name];
        prototype[name] = function (...given) {
          const result = inherited?.apply(this, given);
          act(this, ...given);
          return result;
        };
      };
      before("onNodeCreated", (node) => lives.set(node, life(node)));
      before("onAdded", (node) => {
        takePlaces(node);
        lives.get(node)?.added?.();
      });
      before("onConfigure", (node) => lives.get(node)?.configured?.());
      before("onConnectionsChange", (node) => lives.get(node)?.rewired?.());
      before("onSerialize", (node, data) => lives.get(node)?.serialized?.(data));
      before("onExecuted", (node, output) => lives.get(node)?.executed?.(output));
      before("onRemoved", (node) => {
        leavePlaces(node);
        lives.get(node)?.removed?.();
      });
    },
  });
}

/**
 * When the server refuses a graph, have `keep(errors, inputs)` choose which errors of a node are shown, and which widgets they
 * mark. `inputs` are the declarations of the node's inputs by their name.
 * @param {(type: string) => boolean} wanted whether nodes of this type are meant
 */
export function onRefused(wanted, keep) {
  const inputs = new Map();
  app.registerExtension({
    name: "gs4d.refused",
    beforeRegisterNodeDef(_, { name, input }) {
      if (!wanted(name)) return;
      const declared = Object.entries({ ...input?.required, ...input?.optional });
      inputs.set(name, Object.fromEntries(declared.map(([id, [, options]]) => [id, options])));
    },
  });
  const choose = (answer) => {
    for (const node of Object.values(answer?.node_errors ?? {})) {
      if (inputs.has(node.class_type)) node.errors = keep(node.errors, inputs.get(node.class_type));
    }
  };
  const { queuePrompt } = api;
  api.queuePrompt = async function (...given) {
    try {
      const answer = await queuePrompt.apply(this, given);
      choose(answer); // nodes that other outputs do not need may be refused alone
      return answer;
    } catch (error) {
      choose(error.response);
      throw error;
    }
  };
}

/** The node that an output belongs to: "12", or "<id of a subgraph>:12". */
function nodeAt(place) {
  const steps = place.split(":"), id = steps.pop(), root = app.rootGraph ?? app.graph;
  const graph = steps.length ? root?.subgraphs?.get(steps.join(":")) : root;
  return graph?.nodes?.find((node) => String(node.id) === id);
}

/** The key of what the frontend knows of a node's run: the inverse of nodeAt. */
function place(node) {
  const { graph } = node;
  return graph && graph !== (graph.rootGraph ?? graph) ? `${graph.id}:${node.id}` : node.id;
}

/** What the frontend still knows of the node's last run. */
export function lastOutput(node) {
  return app.nodeOutputs?.[place(node)];
}

/** Put an element into a node as a widget of at least `height`; both of the frontend's renderers show it. */
export function addElement(node, name, element, height) {
  const widget = addWidget(node, name, element, { getMinHeight: () => height });
  widget.element.classList.add("widget-expands"); // older Vue renderers give such a one the room that is left
  widget.element.style.minHeight = `${height}px`;
  return widget;
}

/** Put an element into a node as a widget that is always as high as `height()` says. */
export function addFixedElement(node, name, element, height) {
  // in the newer canvas the side panel lists a node's widgets: this one is nothing to set
  return addWidget(node, name, element, { getMinHeight: height, getMaxHeight: height, hideInPanel: true });
}

const HOST = { display: "flex", flexDirection: "column", boxSizing: "border-box", width: "100%", height: "100%" };
const places = new Map(); // "node id/widget name" → the host there, of a node that was removed
const inside = new WeakMap(); // widget → the element in its host

/** What the frontend gets is a bare host: the Vue renderer from 1.55 on keeps it when a node is undone, see takePlaces. */
function addWidget(node, name, element, options) {
  const host = document.createElement("div");
  Object.assign(host.style, HOST);
  element.style.flex = "1 1 auto";
  host.append(element);
  const widget = node.addDOMWidget(name, name, host, { serialize: false, hideOnZoom: false, ...options });
  widget.serialize = false; // of the graph's file; the option above is of the prompt
  inside.set(widget, element);
  takePlace(node, widget);
  return widget;
}

const hosted = (node) => (node.widgets ?? []).filter((widget) => inside.has(widget));

/** Undo makes a new node in place of the old one, but the page may keep the old node's host: the new element goes in there. */
function takePlaces(node) {
  for (const widget of hosted(node)) takePlace(node, widget);
}

function takePlace(node, widget) {
  const key = `${node.id}/${widget.name}`, host = places.get(key);
  if (!host || !node.graph) return;
  places.delete(key);
  if (!host.isConnected || host === widget.element) return;
  host.style.minHeight = widget.element.style.minHeight;
  host.className = widget.element.className;
  host.replaceChildren(inside.get(widget));
  widget.element = host;
}

function leavePlaces(node) {
  for (const widget of hosted(node)) {
    const key = `${node.id}/${widget.name}`, host = widget.element;
    places.set(key, host);
    // nobody has come within the time that undoing takes: it was removed for good
    setTimeout(() => { if (places.get(key) === host) places.delete(key); }, 5000);
  }
}

/** Give a node the room that its widgets need; the Vue renderer does so by itself. */
export function grow(node) {
  if (!vue()) {
    const high = node.computeSize()[1];
    if (high > node.size[1]) node.setSize([node.size[0], high]);
  }
  node.setDirtyCanvas?.(true, true);
}

/** Remove the line of progress that the frontend shows; from 1.54 on it does so itself when the job ends. */
export function removeProgressText(node) {
  const line = node.widgets?.find((widget) => widget.name === "$$node-text-preview");
  if (line) node.removeWidget?.(line);
}

/** Let the wheel zoom the canvas where `element` has nothing to scroll; the Vue renderer does so by itself. */
export function passWheel(element) {
  element.addEventListener("wheel", (event) => {
    const scrolls = element.scrollHeight > element.clientHeight;
    if (!scrolls && !vue()) app.canvas.processMouseWheel(event);
  });
}

/** Address of a file that a node's output names: {filename, subfolder, type}. */
export function address({ filename, subfolder = "", type = "temp" }) {
  return api.apiURL(`/view?${new URLSearchParams({ filename, subfolder, type })}`);
}

/** What such a file is read from, piece by piece; its errors are sentences for the person. */
export async function open(file) {
  const { UrlBytes } = await import("./segments.mjs");
  return new UrlBytes(address(file), {
    missing: GONE, refused: (status) => `${NOT_READ} (${status}): run the graph again.`,
    lost: `${NOT_READ}: the server does not respond; is ComfyUI running?`, cut: `${NOT_READ}: the connection was interrupted; run the graph again.`,
  });
}

/** The value of one of the frontend's settings; undefined where it has no such setting. */
export function setting(id) {
  return app.extensionManager?.setting?.get?.(id);
}

/** The language that the page is in, by its code: "en", "zh", "ja". */
export function language() {
  return setting("Comfy.Locale") ?? app.ui?.settings?.getSettingValue?.("Comfy.Locale") ?? "en";
}

/** Whether a widget's value comes from elsewhere, over a wire: what is written into it would not count. */
export function wired(node, name) {
  const slot = (node.inputs ?? []).findIndex((input) => input.widget?.name === name);
  return slot >= 0 && Boolean(node.isInputConnected?.(slot));
}

/**
 * Of a live preview and an image of the same content (nodes/host.py sees to that) keep the preview, in the Vue renderer, which
 * shows both. It is the page alone that forgets the image: a reload or the queue's history brings it back.
 */
export function keepOnePicture(node) {
  const key = place(node), { images, ...others } = app.nodeOutputs?.[key] ?? {};
  if (vue() && images?.length && app.nodePreviewImages?.[key]?.length) app.nodeOutputs[key] = others;
}

/** Add the frontend's own "control after generate" to a number, fixed and not part of the saved values; null where it has none. */
export function addControl(node, widget) {
  const [control] = globalThis.comfyAPI?.widgets?.addValueControlWidgets?.(node, widget, "fixed") ?? [];
  if (!control) return null;
  control.serialize = false; // of the graph's file: graphs that were saved before have no value for it
  widget.linkedWidgets = [control];
  return control;
}

/** Whether the Vue renderer draws the nodes. */
export function vue() {
  return Boolean(globalThis.LiteGraph?.vueNodesMode);
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

/** Give socket types their colors, in both renderers. A palette that names such a type has its way. */
export function colorTypes(colors) {
  const sheet = document.createElement("style");
  // the Vue renderer's; what a palette sets on the element itself counts more
  const rules = Object.entries(colors).map(([type, color]) => `--color-datatype-${type}: ${color};`);
  sheet.textContent = `:root { ${rules.join(" ")} }`;
  document.head.append(sheet);
  app.registerExtension({
    name: "gs4d.colors",
    setup() {
      const tables = [app.canvas.default_connection_color_byType, app.canvas.constructor.link_type_colors];
      for (const table of tables) for (const [type, color] of Object.entries(colors)) if (table) fall(table, type, color);
    },
  });
}

/** Have `table[key]` be `value` wherever it is set to nothing, as palettes do for types that they do not know. */
function fall(table, key, value) {
  let set = table[key];
  Object.defineProperty(table, key, { get: () => set || value, set: (given) => { set = given; }, enumerable: true, configurable: true });
}

/**
 * Add a button to a node that uploads files into ComfyUI's input folder; files dropped on the node are uploaded as well.
 * Of several files, only the first is taken without `multiple`; files with other endings than `accept` are not for this node.
 * `place(names)` gives the subfolder for them, `done(path, names, isFolder)` is told the path of the file or, where they have one,
 * their folder. Uploads of one node follow each other.
 */
export function addUpload(node, label, accept, multiple, place, done) {
  const choose = document.createElement("input");
  Object.assign(choose, { type: "file", accept, multiple });
  const endings = accept.split(",");
  const accepted = (all) => {
    const files = [...all].filter((file) => endings.some((ending) => file.name.toLowerCase().endsWith(ending)));
    return multiple ? files : files.slice(0, 1);
  };
  const upload = async (files) => {
    try {
      const names = files.map((file) => file.name), subfolder = place(names);
      // older frontends show the names in lists as markup
      const odd = files.find((file) => /[<>]/.test(file.name));
      if (odd) throw new Error(`${odd.name}: rename the file without < and >, then upload it again.`);
      let path = "";
      for (const [i, file] of files.entries()) {
        button.label = button.name = `${label} ${i + 1}/${files.length} …`;
        node.setDirtyCanvas?.(true, true);
        path = await sendFile(file, subfolder);
      }
      done(subfolder ? path.slice(0, path.lastIndexOf("/")) : path, names, Boolean(subfolder));
    } catch (error) {
      app.extensionManager?.toast?.add?.({ severity: "error", summary: label, detail: String(error?.message ?? error) });
    } finally {
      button.label = button.name = label;
    }
  };
  let last = Promise.resolve();
  const send = (files) => (last = last.then(() => upload(files)));
  const button = node.addWidget("button", label, null, () => choose.click(), { serialize: false });
  button.serialize = false;
  choose.addEventListener("change", () => {
    const files = accepted(choose.files);
    choose.value = "";
    if (files.length) send(files);
  });
  node.onDragOver = (event) => Boolean([...(event.dataTransfer?.items ?? [])].some((item) => item.kind === "file"));
  node.onDragDrop = (event) => {
    const files = accepted(event.dataTransfer?.files ?? []);
    if (files.length) send(files);
    return files.length > 0;
  };
  return send;
}

/** Upload a file; its path as the pack's lists name it. Raises a sentence for the person. */
async function sendFile(file, subfolder) {
  const body = new FormData();
  body.append("image", file, file.name); // the endpoint takes any file under this name
  body.append("type", "input");
  body.append("subfolder", subfolder);
  const answer = await api.fetchApi("/upload/image", { method: "POST", body });
  if (!answer.ok) throw new Error(`${file.name} could not be uploaded (${answer.status} ${answer.statusText}).`);
  const saved = await answer.json();
  return ["input", ...(saved.subfolder ? [saved.subfolder] : []), saved.name].join("/");
}

/** Choose a value of a list, or write it into a text; a value that the list does not have yet is added. */
export function chooseValue(node, name, value) {
  const options = node.widgets?.find((each) => each.name === name)?.options;
  if (Array.isArray(options?.values) && !options.values.includes(value)) options.values.push(value);
  return writeWidget(node, name, value);
}
