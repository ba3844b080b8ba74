// Time: play, pause, scrub, loop, speed, and which captured moment that is. Knows no page and no GPU.

export const SPEEDS = [0.1, 0.25, 0.5, 1, 2, 4];
const SLOW_FRAME = 80; // milliseconds, more than any GPU takes
const RESTED_FRAMES = 2; // whose time is left to others after a slow one
const LONGEST_STEP = 0.25; // seconds; a tab that slept does not jump

/** A clock over the moments of a clip. `onChange` is called whenever something that a person sees has changed. */
export class Player {
  constructor(onChange = () => {}) {
    this.onChange = onChange;
    this.times = [0];
    this.period = 1; // seconds of one round when looping: the last moment stays as long as any other
    this.time = 0;
    this.speed = 1;
    this.loop = true;
    this.playing = false;
    this.last = null; // when the clock was looked at, in seconds
    this.waits = false; // for what is to be shown: the clock stands still meanwhile
    this.round = 0; // seconds into the round, which goes on where `time` waits at the last moment
  }

  /** @param {number[]} times seconds, ascending  @param {number} fps natural rate */
  setMoments(times, fps) {
    this.times = times;
    this.period = this.end - this.start + (times.length > 1 ? 1 / fps : 0);
    if (times.length < 2) this.playing = false;
    this.seek(this.time);
  }

  get start() { return this.times[0]; }
  get end() { return this.times[this.times.length - 1]; }
  get moves() { return this.times.length > 1; }
  get frames() { return this.times.length; }

  /** Number of the captured moment nearest to now. */
  get frame() { return nearest(this.times, this.time); }

  play() {
    if (this.playing || !this.moves) return;
    if (!this.loop && this.time >= this.end) this.seek(this.start);
    this.playing = true;
    this.last = null;
    this.onChange();
  }

  pause() {
    if (!this.playing) return;
    this.playing = false;
    this.onChange();
  }

  toggle() { this.playing ? this.pause() : this.play(); }

  /** Go to a time in seconds; between captured moments too. */
  seek(seconds) {
    if (!Number.isFinite(seconds)) return;
    this.time = Math.min(Math.max(seconds, this.start), this.end);
    this.round = this.time - this.start;
    this.onChange();
  }

  /** So many captured moments on (or back), and stop there. */
  step(count) {
    this.playing = false;
    let to = this.frame + count;
    to = this.loop ? ((to % this.frames) + this.frames) % this.frames : Math.min(Math.max(to, 0), this.frames - 1);
    this.seek(this.times[to]);
  }

  /** Stand still, though playing, until what is to be shown is there. */
  wait(waits) {
    if (this.waits && !waits) this.last = null;
    this.waits = waits;
  }

  setSpeed(speed) {
    if (!(speed > 0)) return;
    this.speed = Math.min(Math.max(speed, SPEEDS[0]), SPEEDS[SPEEDS.length - 1]);
    this.onChange();
  }

  setLoop(loop) {
    this.loop = Boolean(loop);
    this.onChange();
  }

  /** Let the clock run to `now` (seconds, of any clock); true while playing. */
  tick(now) {
    if (!this.playing || this.waits) return false;
    const passed = this.last === null ? 0 : Math.min(Math.max(now - this.last, 0), LONGEST_STEP) * this.speed;
    this.last = now;
    this.round += passed;
    if (this.loop) this.round %= this.period;
    else if (this.start + this.round >= this.end) this.playing = false;
    this.time = Math.min(this.start + this.round, this.end);
    this.onChange();
    return this.playing;
  }
}

/** How often a player draws while others need the CPU: without a GPU, drawing takes the cores that a run needs. */
export class Pace {
  constructor() {
    this.began = null; // when a frame was begun that is not finished, in milliseconds
    this.ended = 0; // when the last one was finished
    this.took = 0;
  }

  /** A frame is begun at `now`. */
  begin(now) { this.began = now; }

  /** Told whenever no frame is in the making. */
  finish(now) {
    if (this.began === null) return;
    [this.took, this.ended, this.began] = [now - this.began, now, null];
  }

  /** Whether the next frame should wait. */
  rests(now) { return this.took > SLOW_FRAME && now < this.ended + RESTED_FRAMES * this.took; }
}

/** Index of the value nearest to `wanted` in an ascending list. */
export function nearest(values, wanted) {
  let low = 0, high = values.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (values[middle] <= wanted) low = middle;
    else high = middle;
  }
  return wanted - values[low] <= values[high] - wanted ? low : high;
}

/** What a graph keeps of a player, {files, movies, notes, view}, of whatever stands there: graphs are edited by hand too. */
export function remembered(given) {
  const kept = given && typeof given === "object" && !Array.isArray(given) ? given : {};
  const refs = (list) => (Array.isArray(list) ? list.filter((each) => typeof each?.filename === "string") : []);
  return {
    ...kept, files: refs(kept.files), movies: refs(kept.movies),
    notes: Array.isArray(kept.notes) ? kept.notes.filter((note) => typeof note === "string") : [],
  };
}

/** Of requests that take their time only the newest counts: the others end as undefined, their errors unsaid. */
export function newest() {
  let latest = 0;
  return async (work) => {
    const mine = ++latest;
    try {
      const value = await work(() => mine === latest);
      return mine === latest ? value : undefined;
    } catch (error) {
      if (mine === latest) throw error;
      return undefined;
    }
  };
}
