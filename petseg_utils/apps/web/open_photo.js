// A photo that a user works on: `OpenPhoto` of `segmenter.py`, with the same rules.

import { cutOut, softAlpha } from "./edges.js";
import {
  CLASSES, clickedSide, cropped, drawPrompts, effectOf, enlargedMask, fillCircle, HELD, LEAST, letterbox, limited, moved,
  partWith, petChance, remnants, rounded, scaled, sigmoid, smoothed, softmax, squared, unsureParts, withinBoxes, withinReach,
} from "./clicks.js";

/** @typedef {import("./clicks.js").Prompt} Prompt */

/**
 * What runs the networks.
 * @typedef {object} Model
 * @property {number} size edge of its square in pixels
 * @property {number} scale how many times larger the photos that it sees are
 * @property {number} peak see `unsureParts`
 * @property {(square: Uint8Array) => Promise<Seen>} look everything that does not depend on prompts
 * @property {(seen: Seen, maps: Float32Array, latest: number, side: number) => Promise<Float32Array>} select logits
 */

/** @typedef {{logits: Float32Array, cells: Float32Array, rest: any}} Seen */

/**
 * A pixel counts as selected if its probability is more than 1/2; `inner` is the photo's part of it, smoothed.  `side`
 * is 1, or -1 if the background is wanted.
 * @typedef {{chance: Float32Array, inner: Float32Array, side: number}} Step
 */

/**
 * What a click selects: the photo's pets, or whatever the first click is on.
 * @typedef {"pet" | "clicked"} Target
 */

const MEASURED = 1024; // longer side in pixels at which the selected share of a large photo is measured

export class OpenPhoto {
  /**
   * @param {Uint8Array} image RGB
   * @param {number} width @param {number} height
   * @param {Model} model @param {Seen} seen @param {Target} target
   */
  constructor(image, width, height, model, seen, target) {
    this.image = image;
    this.width = width;
    this.height = height;
    this.model = model;
    this.seen = seen;
    this.target = target;
    this.box = letterbox(width, height, model.size);
    this.classes = softmax(seen.logits);
    const pet = petChance(seen.logits);
    const unsure = unsureParts(this.classes.subarray(0, pet.length).map((ground) => 1 - ground), model.size, model.peak);
    /** @type {Prompt[]} */
    this.prompts = []; // in the photo's pixels
    /** @type {{width: number, height: number, mask: Uint8Array<ArrayBuffer>} | null} */
    this.latest = null; // the last mask asked for, as long as nothing has changed
    this.steps = [this.stepOf(pet.map((chance, at) => (unsure[at] ? Math.min(chance, 1 - chance) : chance)), 1)];
  }

  /**
   * @param {Uint8Array} image RGB
   * @param {number} width @param {number} height
   * @param {Model} model @param {Target} target
   */
  static async open(image, width, height, model, target) {
    const seen = await model.look(squared(image, letterbox(width, height, model.size), model.scale));
    return new OpenPhoto(image, width, height, model, seen, target);
  }

  /**
   * The same photo without its prompts, for another target.
   * @param {Target} target
   */
  anew(target) {
    return new OpenPhoto(this.image, this.width, this.height, this.model, this.seen, target);
  }

  /** @returns {Step} */
  get last() {
    return this.steps[this.steps.length - 1];
  }

  /**
   * Add a prompt, whose points must lie within the photo.
   * @param {Prompt} prompt
   */
  async add(prompt) {
    const step = await this.nextStep([...this.prompts, prompt]);
    this.prompts.push(prompt);
    this.steps.push(step);
    this.latest = null;
  }

  undo() {
    this.prompts.pop();
    if (this.steps.length > 1) this.steps.pop();
    this.latest = null;
  }

  clear() {
    this.prompts = [];
    this.steps = this.steps.slice(0, 1);
    this.latest = null;
  }

