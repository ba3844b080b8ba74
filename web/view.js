// The player as one element: loads clips, draws when something has changed and only while it is seen, keeps its state.

import { advice } from "./advice.mjs";
import { captured, dolly, distance, home, lensOf, orbit, pan, projection, toLoad3d } from "./camera.js";
import { listen } from "./gestures.js";
import { icon } from "./icons.js";
import { buildPanel, showPanel } from "./panel.js";
import { newest, Pace, Player } from "./player.js";
import { keep, restore, sameSubject, START } from "./state.js";
import { background, BACKGROUND_NAMES, dress } from "./style.js";
import { translator } from "./words.js";

const MOST_PIXELS = 2560; // a side of what is drawn
const LOSSES = 3; // of the context within a minute: another would take one from another player, which would take it back
const TAKEN = "The browser keeps dropping this player's 3D context: ";
const NO_WEBGL = "WebGL 2 is unavailable; showing a video instead. Enable hardware acceleration for the interactive viewer.";

export class View {
  /**
   * @param {{onState?: (state: object) => void, useCamera?: (camera: object) => void, language?: string,
   *   yields?: () => boolean, root?: Document|ShadowRoot, onChange?: () => void, onError?: (message: string) => void}} host
   *   told about changes; the language of the page by its code; whether something else needs the CPU; where the element will
   *   be; told whenever time or playing has changed, and why a scene cannot be shown
   */
  constructor(document, { onState = () => {}, useCamera = null, language = "en", yields = () => false, root = document,
    onChange = () => {}, onError = () => {} } = {}) {
    dress(document, root);
    this.document = document;
    this.onState = onState;
    this.onError = onError;
    this.yields = yields;
    this.pace = new Pace();
    this.hurries = false; // a person has changed something since the last frame
    this.t = translator(language);
    this.state = { ...START };
    this.clips = [];
    this.stage = null;
    this.seen = true;
    this.closed = false;
    this.request = newest();
    this.opening = null;
    this.pending = null; // what `load` is at
    this.losses = []; // when the context was lost
    this.broken = false; // since then nobody has looked
    this.player = new Player(() => {
      if (this.player.playing) this.wake();
      else this.#changed();
      onChange();
    });
    const panel = (this.panel = buildPanel(document, this.#deeds(useCamera), this.t));
    this.element = panel.root;
    this.element.gs4d = this;
    listen(panel, {
      turn: (yaw, pitch) => this.turn(yaw, pitch),
      move: (x, y) => this.#steer((camera) => pan(camera, x, y)),
      approach: (factor) => this.#steer((camera) => dolly(camera, factor, this.clips[0].radius)),
      divide: (share) => this.#set({ divider: Math.min(Math.max(share, 0), 1) }),
      toggle: () => this.player.toggle(),
      step: (count) => this.player.step(count),
    });
    this.sizes = new ResizeObserver(() => this.wake());
    this.sizes.observe(panel.port);
    this.sight = new IntersectionObserver((entries) => {
      this.seen = entries.at(-1).isIntersecting; // several may have come together
      if (this.seen && this.broken) this.#mend();
      this.wake();
    });
    this.sight.observe(panel.port);
    this.onVisible = () => this.wake();
    panel.port.addEventListener("pointerenter", this.onVisible); // the canvas beneath may have been zoomed meanwhile
    this.#watch(panel.canvas);
    showPanel(panel, this.player, this.state);
  }

  #deeds(useCamera) {
    const { state } = this;
    return {
      toggle: () => this.player.toggle(),
      seek: (seconds) => this.player.seek(seconds),
      step: (count) => this.player.step(count),
      loop: () => this.player.setLoop(!this.player.loop),
      speed: (speed) => this.player.setSpeed(speed),
      camera: (name) => this.lookThrough(name),
      background: (name) => this.#set({ background: name }),
      size: (size) => this.#set({ size }),
      reset: () => this.resetView(),
      full: () => (this.document.fullscreenElement ? this.document.exitFullscreen() : this.element.requestFullscreen?.()),
      useCamera: useCamera && (() => { if (state.camera) useCamera(toLoad3d(state.camera)); }),
    };
  }

  /**
   * Show one clip, or two with a divider. The newest call wins.
   * @param {{name: string, bytes?: () => Promise<ArrayBuffer>, open?: () => object}[]} sources before and after: all bytes, or what
   *   bytes.mjs reads them from piece by piece
   * @param {{notes?: string[], movies?: string[]}} more sentences; addresses of films for a browser without WebGL2
   */
  async load(sources, { notes = [], movies = [] } = {}) {
    if (this.closed) return;
    const mine = (this.pending = [sources, { notes, movies }]);
    this.broken = false;
    this.document.addEventListener("visibilitychange", this.onVisible); // the same one again adds nothing
    try {
      await this.request(async (stillWanted) => {
        this.#say(this.clips.length ? "" : this.t("Loading …"));
        await this.#openStage();
        const clips = await Promise.all(sources.slice(0, 2).map(opened));
        const unwanted = () => (!stillWanted() || this.closed) && (clips.forEach((clip) => clip.segments?.dispose()), true);
        if (unwanted()) return;
        await Promise.all([0, 1].map((i) => this.stage.show(i, clips[i] ?? null, stillWanted)));
        if (unwanted()) return;
        this.#take(clips, notes);
      });
    } catch (error) {
      if (this.closed) return;
      if (error?.name === "NoWebGL2") this.#film(movies);
      else this.#say(sentence(error));
      this.onError(this.panel.say.textContent);
    } finally {
      if (this.pending === mine) this.pending = null;
    }
  }

  /** Once for all who ask meanwhile: a canvas has one context. */
  #openStage() {
    if (this.stage && !this.stage.lost) return Promise.resolve();
    this.opening ??= this.#open().finally(() => { this.opening = null; });
    return this.opening;
  }

