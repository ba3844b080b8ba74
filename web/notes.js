// What a node of the pack tells when it is done, as text in a widget of its own. The frontend's line of progress would not
// do: from 1.54 on it is removed when the job ends, and before 1.49 it is shown as HTML.

import { addFixedElement, address, grow, lastOutput, onNodes, passWheel, removeProgressText } from "./host.js";

const NOTES = "gs4d_notes"; // the entry of a node's output (nodes/host.py), and the widget's name
const LOWEST = 24, HIGHEST = 168; // of the box, in units of the canvas; what is longer scrolls
const MARGIN = 20; // above and below the box, which the canvas leaves free
const MOST = 4000; // characters
const MOST_LINKS = 5;
const BOX = {
  boxSizing: "border-box", width: "100%", maxHeight: `${HIGHEST}px`, overflow: "auto", padding: "4px 8px", borderRadius: "6px",
  background: "var(--comfy-input-bg, #26282c)", color: "var(--input-text, #d6d8db)", font: "12px/1.35 system-ui, sans-serif",
};
const TEXT = { whiteSpace: "pre-wrap", overflowWrap: "anywhere", userSelect: "text", cursor: "text" };

/** A link to download each of the first files that a run wrote. */
function links(files) {
  const written = Array.isArray(files) ? files.filter((file) => typeof file?.filename === "string").slice(0, MOST_LINKS) : [];
  return written.map((file) => {
    const link = document.createElement("a");
    Object.assign(link, { href: address(file), download: file.filename, textContent: `⤓ ${file.filename}` });
    Object.assign(link.style, { display: "block", color: "inherit" });
    return link;
  });
}

const shown = new WeakMap(); // node → shows lines in it

/** Have a node say a line at once, until it has run again. */
export function tell(node, line) {
  shown.get(node)?.({ [NOTES]: [line] });
}

// the player shows its notes inside: a second widget would take its room
onNodes("gs4d.notes", (type) => type.startsWith("GS4D_") && type !== "GS4D_Preview4DScene", (node) => {
  let widget = null, text = null;

  const remove = () => {
    if (widget) node.removeWidget?.(widget);
    widget = text = null;
  };
  const add = () => {
    const box = document.createElement("div"), inside = (text = document.createElement("div"));
    Object.assign(box.style, BOX);
    Object.assign(inside.style, TEXT);
    box.className = "gs4d-node-notes";
    box.setAttribute("role", "note");
    box.append(inside);
    passWheel(box);
    let height = LOWEST;
    widget = addFixedElement(node, NOTES, box, () => height + MARGIN);
    new ResizeObserver(() => {
      const now = Math.min(Math.max(inside.offsetHeight + 8, LOWEST), HIGHEST);
      if (!inside.offsetHeight || now === height) return; // not shown: nothing to be measured
      height = now;
      grow(node);
    }).observe(inside);
    grow(node);
  };
  const show = (output) => {
    const lines = Array.isArray(output?.[NOTES]) ? output[NOTES].filter((line) => typeof line === "string") : [];
    if (!lines.length) return remove();
    if (!widget) add();
    text.textContent = lines.join("\n").slice(0, MOST);
    text.append(...links(output.files));
  };
  shown.set(node, show);
  const restored = (output) => { if (output?.[NOTES]) show(output); };
  return {
    restored,
    configured: () => restored(lastOutput(node)),
    executed(output) {
      removeProgressText(node);
      show(output);
    },
  };
});