  /**
   * What is selected now, 0 and 1, at any size; callers must not change the result.
   * @param {number} width @param {number} height
   */
  maskAt(width, height) {
    if (this.latest?.width === width && this.latest.height === height) return this.latest.mask;
    const mask = enlargedMask(this.last.inner, this.box.width, this.box.height, width, height);
    const allowed = this.allowed(width, height);
    if (allowed) for (let at = 0; at < mask.length; at++) mask[at] &= allowed[at];
    this.latest = { width, height, mask };
    return mask;
  }

  /** How much of each of the photo's pixels is selected, 0 to 255: along the outline, the photo's own edges decide. */
  alpha() {
    const { width, height, box } = this;
    const alpha = softAlpha(this.image, width, height, this.last.inner, box.width, box.height);
    const allowed = this.allowed(width, height);
    if (allowed) for (let at = 0; at < alpha.length; at++) alpha[at] *= allowed[at];
    const clicks = this.prompts.filter(({ kind }) => kind === "click");
    if (clicks.length) {
      const mask = this.maskAt(width, height);
      const radius = rounded(Math.max(width, height) / (2 * box.size));
      for (const { points: [[x, y]] } of clicks) { // what the user clicked on is never lost along an edge
        const [column, row] = [limited(rounded(x), 0, width - 1), limited(rounded(y), 0, height - 1)];
        const at = row * width + column;
        if (alpha[at] > 127 !== mask[at] > 0) fillCircle(alpha, width, height, column, row, radius, 255 * mask[at]);
      }
    }
    return alpha;
  }

  /** The selected part of the photo, RGBA. */
  cutOut() {
    return cutOut(this.image, this.alpha(), this.width, this.height, this.model.size);
  }

  /** `cat` or `dog`, the likelier one of the selection, or of the photo if nothing is selected; or `background`. */
  get label() {
    if (this.last.side < 0) return CLASSES[0];
    const inner = this.limitedInner;
    const nothing = !inner.some((chance) => chance > 0.5);
    const [cat, dog] = [1, 2].map((value) => {
      const area = this.classes.length / 3;
      const chances = cropped(this.classes.subarray(value * area, (value + 1) * area), this.box);
      let sum = 0;
      for (let at = 0; at < chances.length; at++) if (nothing || inner[at] > 0.5) sum += chances[at];
      return sum;
    });
    return CLASSES[dog > cat ? 2 : 1];
  }

  /** Share of the photo that is selected, 0 to 1. */
  get share() {
    const scale = Math.min(1, MEASURED / Math.max(this.width, this.height));
    const [width, height] = [this.width, this.height].map((side) => Math.max(1, rounded(scale * side)));
    const mask = this.maskAt(width, height);
    let selected = 0;
    for (let at = 0; at < mask.length; at++) selected += mask[at];
    return selected / (width * height);
  }

  /** Mean probability that a selected pixel is rightly selected; 0 if none is. */
  get confidence() {
    const inner = this.limitedInner;
    let [sum, count] = [0, 0];
    for (let at = 0; at < inner.length; at++) {
      if (inner[at] > 0.5) {
        sum += inner[at];
        count += 1;
      }
    }
    return count ? sum / count : 0;
  }

  /** What is selected or, if nothing is, what comes next, and whether the latest click had no effect. */
  get sentence() {
    const share = this.share;
    const how = this.prompts.length ? "Selected" : "Proposed";
    const said = share
      ? `${how}: ${this.label}, ${(100 * share).toFixed(1)}% of the photo, with confidence ` +
        `${(100 * this.confidence).toFixed(0)}%.`
      : `Nothing is selected. Click on ${this.target === "clicked" ? "what you want" : "the pet"}.`;
    return this.liesOutside ? `${said} The last click lies outside the box.` : said;
  }

  /**
   * What to say after the photo was opened again for this target.
   * @param {boolean} cleared there were clicks before
   */
  afterSwitch(cleared) {
    const before = cleared ? "Your clicks were cleared, because a click means something else now. " : "";
    if (this.target === "clicked") return `${before}Click on what you want: one of the pets, or the background.`;
    return before + this.sentence;
  }

