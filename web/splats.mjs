// Draws clips with Spark and three, the only file that knows them. A clip's knots lie in textures and are blended on
// the GPU by eight numbers, so that showing another moment uploads nothing; a segment of a long clip is uploaded once.

import { advice } from "./advice.mjs";
import { drawInBatches } from "./batches.mjs";
import { blend } from "./clip.js";

const WIDTH = 2048; // texels of a row of a knot texture, and the most rows of one layer
const EXTRA_BLUR = 0.3; // pixels² on the projected covariance, as the pack's own rasterizers have it
const FAINTEST = 1 / 255; // alpha that still counts there
let library; // one promise for the whole page
let blank = null; // the material that Spark's quad has before a player uses it

/** Thrown where the browser gives no WebGL2. */
class NoWebGL2 extends Error {
  name = "NoWebGL2";
}

/** What a canvas needs to become a stage. Raises NoWebGL2. */
export async function openStage(canvas, onDirty) {
  const gl = canvas.getContext("webgl2", { alpha: true, antialias: false, premultipliedAlpha: true, depth: true });
  if (!gl) throw new NoWebGL2("WebGL 2 is unavailable.");
  library ??= import("./vendor/spark.mjs").catch((error) => {
    library = null; // the server may be back when it is wanted next
    throw new Error(`The player's 3D library could not be loaded (${error?.message ?? error}). ${advice.library}`);
  });
  const lib = await library;
  if (gl.isContextLost()) throw new Error("The browser dropped this player's 3D context.");
  return new Stage(lib, canvas, gl, onDirty);
}

/** A canvas that shows one clip, or two on either side of a divider, at one time through one camera. */
export class Stage {
  constructor(lib, canvas, gl, onDirty) {
    this.lib = lib;
    this.canvas = canvas;
    this.gl = gl;
    this.renderer = new lib.WebGLRenderer({ canvas, context: gl, antialias: false, alpha: true });
    this.renderer.autoClear = false;
    this.renderer.setClearColor(0x000000, 0); // what lies behind is the page's own background
    this.camera = new lib.PerspectiveCamera();
    this.camera.matrixAutoUpdate = false;
    this.onDirty = onDirty;
    this.sides = [null, null];
    this.size = 1;
    this.seconds = 0;
    this.frames = 0; // drawn since the beginning
    this.uploads = 0; // knot textures ever sent to the GPU
    this.fence = null; // passed when the last frame is done
    this.closed = false;
  }

  /** Show a clip on a side (0 left, 1 right), or nothing (null); `stillWanted` may say no while it is being decoded. */
  async show(index, clip, stillWanted = () => true) {
    const side = clip && (await this.#build(clip));
    if (this.closed || !stillWanted()) {
      if (side) await discard(side);
      return;
    }
    const old = this.sides[index];
    this.sides[index] = side;
    this.#place();
    if (old) await discard(old);
  }

  async #build(clip) {
    const { Scene, SparkRenderer, SplatMesh } = this.lib;
    const motion = new Motion(this.lib, clip, this.renderer, () => { this.uploads += 1; });
    const mesh = new SplatMesh({
      // the worker takes its bytes away: the clip keeps its own
      fileBytes: clip.spz.slice(), fileType: "spz", extSplats: true, editable: false, raycastable: false,
      objectModifier: motion.modifier(),
    });
    const spark = new SparkRenderer({
      renderer: this.renderer, onDirty: () => this.onDirty(), enableLod: false, sortRadial: false, accumExtSplats: true,
      preBlurAmount: EXTRA_BLUR, blurAmount: 0, maxStdDev: Math.sqrt(2 * Math.log(1 / FAINTEST)), minAlpha: FAINTEST,
      clipXY: 1.6,
    });
    drawInBatches(spark);
    blank ??= spark.display.constructor.fullScreenQuad.material;
    const scene = new Scene();
    scene.add(spark, mesh);
    const side = { clip, mesh, spark, scene, motion };
    try {
      await mesh.initialized;
    } catch (error) {
      await discard(side);
      throw new Error(`the splat of ${clip.title || "the scene"} could not be read (${error?.message ?? error}); ${advice.again}`);
    }
    return side;
  }

  setTime(seconds) {
    this.seconds = seconds;
    this.#place();
  }

  /** True while a side lacks the motion of its time: the last one that was there is drawn. */
  get waiting() { return this.sides.some((side) => side?.motion.waiting); }

