// Buttons that upload files to the server, and dropping files on a node: a ComfyUI on another machine has no other way in.

import { addUpload, chooseValue, language, onNodes, writeWidget } from "./host.js";
import { translator } from "./words.js";

const LOADERS = {
  GS4D_LoadMultiViewVideo: { widget: "clip", accept: ".zip,.mp4,.mov,.mkv,.webm,.avi,.json,.npy,.txt,.ply,.png,.jpg,.jpeg", gathers: true },
  GS4D_Load4DScene: { widget: "scene_file", accept: ".safetensors" },
  GS4D_Import4DScene: { widget: "source", accept: ".ply,.splat,.spz,.4dgs", takesSeveral: true },
  GS4D_LoadVideoClip: { widget: "clip", accept: ".mp4,.mov,.mkv,.webm,.avi" },
};

onNodes("gs4d.upload", (type) => type in LOADERS, (node) => {
  const { widget, accept, gathers, takesSeveral } = LOADERS[node.comfyClass ?? node.type] ?? {};
  if (!widget) return {};
  const label = translator(language())(gathers ? "upload zip or videos" : "upload file");
  // what is not one file for the node goes into a folder of its own, which the node then reads as a whole
  const isZip = (file) => file.name.toLowerCase().endsWith(".zip");
  const place = (files) => (files.length > 1 || (gathers && !isZip(files[0])) ? folderFor(files[0].name) : "");
  addUpload(node, label, accept, Boolean(gathers || takesSeveral), place, (path) => {
    chooseValue(node, widget, path);
    // a folder that was typed before would win over what was uploaded
    if (gathers) writeWidget(node, "folder", "");
  });
  return {};
});

function folderFor(name) {
  const stem = name.replace(/\.[^.]*$/, "").replace(/[^\w-]+/g, "_").slice(0, 40) || "capture";
  return `${stem}_${new Date().toISOString().replace(/\D/g, "").slice(0, 14)}`;
}
