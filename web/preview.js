// The player inside the node "Preview 4D Scene". What it shows and how it is seen is kept in the node's properties, so
// that a saved graph, a reloaded page and a canvas that had put the node away find it again.

import { addElement, address, isWorking, language, onNodes, open, wired, writeWidget } from "./host.js";
import { remembered } from "./player.js";
import { View } from "./view.js";

const NODE = "GS4D_Preview4DScene";
const KEPT = "gs4d_preview"; // the property: {files, movies, notes, view}
const HEIGHT = 360; // least height of the widget, in units of the canvas
const SIZE = [540, 760]; // of a new node
const EMPTY = "Run the graph to play the scene here.";

onNodes("gs4d.preview", (type) => type === NODE, (node) => {
  const kept = () => remembered(node.properties?.[KEPT]);
  const keep = (changes) => { (node.properties ??= {})[KEPT] = { ...kept(), ...changes }; };
  const view = new View(document, {
    language: language(),
    yields: isWorking,
    onState: (view) => keep({ view }),
    useCamera: (camera) => {
      if (wired(node, "camera")) return view.confirm("The camera input is connected; disconnect it to set the camera here.", "Connected");
      if (writeWidget(node, "camera", JSON.stringify(camera))) view.confirm("The node's camera now uses this view.");
    },
  });
  addElement(node, "player", view.element, HEIGHT);
  node.setSize([Math.max(node.size[0], SIZE[0]), Math.max(node.size[1], SIZE[1])]);
  view.invite(EMPTY);

  let shown = ""; // what the view was last given
  let loading = null;
  const show = async () => {
    const { files, movies, notes } = kept(), wanted = JSON.stringify([files, notes]);
    // a node in no graph is a copy on its way to the clipboard: nobody sees it, and nobody would free it
    if (!node.graph || !files.length || (wanted === shown && (loading || view.plays))) return loading;
    shown = wanted;
    const mine = (loading = view.load(
      files.map((file) => ({ name: "the preview", open: () => open(file) })),
      { notes, movies: movies.map(address) },
    ).finally(() => { if (loading === mine) loading = null; }));
    return mine;
  };
  return {
    added: show, // pasted ones are in a graph only after their properties are there
    configured() {
      view.restore(kept().view);
      show();
    },
    async executed(output) {
      if (!output?.clip?.length) return;
      const before = view.plays && shown; // the same scene again goes on as the person left it
      keep({ files: output.clip, movies: output.movie ?? [], notes: [...(output.gs4d_notes ?? []), ...(output.notes ?? [])] });
      await show();
      if (before !== shown && view.plays) view.player.play();
    },
    removed: () => view.dispose(),
  };
});