  /** Whether the latest prompt is a click that would add something, but lies outside the boxes. */
  get liesOutside() {
    const latest = this.prompts[this.prompts.length - 1];
    if (!latest || effectOf(latest) <= 0) return false;
    const boxes = this.prompts.filter(({ kind }) => kind === "box");
    const [x, y] = [this.width, this.height].map((side, axis) => limited(rounded(latest.points[0][axis]), 0, side - 1));
    // The one pixel is looked up as a picture of one pixel, with it as the upper left corner.
    return boxes.length > 0 && !withinBoxes(boxes.map((box) => scaled(box, 1, 1, -x, -y)), 1, 1)?.[0];
  }

  /** @param {Float32Array} chance @param {number} side @returns {Step} */
  stepOf(chance, side) {
    return { chance, inner: smoothed(cropped(chance, this.box), this.box.width, this.box.height), side };
  }

  /** @param {number} width @param {number} height */
  allowed(width, height) {
    const [across, down] = [width / this.width, height / this.height];
    return withinBoxes(this.prompts.map((prompt) => scaled(prompt, across, down)), width, height);
  }

  /** Each of the photo's pixels' probability of being selected, at the model's size; 0 outside the boxes. */
  get limitedInner() {
    const { inner } = this.last;
    const allowed = this.allowed(this.box.width, this.box.height);
    // Boxes smaller than one of these pixels limit nothing here.
    return allowed?.includes(1) ? inner.map((chance, at) => chance * allowed[at]) : inner;
  }

  /** @param {Prompt[]} prompts @returns {Promise<Step>} */
  async nextStep(prompts) {
    const { model, box } = this;
    const own = prompts.map((prompt) => moved(prompt, box));
    const [earlier, latest] = [own.slice(0, -1), own[own.length - 1]];
    const effect = effectOf(latest);
    if (!effect && earlier.some(effectOf)) return this.last; // a box after clicks is only a limit
    let { chance: previous, side } = this.last;
    const maps = drawPrompts(own, model.size);
    const chooses = this.target === "clicked" && effect > 0 && !earlier.some((prompt) => effectOf(prompt) > 0);
    if (chooses) {
      side = clickedSide(this.seen.cells, petChance(this.seen.logits), maps, model.size);
      if (side < 0) {
        const refused = maps.subarray(previous.length, 2 * previous.length); // by earlier clicks
        previous = this.steps[0].chance.map((chance, at) => (refused[at] > HELD ? LEAST : 1 - chance));
      }
    }
    // As in training: the selection that the head is given lies within the boxes that had been drawn by then.
    const allowed = withinBoxes(earlier, model.size, model.size);
    const before = allowed ? previous.map((chance, at) => chance * allowed[at]) : previous;
    maps.set(before, 3 * before.length);
    const logits = await model.select(this.seen, maps, effect, side);
    const ofPhoto = new Uint8Array(before.length);
    for (let row = box.top; row < box.top + box.height; row++) {
      for (let column = box.left; column < box.left + box.width; column++) {
        const at = row * model.size + column;
        ofPhoto[at] = before[at] > 0.5 ? 1 : 0;
      }
    }
    const near = withinReach(latest, ofPhoto, model.size);
    const join = effect > 0 ? Math.max : effect < 0 ? Math.min : (/** @type {number} */ selected) => selected;
    const selected = previous.map((chance, at) => (near && !near[at] ? chance : join(sigmoid(logits[at]), chance)));
    let unwanted = remnants(own, before, ofPhoto, selected, model.size);
    const part = chooses && side > 0 ? partWith(selected, latest, model.size) : null;
    if (part) unwanted = part.map((inside) => 1 - inside);
    const chosen = selected.map((chance, at) => (unwanted?.[at] ? Math.min(chance, 1 - chance) : chance));
    return this.stepOf(chosen, side);
  }
}
