// The player inside the node "Preview 4D Scene". What it shows and how it is seen is kept in the node's properties, so
// that a saved graph, a reloaded page and a canvas that had put the node away find it again.

import { addElement, address, onNodes, read, writeWidget } from "./host.js";
import { View } from "./view.js";

const NODE = "GS4D_Preview4DScene";
const KEPT = "gs4d_preview"; // the property: {files, movies, notes, view}
const HEIGHT = 360; // least height of the widget, in units of the canvas
const SIZE = [540, 760]; // of a new node
const EMPTY = "Run the graph: the scene plays here.";

onNodes("gs4d.preview", NODE, (node) => {
  const kept = () => (node.properties[KEPT] ??= {});
  const view = new View(document, {
    onState: (state) => { kept().view = state; },
    useCamera: (camera) => {
      if (writeWidget(node, "camera", JSON.stringify(camera))) view.confirm("The node's camera is this view now.");
    },
  });
  addElement(node, "player", view.element, HEIGHT);
  node.setSize([Math.max(node.size[0], SIZE[0]), Math.max(node.size[1], SIZE[1])]);
  view.fail(EMPTY);

  let shown = ""; // what the view was last given
  const show = () => {
    const { files = [], movies = [], notes = [] } = kept();
    const wanted = JSON.stringify([files, notes]);
    if (!files.length || (wanted === shown && view.plays)) return Promise.resolve();
    shown = wanted;
    return view.load(
      files.map((file) => ({ name: "the preview", bytes: () => read(file) })),
      { notes, movies: movies.map(address) },
    );
  };
  return {
    configured() {
      view.restore(kept().view);
      show();
    },
    executed(output) {
      if (!output?.clip?.length) return;
      Object.assign(kept(), { files: output.clip, movies: output.movie ?? [], notes: output.notes ?? [] });
      show().then(() => view.player.play());
    },
    removed: () => view.dispose(),
  };
});
