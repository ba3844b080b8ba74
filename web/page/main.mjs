// The standalone page: the player over the whole window, its clips from the page itself.

import { View } from "../view.js";

const view = new View(document, { language: navigator.language });
document.getElementById("player").append(view.element);

const sources = [...document.querySelectorAll("script[data-clip]")].map((script) => ({
  name: script.dataset.name || "the clip",
  bytes: async () => Uint8Array.from(atob(script.textContent.trim()), (letter) => letter.charCodeAt(0)),
}));
if (sources.length) view.load(sources).then(() => view.player.play());
else view.fail("This page contains no scene; export it again.");
