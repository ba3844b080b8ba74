// Line icons of the player's buttons, 16 × 16, drawn in the colour of the text.

const draw = (inside) =>
  `<svg viewBox="0 0 16 16" width="16" height="16" fill="none" stroke="currentColor" stroke-width="1.4" ` +
  `stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">${inside}</svg>`;

const ICONS = {
  play: draw('<path d="M4.5 2.8v10.4L13 8z" fill="currentColor"/>'),
  pause: draw('<path d="M5 3v10M11 3v10" stroke-width="2.6"/>'),
  back: draw('<path d="M10.5 3.5 6 8l4.5 4.5M3.5 3.5v9"/>'),
  forward: draw('<path d="M5.5 3.5 10 8l-4.5 4.5M12.5 3.5v9"/>'),
  loop: draw('<path d="M11.5 2 14 4.5 11.5 7M2 8.2V7a2.5 2.5 0 0 1 2.5-2.5H14M4.5 14 2 11.5 4.5 9M14 7.8V9a2.5 2.5 0 0 1-2.5 2.5H2"/>'),
  reset: draw('<path d="M2.5 8 8 2.8 13.5 8M4 7v6h8V7"/>'),
  full: draw('<path d="M6 2H2v4M10 2h4v4M6 14H2v-4M10 14h4v-4"/>'),
  camera: draw('<path d="M1.5 5.5v7h13v-7h-3L10 3.5H6L4.5 5.5z"/><circle cx="8" cy="8.8" r="2.4"/>'),
  check: draw('<path d="m3 8.5 3.5 3.5L13 4.5"/>'),
  divider: draw('<path d="M6 4.5 2.5 8 6 11.5M10 4.5 13.5 8 10 11.5"/>'),
};

/** An icon as an element. Nowhere else is markup made of text, and this text is all in this file. */
export function icon(document, name) {
  const holder = document.createElement("template");
  holder.innerHTML = ICONS[name];
  return holder.content.firstChild;
}