  /** Point size: every Gaussian's extent times this. */
  setSize(size) {
    this.size = size;
    this.#place();
  }

  #place() {
    for (const side of this.sides) if (side?.motion.set(this.seconds, this.size)) side.mesh.updateVersion();
  }

  /**
   * Draw once. `view`: {position, quaternion, projection [16], near, far}, `width` and `height` in device pixels,
   * `divider` 0..1 from the left where two clips are shown.
   */
  draw(view, width, height, divider) {
    if (this.closed || width < 1 || height < 1) return;
    const { renderer, camera } = this;
    const [left, right] = this.sides;
    if (this.canvas.width !== width || this.canvas.height !== height) renderer.setSize(width, height, false);
    camera.position.fromArray(view.position);
    camera.quaternion.fromArray(view.quaternion);
    camera.matrix.compose(camera.position, camera.quaternion, camera.scale);
    camera.matrixWorldNeedsUpdate = true;
    camera.near = view.near;
    camera.far = view.far;
    camera.projectionMatrix.fromArray(view.projection);
    camera.projectionMatrixInverse.copy(camera.projectionMatrix).invert();
    renderer.setScissorTest(false);
    renderer.setViewport(0, 0, width, height);
    renderer.clear();
    const cut = left && right ? Math.round(divider * width) : left ? width : 0;
    this.#part(left, 0, cut, height);
    this.#part(right, cut, width, height);
    renderer.setScissorTest(false);
    this.frames += 1;
    if (this.fence) this.gl.deleteSync(this.fence);
    this.fence = this.gl.fenceSync(this.gl.SYNC_GPU_COMMANDS_COMPLETE, 0);
    this.gl.flush();
  }

  /** True while the GL is still at work on the last frame: another would only queue up behind it. */
  get busy() {
    if (!this.fence || this.lost) return false;
    return this.gl.getSyncParameter(this.fence, this.gl.SYNC_STATUS) !== this.gl.SIGNALED;
  }

  #part(side, from, to, height) {
    if (!side || to <= from) return;
    this.renderer.setScissorTest(true);
    this.renderer.setScissor(from, 0, to - from, height);
    this.renderer.render(side.scene, this.camera);
  }

  /** True while a side is still being sorted, or sorted anew since it was drawn. */
  get unsettled() {
    return this.sides.some((side) => side && (side.spark.sorting || side.spark.sortDirty || side.spark.dirty));
  }

  /** True where drawing again would show something else: another order, another moment. */
  get stale() { return this.sides.some((side) => side?.spark.dirty); }

  get lost() { return this.closed || this.gl.isContextLost(); }

  /** Free everything and give the GL context back. */
  async dispose() {
    if (this.closed) return;
    this.closed = true;
    const sides = this.sides.filter(Boolean);
    this.sides = [null, null];
    await Promise.all(sides.map(discard));
    sides.forEach(release);
    this.renderer.dispose();
    if (!this.gl.isContextLost()) this.renderer.forceContextLoss();
  }
}

async function discard({ mesh, spark, scene, motion }) {
  scene.clear();
  // a sort that is under way ends in a worker: closing it meanwhile would leave its promise rejected
  spark.sortDirty = false;
  for (let waited = 0; spark.sorting && waited < 3000; waited += 20) {
    await new Promise((done) => setTimeout(done, 20));
    spark.sortDirty = false;
  }
  mesh.dispose();
  spark.dispose();
  spark.geometry.dispose();
  spark.material.dispose();
  motion.dispose();
}

/**
 * What Spark's classes share on a page (a quad, empty textures) remembers every renderer that has used it, and with it the
 * canvas and all that listens to it. Disposed of, it forgets them; players that go on make their part again.
 */
function release({ spark, mesh }) {
  for (const kind of [spark.constructor, spark.display?.constructor, mesh.constructor, mesh.extSplats?.constructor])
    for (const shared of Object.values(kind ?? {}).flat()) {
      if (shared?.isTexture) shared.dispose();
      if (!shared?._mesh) continue;
      shared._mesh.geometry.dispose();
      shared.material.dispose();
      shared.material = blank;
    }
}

