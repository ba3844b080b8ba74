// <gs4d-player src="scene.gs4dclip">: the player as an element for web pages; docs/web_player.md describes it. Requests
// nothing but what its attributes name.

import { View } from "../view.js";

const CSS = `
:host { display: block; position: relative; min-height: 160px; aspect-ratio: 16 / 9; }
:host([hidden]) { display: none; }
.gs4d { min-height: 0; border-radius: inherit; }
.gs4d-port { touch-action: pan-y; }
:host([background="transparent"]) .gs4d { background: transparent; }
:host(:not([controls=""])) .gs4d-frame { display: none; }
:host(:not([controls])) .gs4d-row, :host(:not([controls])) .gs4d-notes, :host([controls="timeline"]) .gs4d-row:last-child { display: none; }
:host([controls="timeline"]) .gs4d-row { padding-bottom: 6px; }
.gs4d-poster { position: absolute; inset: 0; width: 100%; height: 100%; object-fit: contain; pointer-events: none; }
.gs4d-poster ~ .gs4d-say { inset: auto 0 0 0; padding: 6px 10px; }
`;

class PlayerElement extends HTMLElement {
  static observedAttributes = ["src", "loop", "background", "poster"];
  #view = null;
  #sight = null; // watches until the element comes near the window
  #near = false;
  #request = null; // aborts the download that is under way
  #told = { time: null, playing: false };
  #telling = 0;

  constructor() {
    super();
    const sheet = document.createElement("style");
    sheet.textContent = CSS;
    this.attachShadow({ mode: "open" }).append(sheet);
  }

  connectedCallback() {
    if (this.#view?.document === this.ownerDocument) return; // it was moved
    this.#close();
    const language = this.closest("[lang]")?.lang || navigator.language;
    this.#view = new View(this.ownerDocument, {
      root: this.shadowRoot, language, onChange: () => this.#tell(), onError: (message) => this.#send("error", { message }),
    });
    const { element, player } = this.#view;
    // over a page that scrolls, the wheel zooms only where somebody has pressed
    element.addEventListener("wheel", (event) => {
      if (!this.shadowRoot.activeElement && !this.ownerDocument.fullscreenElement) event.stopImmediatePropagation();
    }, { capture: true });
    this.shadowRoot.append(element);
    player.setLoop(this.hasAttribute("loop"));
    this.#view.setBackground(this.#background);
    this.#pose();
    this.#sight = new IntersectionObserver((entries) => {
      if (!entries.at(-1).isIntersecting) return;
      this.#sight.disconnect();
      this.#near = true;
      this.#load();
    }, { rootMargin: "100%" });
    this.#sight.observe(this);
  }

  disconnectedCallback() {
    queueMicrotask(() => { if (!this.isConnected) this.#close(); });
  }

  attributeChangedCallback(name, before, now) {
    if (!this.#view || before === now) return;
    if (name === "src") this.#load();
    else if (name === "loop") this.#view.player.setLoop(now !== null);
    else if (name === "background") this.#view.setBackground(this.#background);
    else this.#pose();
  }

  /** Play; ignored before `ready`, and where nothing moves. */
  play() { this.#view?.player.play(); }
  pause() { this.#view?.player.pause(); }

  get paused() { return !this.#view?.player.playing; }
  /** Seconds from the first frame. */
  get duration() { return this.#view ? this.#view.player.end - this.#view.player.start : 0; }
  get currentTime() { return this.#view ? this.#view.player.time - this.#view.player.start : 0; }
  set currentTime(seconds) { this.#view?.player.seek(this.#view.player.start + Number(seconds)); }
  get src() { return this.getAttribute("src") ?? ""; }
  set src(address) { this.setAttribute("src", address); }
  /** Names of the captured cameras, and the one that is looked through ("": none). */
  get cameras() { return this.#view?.clips[0]?.cameras.map((camera) => camera.name) ?? []; }
  get camera() { return this.#view?.state.lens ?? ""; }
  set camera(name) { this.#view?.lookThrough(String(name)); }

  get #background() {
    const name = this.getAttribute("background") ?? "scene";
    return name === "gray" ? "grey" : name;
  }

  async #load() {
    if (!this.#near) return;
    const view = this.#view, src = this.src;
    this.#request?.abort();
    this.#request = new AbortController();
    const { signal } = this.#request;
    if (!src) return view.fail("This player has no src; write the address of a .gs4dclip file there.");
    const name = nameOf(src);
    await view.load([{ name, open: () => bytesOf(src, this.baseURI, name, signal) }]);
    if (signal.aborted || this.#view !== view || !view.plays) return;
    const [{ title, gaussians, times }] = view.clips;
    if (this.hasAttribute("autoplay") && !matchMedia("(prefers-reduced-motion: reduce)").matches) view.player.play();
    this.#send("ready", { title, gaussians, frames: times.length, duration: this.duration });
    await drawn(view);
    if (!signal.aborted) this.shadowRoot.querySelector(".gs4d-poster")?.remove();
  }

  /** Show the poster until the first frame is drawn. */
  #pose() {
    const { port, canvas } = this.#view.panel, address = this.getAttribute("poster");
    port.querySelector(".gs4d-poster")?.remove();
    if (!address || this.#view.plays) return;
    const poster = this.ownerDocument.createElement("img");
    Object.assign(poster, { className: "gs4d-poster", alt: "", src: address });
    canvas.after(poster);
  }

  /** Tell the page what has changed, once for all that changed together. */
  #tell() {
    if (!this.#telling) this.#telling = setTimeout(() => {
      this.#telling = 0;
      if (!this.#view?.clips.length) return;
      const { player } = this.#view, told = this.#told;
      this.#told = { time: player.time, playing: player.playing };
      if (told.playing !== player.playing) this.#send(player.playing ? "play" : "pause", {});
      if (told.time !== player.time) this.#send("timeupdate", { currentTime: this.currentTime, duration: this.duration });
    });
  }

  #send(name, detail) { this.dispatchEvent(new CustomEvent(name, { detail })); }

  #close() {
    clearTimeout(this.#telling);
    this.#sight?.disconnect();
    this.#request?.abort();
    this.#view?.dispose();
    this.#view = this.#sight = this.#request = null;
    this.#near = false;
    this.#telling = 0;
    this.#told = { time: null, playing: false };
  }
}

/** When the first frame is on the canvas: a worker sorts it first. */
async function drawn(view) {
  for (let i = 0; i < 300 && !view.closed && !(view.stage?.frames > 1 && !view.stage.unsettled); i++)
    await new Promise((done) => setTimeout(done, 20));
}

/** The file, piece by piece. */
async function bytesOf(src, base, name, signal) {
  const { UrlBytes } = await import("../segments.mjs"), failed = `${name} could not be loaded`;
  const lost = `${failed}: check the address in src, and that its server allows this page to read it (CORS).`;
  if (!URL.canParse(src, base)) throw new Error(lost);
  return new UrlBytes(new URL(src, base), {
    signal, lost,
    cut: `${failed}: the connection was interrupted; reload the page.`,
    refused: (status) => `${failed}: the server answered ${status.split(" ")[0]}; check the address in src.`,
  });
}

/** The file's name in an address, for messages. */
function nameOf(src) {
  const last = src.split(/[?#]/)[0].split("/").at(-1) || src;
  try {
    return decodeURIComponent(last).slice(0, 100);
  } catch {
    return last.slice(0, 100);
  }
}

if (!customElements.get("gs4d-player")) customElements.define("gs4d-player", PlayerElement);
