// Buttons that upload files to the server, and dropping files on a node: a ComfyUI on another machine has no other way in.

import { addUpload, chooseValue, language, onNodes, writeWidget } from "./host.js";
import { tell } from "./notes.js";
import { translator } from "./words.js";

const LOADERS = {
  GS4D_LoadMultiViewVideo: { widget: "clip", accept: ".zip,.mp4,.mov,.mkv,.webm,.avi,.json,.npy,.txt,.ply,.png,.jpg,.jpeg", gathers: true },
  GS4D_Load4DScene: { widget: "scene_file", accept: ".safetensors" },
  GS4D_Import4DScene: { widget: "source", accept: ".ply,.splat,.spz,.sog,.ksplat,.glb,.gltf,.usd,.usda,.usdc,.usdz,.4dgs,.zip", takesSeveral: true },
  GS4D_LoadVideoClip: { widget: "clip", accept: ".mp4,.mov,.mkv,.webm,.avi" },
};

const KEPT = "gs4d_upload"; // the property of a node
const FRAMES = /\.(mp4|mov|mkv|webm|avi|png|jpe?g)$/i; // the rest describes cameras or points

onNodes("gs4d.upload", (type) => type in LOADERS, (node) => {
  const { widget, accept, gathers, takesSeveral } = LOADERS[node.comfyClass ?? node.type] ?? {};
  if (!widget) return {};
  const label = translator(language())(gathers ? "upload zip or videos" : "upload file");
  const isZip = (name) => name.toLowerCase().endsWith(".zip");
  // of a capture that was uploaded in parts: {path, files}, kept in the graph
  const kept = () => {
    const { path, files } = node.properties?.[KEPT] ?? {};
    return Array.isArray(files) ? { path: String(path), files: files.map(String) } : { path: "", files: [] };
  };
  const value = (name) => node.widgets?.find((each) => each.name === name)?.value ?? "";
  const isShown = () => gathers && kept().path && value(widget) === kept().path && !value("folder").trim();

  // what is not one file for the node goes into a folder of its own, which the node then reads as a whole
  const place = (names) => {
    if (isShown() && !obstacle(names, kept())) return kept().path.replace(/^input\//, "");
    return names.length > 1 || (gathers && !isZip(names[0])) ? folderFor(names[0]) : "";
  };
  const done = (path, names, isFolder) => {
    const before = kept(), was = isShown(), joins = was && before.path === path;
    chooseValue(node, widget, path);
    if (!gathers) return;
    // a folder that was typed before would win over what was uploaded
    writeWidget(node, "folder", "");
    if (!isFolder) return tell(node, `Uploaded ${path}.`);
    const files = joins ? [...before.files, ...names] : names, all = files.length === 1 ? "1 file" : `${files.length} files`;
    (node.properties ??= {})[KEPT] = { path, files };
    if (joins) return tell(node, `Added ${names.join(", ")} to ${path} (${all}).`);
    const hint = "Files with such names that are dropped here are added.";
    tell(node, `New capture ${path} (${all}). ${(was && obstacle(names, before)) || hint}`);
  };
  addUpload(node, label, accept, Boolean(gathers || takesSeveral), place, done);
  return {};
});

/** Why files do not continue what was uploaded before, as cam01.mp4 or cameras.json continue cam00.mp4; "" if they do. */
function obstacle(names, { path, files }) {
  const pattern = (name) => name.toLowerCase().replace(/\d+/g, "#"), frames = files.filter((name) => FRAMES.test(name));
  const known = new Set(frames.map(pattern));
  for (const name of names) {
    if (name.toLowerCase().endsWith(".zip")) return `${name} is a capture of its own.`;
    // nothing is overwritten: it begins another capture
    if (files.includes(name)) return `${name} is in ${path} already.`;
    if (FRAMES.test(name) && frames.length && !known.has(pattern(name))) return `${name} is named unlike ${frames[0]}.`;
  }
  return "";
}

function folderFor(name) {
  const stem = name.replace(/\.[^.]*$/, "").replace(/[^\w-]+/g, "_").slice(0, 40) || "capture";
  return `${stem}_${new Date().toISOString().replace(/\D/g, "")}`;
}