/** A clip's knots on the GPU, and the shader that blends them into each Gaussian. */
class Motion {
  constructor(lib, clip, renderer, onUpload) {
    this.lib = lib;
    this.segments = clip.segments ?? null;
    this.motion = clip.motion; // the one that is drawn
    this.renderer = renderer;
    this.onUpload = onUpload;
    this.names = this.segments?.tracks ?? Object.keys(clip.motion?.tracks ?? {});
    this.uploaded = new Map(); // motion → textures by track
    this.waiting = false;
    const { dyno } = lib, vector = () => new dyno.DynoVec4({ value: new lib.Vector4() });
    this.uniforms = {
      knots: new dyno.DynoIvec4({ value: new lib.Vector4() }),
      weights: new dyno.DynoVec4({ value: new lib.Vector4(1, 0, 0, 0) }),
      size: new dyno.DynoFloat({ value: 1 }),
      moving: new dyno.DynoInt({ value: 0 }),
    };
    this.empty = this.names.length ? this.#texture({ channels: 3, bits: 8, planes: [0, 0, 0] }, 1) : null;
    for (const name of this.names) {
      this.uniforms[name] = new dyno.DynoUsampler2DArray({ value: this.empty });
      this.uniforms[`${name}Low`] = vector();
      this.uniforms[`${name}Step`] = vector();
    }
    if (this.motion) this.#use(this.motion);
    this.shown = null;
  }

  /** Take another time and size; true where that changes anything. */
  set(seconds, size) {
    const { segments } = this;
    if (segments) {
      segments.want(seconds);
      const found = segments.at(seconds);
      this.waiting = !found;
      if (found && found !== this.motion) this.#use(found);
      this.#sweep();
    }
    if (!this.waiting) this.at = this.motion ? blend(this.motion, seconds) : null;
    const at = this.at ?? { knots: [0, 0, 0, 0], weights: [1, 0, 0, 0] };
    const key = [...at.knots, ...at.weights, size, this.turn].join();
    if (key === this.shown) return false;
    this.shown = key;
    this.uniforms.knots.value.fromArray(at.knots);
    this.uniforms.weights.value.fromArray(at.weights);
    this.uniforms.size.value = size;
    return true;
  }

