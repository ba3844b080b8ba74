// Hands on the viewport: pointers, wheel and keys become turns, moves, distances and steps.

const PER_HEIGHT = Math.PI; // radians for a drag over the viewport's whole height
const PER_KEY = Math.PI / 24; // radians
const TURNS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const NEARER = { "+": 0.9, "=": 0.9, "-": 1 / 0.9 };
const REPEAT = 1.0015; // nearer or farther per unit of the wheel

/**
 * @param {object} panel elements of the player
 * @param {object} deeds turn(yaw, pitch), move(x, y) in heights, approach(factor), divide(0..1), toggle(), step(count)
 */
export function listen(panel, deeds) {
  const { root, port, divider } = panel;
  const fingers = new Map();

  // what happens on the player is not for the canvas beneath it: it would drag the node or open a menu
  for (const name of ["pointerdown", "mousedown", "touchstart", "dblclick", "click", "contextmenu", "keyup"])
    root.addEventListener(name, (event) => event.stopPropagation(), { passive: true });
  port.addEventListener("contextmenu", (event) => event.preventDefault());

  port.addEventListener("pointerdown", (event) => {
    if (divider.contains(event.target) || event.target.tagName === "VIDEO") return;
    event.preventDefault();
    port.focus({ preventScroll: true });
    capture(port, event);
    fingers.set(event.pointerId, { x: event.clientX, y: event.clientY, moves: event.button !== 0 || event.shiftKey });
  });
  port.addEventListener("pointermove", (event) => {
    const finger = fingers.get(event.pointerId);
    if (!finger) return;
    event.stopPropagation();
    const height = port.getBoundingClientRect().height || 1; // on screen: the canvas beneath may be zoomed
    const dx = (event.clientX - finger.x) / height, dy = (event.clientY - finger.y) / height;
    if (fingers.size === 2) {
      const other = [...fingers].find(([id]) => id !== event.pointerId)[1];
      const before = Math.hypot(finger.x - other.x, finger.y - other.y);
      const after = Math.hypot(event.clientX - other.x, event.clientY - other.y);
      if (before > 4 && after > 4) deeds.approach(before / after);
      deeds.move(dx / 2, dy / 2);
    } else if (finger.moves) deeds.move(dx, dy);
    else deeds.turn(-dx * PER_HEIGHT, -dy * PER_HEIGHT);
    finger.x = event.clientX;
    finger.y = event.clientY;
  });
  for (const name of ["pointerup", "pointercancel", "lostpointercapture"])
    port.addEventListener(name, (event) => {
      if (fingers.delete(event.pointerId)) event.stopPropagation();
    });
  port.addEventListener("wheel", (event) => {
    event.preventDefault();
    event.stopPropagation();
    const lines = event.deltaMode === 1 ? 16 : event.deltaMode === 2 ? 400 : 1;
    deeds.approach(REPEAT ** Math.max(-300, Math.min(300, event.deltaY * lines)));
  }, { passive: false });

  const divideAt = (event) => {
    const box = port.getBoundingClientRect();
    deeds.divide((event.clientX - box.left) / (box.width || 1));
  };
  divider.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    divider.focus({ preventScroll: true });
    capture(divider, event);
    divider.dataset.held = "1";
  });
  divider.addEventListener("pointermove", (event) => { if (divider.dataset.held) { event.stopPropagation(); divideAt(event); } });
  for (const name of ["pointerup", "pointercancel", "lostpointercapture"])
    divider.addEventListener(name, () => { delete divider.dataset.held; });

  // ComfyUI's canvas holds back what a press does by itself, so the focus, and all keys with it, would stay here
  const page = root.ownerDocument;
  const away = (event) => {
    const target = event.composedPath()[0]; // in a shadow tree, the page sees its host
    const focused = root.getRootNode().activeElement;
    if (!root.contains(focused)) page.removeEventListener("pointerdown", away, true);
    else if (!root.contains(target)) focused.blur();
  };
  root.addEventListener("focusin", () => page.addEventListener("pointerdown", away, true));
  root.addEventListener("focusout", () => page.removeEventListener("pointerdown", away, true));

  root.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return; // the host's own
    event.stopPropagation();
    const tag = event.target.tagName, way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const turns = event.shiftKey && event.target === port && TURNS[event.key];
    if (turns) deeds.turn(turns[0] * PER_KEY, turns[1] * PER_KEY);
    else if (event.target === port && NEARER[event.key]) deeds.approach(NEARER[event.key]);
    else if (event.key === " " && tag !== "BUTTON" && tag !== "SELECT") deeds.toggle();
    else if (way && event.target === divider) deeds.divide((Number(divider.getAttribute("aria-valuenow")) + 2 * way) / 100);
    else if (way && tag !== "SELECT" && event.target !== panel.size) deeds.step(way);
    else return;
    event.preventDefault();
  });
}

function capture(element, event) {
  try {
    element.setPointerCapture(event.pointerId);
  } catch {
    // the pointer has gone meanwhile, or was made by a script: moves over the element still arrive
  }
}
