// What messages tell people to do: on any web page, unless the page's host says it in its own words, as host.js does.

export const advice = {
  again: "reload the page, or export it again.", // a file that is damaged
  update: "update the player.",
  library: "Reload the page.",
  contexts: "too many 3D views are open. Close some and reload the page.",
  film: "The video could not be loaded; reload the page.",
};