  /** Draw with another segment's knots. */
  #use(motion) {
    this.motion = motion;
    this.turn = (this.turn ?? 0) + 1;
    const textures = this.#upload(motion);
    this.uniforms.moving.value = motion.moving;
    for (const name of this.names) {
      const { low, high, bits } = motion.tracks[name], vec = (v) => [0, 1, 2, 3].map((c) => v[c] ?? 0);
      this.uniforms[name].value = textures[name];
      this.uniforms[`${name}Low`].value.fromArray(vec(low));
      this.uniforms[`${name}Step`].value.fromArray(vec(low.map((l, c) => (high[c] - l) / (2 ** bits - 1))));
    }
  }

  #upload(motion) {
    if (!this.uploaded.has(motion)) {
      const { knots, moving, tracks } = motion;
      this.uploaded.set(motion, Object.fromEntries(this.names.map((name) => [name, this.#texture(tracks[name], knots.length * moving)])));
      this.names.forEach(this.onUpload);
    }
    return this.uploaded.get(motion);
  }

  /** Upload the next segment before it is needed, and free what is no longer held. */
  #sweep() {
    const { segments } = this, held = new Set(segments.held.values());
    const next = segments.held.get(segments.wanted[1]);
    if (!this.waiting && next && !this.uploaded.has(next))
      for (const texture of Object.values(this.#upload(next))) this.renderer.initTexture(texture);
    for (const [motion, textures] of this.uploaded)
      if (motion !== this.motion && !held.has(motion)) {
        this.uploaded.delete(motion);
        for (const texture of Object.values(textures)) texture.dispose();
      }
  }

  modifier() {
    const { dyno } = this.lib;
    const inTypes = { gsplat: dyno.Gsplat, knots: "ivec4", weights: "vec4", size: "float", moving: "int" };
    for (const name of this.names) Object.assign(inTypes, { [name]: "usampler2DArray", [`${name}Low`]: "vec4", [`${name}Step`]: "vec4" });
    return dyno.dynoBlock({ gsplat: dyno.Gsplat }, { gsplat: dyno.Gsplat }, ({ gsplat }) => {
      const moved = new dyno.Dyno({
        inTypes, outTypes: { gsplat: dyno.Gsplat }, inputs: { ...this.uniforms, gsplat },
        globals: () => [KNOTS_GLSL],
        statements: ({ inputs: i, outputs: o }) => this.#statements(i, o.gsplat),
      });
      return { gsplat: moved.outputs.gsplat };
    });
  }

  #statements(i, out) {
    const at = (name) => {
      const how = name === "rotation" ? "gs4dTurnAt" : "gs4dBlend";
      return `${how}(${i[name]}, ${i.knots}, ${i.weights}, ${out}.index, ${i.moving}, ${i[`${name}Low`]}.xyz, ${i[`${name}Step`]}.xyz)`;
    };
    const each = {
      position: () => `${out}.center += ${at("position")};`,
      rotation: () => `${out}.quaternion = quatQuat(${at("rotation")}, ${out}.quaternion);`,
      scale: () => `${out}.scales *= exp(${at("scale")});`,
      opacity: () => `${out}.rgba.a = clamp(${at("opacity")}.x, 0.0, 1.0);`,
      color: () => `${out}.rgba.rgb += ${at("color")};`,
    };
    const moves = Object.keys(each).filter((name) => this.names.includes(name)).map((name) => each[name]());
    return [
      `${out} = ${i.gsplat};`,
      ...(moves.length ? [`if (${out}.index < ${i.moving}) {`, ...moves, "}"] : []),
      `${out}.scales *= ${i.size};`,
    ];
  }

  /** Knot k of Gaussian m is texel k · M + m, counted along rows, then layers. */
  #texture({ channels, bits, planes }, texels) {
    const { lib } = this, rows = Math.ceil(texels / WIDTH);
    const height = Math.min(rows, WIDTH), depth = Math.ceil(rows / WIDTH), lanes = channels === 1 ? 1 : 4;
    const data = new (bits <= 8 ? Uint8Array : Uint16Array)(WIDTH * height * depth * lanes);
    for (let c = 0; c < channels; c++)
      for (let t = 0, from = c * texels; t < texels; t++) data[t * lanes + c] = planes[from + t];
    const texture = new lib.DataArrayTexture(data, WIDTH, height, depth);
    texture.format = lanes === 1 ? lib.RedIntegerFormat : lib.RGBAIntegerFormat;
    texture.type = bits <= 8 ? lib.UnsignedByteType : lib.UnsignedShortType;
    texture.internalFormat = `${lanes === 1 ? "R" : "RGBA"}${bits <= 8 ? 8 : 16}UI`;
    texture.minFilter = texture.magFilter = lib.NearestFilter;
    texture.generateMipmaps = false;
    texture.unpackAlignment = 1;
    texture.onUpdate = () => { texture.image.data = null; }; // the page's copy is not needed any more
    texture.needsUpdate = true;
    return texture;
  }

  dispose() {
    for (const textures of this.uploaded.values()) for (const texture of Object.values(textures)) texture.dispose();
    this.uploaded.clear();
    this.empty?.dispose();
  }
}

const KNOTS_GLSL = `
vec3 gs4dKnot(highp usampler2DArray track, int knot, int m, int moving) {
  int t = knot * moving + m;
  return vec3(texelFetch(track, ivec3(t & ${WIDTH - 1}, (t / ${WIDTH}) & ${WIDTH - 1}, t / ${WIDTH * WIDTH}), 0).xyz);
}
vec3 gs4dBlend(highp usampler2DArray track, ivec4 knots, vec4 weights, int m, int moving, vec3 low, vec3 step) {
  vec3 sum = weights.x * gs4dKnot(track, knots.x, m, moving);
  if (weights.y != 0.0) sum += weights.y * gs4dKnot(track, knots.y, m, moving);
  if (weights.z != 0.0) sum += weights.z * gs4dKnot(track, knots.z, m, moving);
  if (weights.w != 0.0) sum += weights.w * gs4dKnot(track, knots.w, m, moving);
  return low + step * sum;
}
vec4 gs4dTurn(vec3 v) {
  float square = dot(v, v);
  return vec4(v / max(1.0, sqrt(square)), sqrt(max(0.0, 1.0 - square)));
}
// as turnsAt of clip.js
vec4 gs4dTurnAt(highp usampler2DArray track, ivec4 knots, vec4 weights, int m, int moving, vec3 low, vec3 step) {
  vec4 before = gs4dTurn(low + step * gs4dKnot(track, knots.x, m, moving)), sum = weights.x * before;
  for (int k = 1; k < 4; k++) {
    if (knots[k] == knots[k - 1]) { sum += weights[k] * before; continue; }
    vec4 q = gs4dTurn(low + step * gs4dKnot(track, knots[k], m, moving));
    if (dot(q, before) < 0.0) q = -q;
    sum += weights[k] * q;
    before = q;
  }
  return normalize(sum);
}
`;