  async #open() {
    const { canvas } = this.panel;
    let stage = null;
    try {
      const { openStage } = await import("./splats.mjs"); // with the first clip: it is large
      stage = await openStage(canvas, () => this.wake());
    } catch (error) {
      if (canvas === this.panel.canvas) throw error;
    }
    if (this.closed) await stage?.dispose();
    else if (canvas === this.panel.canvas) this.stage = stage;
    else { // lost meanwhile
      await stage?.dispose();
      await this.#open();
    }
  }

  #take(clips, notes) {
    const { panel, state } = this, [clip] = clips;
    if (!this.clips.length) this.player.time = state.time;
    for (const old of this.clips) old.segments?.dispose();
    this.clips = clips;
    for (const { segments } of clips) if (segments) segments.onChange = () => this.wake();
    this.told = "";
    panel.port.querySelector("video")?.remove();
    for (const part of [panel.canvas, panel.timeline, panel.tools]) part.hidden = false; // a film may have been there
    const two = clips.length > 1;
    for (const part of [panel.divider, panel.left, panel.right]) part.hidden = !two;
    panel.left.textContent = this.#tag("Before", clip.title);
    panel.right.textContent = two ? this.#tag("After", clips[1].title) : "";
    panel.notes.textContent = (notes.length ? notes : clips.flatMap((c) => c.notes)).join(" ");
    panel.cameras.replaceChildren(
      ...[["", this.t("free view")], ...clip.cameras.map((c) => [c.name, c.name])].map(([value, text]) => {
        const option = this.document.createElement("option");
        option.value = value;
        option.textContent = text;
        return option;
      }),
    );
    this.element.dataset.gaussians = String(clip.gaussians);
    if (!state.camera || !sameSubject(state.about, clip)) this.resetView();
    else if (state.lens) this.lookThrough(state.lens); // the rig may be another
    const longer = clips.reduce((a, b) => (b.times.at(-1) - b.times[0] > a.times.at(-1) - a.times[0] ? b : a));
    this.player.setMoments(longer.times, longer.fps);
    this.#say("");
  }

  /** Look through a captured camera by its name; "" only lets go of it. */
  lookThrough(name) {
    const entry = this.#entry(name);
    this.#set({ lens: entry ? name : null, ...(entry && { camera: captured(entry, this.clips[0].center) }) });
  }

  resetView() {
    const [clip] = this.clips;
    if (!clip) return;
    const about = { center: clip.center, radius: clip.radius };
    this.#set({ camera: home(clip), lens: clip.cameras[0]?.name ?? null, about });
  }

  /** The background by its name; "scene" for any other. */
  setBackground(name) { this.#set({ background: BACKGROUND_NAMES.includes(name) ? name : "scene" }); }

  /** What is to be kept: a plain object for JSON. */
  saved() { return keep(this.state, this.player); }

  /** Take what `saved` gave; anything missing or odd stays as it is. */
  restore(saved) {
    if (!saved || typeof saved !== "object") return;
    restore(this.state, this.player, saved);
    if (this.clips.length) this.player.seek(this.state.time);
    this.#changed();
  }

  #tag(side, title) {
    return !title || title.toLowerCase() === side.toLowerCase() ? this.t(side) : `${this.t(side)} · ${title}`;
  }

  #entry(name) { return this.clips[0]?.cameras.find((camera) => camera.name === name) ?? null; }

  /** Turn about the target by so many radians. */
  turn(yaw, pitch) { this.#steer((camera) => orbit(camera, this.clips[0].up, yaw, pitch)); }

  #steer(how) {
    if (!this.state.camera || !this.clips.length) return;
    this.#set({ camera: how(this.state.camera), lens: null });
  }

  #set(changes) {
    Object.assign(this.state, changes);
    this.#changed();
  }

  #changed() {
    if (this.closed) return;
    this.hurries = true;
    if (this.clips.length) {
      this.state.time = this.player.time;
      clearTimeout(this.saving);
      this.saving = setTimeout(() => this.onState(this.saved()), 200);
    }
    this.wake();
  }

  /** Draw at the next opportunity, if anybody can see it. */
  wake() {
    if (this.closed || this.waiting || !this.seen || this.document.hidden) return;
    this.waiting = requestAnimationFrame((now) => {
      this.waiting = 0;
      if (this.closed) return;
      this.player.tick(now / 1000);
      if (this.stage?.busy) return this.wake();
      this.pace.finish(now);
      if (this.player.playing && !this.hurries && this.yields() && this.pace.rests(now)) return this.wake();
      this.hurries = false;
      this.draw();
      this.pace.begin(now);
    });
  }

  /** Draw now. */
  draw() {
    const { panel, state, stage, clips } = this;
    showPanel(panel, this.player, state);
    if (!stage || stage.lost || !clips.length || !state.camera) return;
    const { clientWidth: wide, clientHeight: high } = panel.port;
    if (!wide || !high) return;
    panel.port.style.background = background(state.background, clips[0].background);
    stage.setTime(this.player.time);
    this.#streaming();
    stage.setSize(state.size);
    const entry = this.#entry(state.lens), shape = entry ?? clips[0].cameras[0], aspect = shape ? shape.width / shape.height : wide / high;
    const radius = clips[0].radius, near = Math.max(Math.min(0.01 * distance(state.camera), 0.01 * radius), 1e-4);
    const matrix = projection(state.camera, wide / high, aspect, near, 1000 * radius + 2 * distance(state.camera), entry && lensOf(entry));
    // the canvas beneath may be zoomed: draw as fine as is seen
    const zoom = 2 ** Math.max(-1, Math.min(1, Math.round(Math.log2(panel.port.getBoundingClientRect().width / wide || 1))));
    const fine = Math.min((globalThis.devicePixelRatio || 1) * zoom, 2, MOST_PIXELS / Math.max(wide, high));
    stage.draw(
      { position: state.camera.position, quaternion: state.camera.quaternion, projection: matrix, near, far: 1000 * radius },
      Math.round(wide * fine), Math.round(high * fine), state.divider,
    );
    this.#outline(entry, wide, high, aspect);
  }

  /** The clock waits for what is being loaded, and a line says why. */
  #streaming() {
    if (!this.clips.some((clip) => clip.segments)) return;
    const { waiting } = this.stage, problem = this.clips.map((clip) => clip.segments?.problem).find(Boolean);
    this.player.wait(waiting);
    const told = waiting ? this.t(problem ?? "Loading …") : "";
    if (told === this.told) return;
    this.told = told;
    this.#say(told);
    if (told) this.panel.say.classList.add("gs4d-foot");
  }

  /** A dashed line round what the captured camera saw, where the viewport shows more. */
  #outline(entry, wide, high, aspect) {
    const width = Math.min(wide, high * aspect), height = width / aspect, { frame } = this.panel;
    frame.hidden = !entry || (wide - width < 4 && high - height < 4);
    Object.assign(frame.style, {
      width: `${width}px`, height: `${height}px`, left: `${(wide - width) / 2}px`, top: `${(high - height) / 2}px`,
    });
  }

  /** Stop, wait until what is drawn is final (a worker sorts), and draw it into a 2-D canvas. */
  async picture() {
    // one frame at a time, however slow the GL is; a page that is not seen gets no animation frames
    const frame = () => new Promise((done) => { requestAnimationFrame(done); setTimeout(done, 300); });
    this.player.pause();
    for (let quiet = 0, i = 0; quiet < 3 && i < 200 && this.stage && !this.stage.lost; i++) {
      if (!i || this.stage.stale || this.stage.waiting) this.draw();
      await frame();
      for (let waited = 0; this.stage?.busy && waited < 400; waited++) await frame();
      await new Promise((done) => setTimeout(done, 20)); // let the worker that sorts say something
      quiet = this.stage?.unsettled || this.stage?.waiting ? 0 : quiet + 1;
    }
    this.draw();
    const copy = this.document.createElement("canvas");
    [copy.width, copy.height] = [this.panel.canvas.width, this.panel.canvas.height];
    copy.getContext("2d").drawImage(this.panel.canvas, 0, 0); // in the same task as drawing: the buffer is not kept
    return copy;
  }

  #say(text) {
    this.panel.say.textContent = text;
    this.panel.say.hidden = !text;
    this.panel.say.classList.remove("gs4d-foot");
  }

  /** Whether a clip is shown and nothing has gone wrong since. */
  get plays() { return this.clips.length > 0 && this.panel.say.hidden; }

  /** Say why there is nothing to see. */
  fail(error) {
    this.#say(sentence(error));
    this.onError(this.panel.say.textContent);
  }

  /** Say what is to be done before there is something to see. */
  invite(text) { this.#say(this.t(text)); }

  /** Say for a moment, on the button of the camera, what became of it. */
  confirm(text, said = "Camera set") {
    const { use } = this.panel, was = [[...use.childNodes], use.title];
    use.replaceChildren(...(said === "Camera set" ? [icon(this.document, "check")] : []), this.t(said));
    use.title = this.t(text);
    use.disabled = true;
    setTimeout(() => { use.replaceChildren(...was[0]); use.title = was[1]; use.disabled = false; }, 1200);
  }

  #film(movies) {
    this.#say(movies.length ? NO_WEBGL : NO_WEBGL.replace("; showing a video instead", ", and there is no video of the scene"));
    if (!movies.length) return;
    const film = this.document.createElement("video");
    Object.assign(film, { src: movies[movies.length - 1], loop: true, muted: true, autoplay: true, controls: true, playsInline: true });
    film.addEventListener("error", () => { if (film.isConnected) this.#say(advice.film); });
    this.panel.port.querySelector("video")?.remove();
    this.panel.port.prepend(film);
    this.panel.canvas.hidden = true;
    this.panel.say.classList.add("gs4d-foot");
    for (const part of [this.panel.timeline, this.panel.tools]) part.hidden = true;
  }

  /** A lost context (too many of them, or the driver began anew) is opened again on a fresh canvas, once somebody looks. */
  #watch(canvas) {
    canvas.addEventListener("webglcontextlost", (event) => {
      event.stopImmediatePropagation(); // nobody is to ask the browser to give this one back
      if (this.closed || canvas !== this.panel.canvas) return;
      const fresh = canvas.cloneNode(), now = Date.now();
      this.stage?.dispose();
      this.stage = null;
      canvas.replaceWith(fresh);
      this.panel.canvas = fresh;
      this.#watch(fresh);
      this.losses = [...this.losses.filter((at) => now - at < 60_000), now];
      if (this.losses.length > LOSSES) return this.fail(TAKEN + advice.contexts);
      this.broken = true;
      if (this.seen) this.#mend();
    });
  }

  /** Show again what was shown, or was being loaded. */
  #mend() {
    this.broken = false;
    if (this.pending) return this.load(...this.pending);
    const { clips } = this;
    if (!clips.length) return undefined;
    return this.request(async (stillWanted) => {
      await this.#openStage();
      await Promise.all([0, 1].map((i) => this.stage?.show(i, clips[i] ?? null, stillWanted)));
      this.wake();
    }).catch((error) => { if (!this.closed) this.fail(error); });
  }

  /** End: no more drawing, no context kept. */
  async dispose() {
    if (this.closed) return;
    clearTimeout(this.saving);
    this.closed = true;
    cancelAnimationFrame(this.waiting);
    this.sizes.disconnect();
    this.sight.disconnect();
    this.document.removeEventListener("visibilitychange", this.onVisible);
    this.element.remove();
    for (const { segments } of this.clips) segments?.dispose();
    await this.stage?.dispose();
    this.stage = null;
    this.clips = [];
  }
}

async function opened({ name, open, bytes }) {
  const { fromBytes, openClip } = await import("./segments.mjs");
  if (open) return openClip(await open(), name);
  const all = await bytes();
  return openClip(fromBytes(all instanceof Uint8Array ? all : new Uint8Array(all)), name);
}

const sentence = (error) => String(error?.message ?? error);
