// Converts photos, clicks and boxes to the model's inputs, and the model's outputs back to a photo: the arithmetic of
// `data/transforms.py`, `models/prompts.py` and `models/selection.py`, which tests compare with this file.
// Nothing here depends on a page or a network connection.

/**
 * A click at `points[0]`, or a box with two opposite corners in `points`; pixel centres at whole numbers.
 * @typedef {{kind: "click" | "box", points: [number, number][], positive: boolean}} Prompt
 */

/**
 * How a photo fits into the model's square, see `letterbox`.
 * @typedef {{photoWidth: number, photoHeight: number, size: number, left: number, top: number, width: number,
 *   height: number}} Letterbox
 */

/**
 * For each pixel of a result: the first source pixel that counts, and the weights of it and of those that follow.
 * @typedef {{firsts: Int32Array, weights: Int32Array, taps: number}} Taps
 */

export const CLASSES = ["background", "cat", "dog"];
const PADDING_COLOUR = [124, 116, 104];
const SIGMA = 4; // standard deviation of a click in model pixels
export const HELD = 0.75; // a click is drawn at least this high in the pixels that it decides by itself
const BOX_MARGIN = 0.03; // of a box's longer side
const REACH = { adds: 3, takes: 1.5 }; // how far a click acts, as a multiple of its distance to the selection's edge
const LEAST_REACH = { adds: 20, takes: 6 }; // in model pixels, if that is more
const SURE = 0.98; // a model is rarely this sure of something that is not a pet; see `remnants`
const LARGEST = 8; // the proposal's logits are limited to this
export const LEAST = Math.fround(1 / (1 + Math.exp(LARGEST))); // probability of a pixel that is certainly not selected
const BITS = 22; // of a weight's fraction, as in Pillow
const FINE = 4; // edge of the decoder's cells in model pixels
const CENTRE = 0.97; // a drawn click is this high only at its own pixel and the ones next to it
const [UNDER_REACH, UNDER_DIFFERENCE] = [8, 3]; // see `clickedSide`
const DOUBT = 0.4; // if a pet is less likely than this under a click, the click is on the background
const BLUR = 1.5; // standard deviation, in model pixels, of the smoothing of results

/**
 * Round to the nearest whole number, halves to the even one, as Python does.
 * @param {number} value
 */
export function rounded(value) {
  const low = Math.floor(value);
  return value - low === 0.5 ? low + (low % 2 === 0 ? 0 : 1) : Math.round(value);
}

/** @param {number} value @param {number} low @param {number} high */
export function limited(value, low, high) {
  return Math.min(Math.max(value, low), high);
}

/**
 * Fit a photo into a square: its longer side to the edge, the rest padded.
 * @param {number} photoWidth @param {number} photoHeight @param {number} size
 * @returns {Letterbox}
 */
export function letterbox(photoWidth, photoHeight, size) {
  const longest = Math.max(photoWidth, photoHeight);
  const [width, height] = [photoWidth, photoHeight].map((side) => Math.max(1, rounded((side * size) / longest)));
  const [left, top] = [width, height].map((side) => Math.floor((size - side) / 2));
  return { photoWidth, photoHeight, size, left, top, width, height };
}

/**
 * Put a photo into its padded square, `scale` times as large as the letterbox says, RGB.
 * @param {Uint8Array} photo RGB
 * @param {Letterbox} box
 * @param {number} scale
 */
export function squared(photo, box, scale) {
  const edge = scale * box.size;
  const [width, height] = [scale * box.width, scale * box.height];
  const shrunk = resampled(photo, box.photoWidth, box.photoHeight, bilinear(box.photoWidth, width),
    bilinear(box.photoHeight, height));
  const square = new Uint8Array(3 * edge * edge);
  for (let at = 0; at < square.length; at++) square[at] = PADDING_COLOUR[at % 3];
  for (let row = 0; row < height; row++) {
    const start = 3 * ((scale * box.top + row) * edge + scale * box.left);
    square.set(shrunk.subarray(3 * row * width, 3 * (row + 1) * width), start);
  }
  return square;
}

/**
 * Weights that resize a side of `from` pixels to `to`: linear between pixels or, if the side shrinks, a triangle over
 * all pixels that become one, as in Pillow's `BILINEAR`.
 * @param {number} from @param {number} to
 * @returns {Taps}
 */
export function bilinear(from, to) {
  const ratio = from / to;
  const reach = Math.max(ratio, 1);
  return tapsOf(to, 2 * Math.ceil(reach) + 1, (at) => {
    const centre = (at + 0.5) * ratio;
    const first = Math.max(0, Math.trunc(centre - reach + 0.5));
    const end = Math.min(from, Math.trunc(centre + reach + 0.5));
    return [first, end, (/** @type {number} */ pixel) => Math.max(0, 1 - Math.abs((pixel + 0.5 - centre) / reach))];
  });
}

/**
 * Weights that shrink a side: each pixel counts by its overlap with the new one, as in OpenCV's `INTER_AREA`.
 * @param {number} from @param {number} to
 * @returns {Taps}
 */
export function byArea(from, to) {
  const ratio = from / to;
  return tapsOf(to, Math.ceil(ratio) + 2, (at) => {
    const [start, stop] = [at * ratio, (at + 1) * ratio];
    const inside = (/** @type {number} */ pixel) => Math.max(0, Math.min(stop, pixel + 1) - Math.max(start, pixel));
    return [Math.floor(start), Math.min(from, Math.ceil(stop)), inside];
  });
}

/**
 * @param {number} length @param {number} taps
 * @param {(at: number) => [number, number, (pixel: number) => number]} windowOf first, end, and the weight of each
 * @returns {Taps}
 */
function tapsOf(length, taps, windowOf) {
  const firsts = new Int32Array(length);
  const weights = new Int32Array(length * taps);
  for (let at = 0; at < length; at++) {
    const [first, end, weightOf] = windowOf(at);
    let sum = 0;
    for (let pixel = first; pixel < end; pixel++) sum += weightOf(pixel);
    for (let pixel = first; pixel < end; pixel++) {
      weights[at * taps + pixel - first] = Math.trunc(0.5 + (weightOf(pixel) / sum) * 2 ** BITS);
    }
    firsts[at] = first;
  }
  return { firsts, weights, taps };
}

/**
 * Resize a picture by weights, across and then down, rounding to whole numbers after each, as Pillow does.
 * @param {Uint8Array} pixels RGB @param {number} width @param {number} height
 * @param {Taps} across @param {Taps} down
 */
export function resampled(pixels, width, height, across, down) {
  const [columns, rows] = [across.firsts.length, down.firsts.length];
  const narrow = new Uint8Array(3 * columns * height);
  const last = 3 * (width - 1);
  for (let row = 0, to = 0; row < height; row++) {
    const start = 3 * row * width;
    for (let column = 0; column < columns; column++, to += 3) {
      let [red, green, blue] = [2 ** (BITS - 1), 2 ** (BITS - 1), 2 ** (BITS - 1)];
      let from = start + 3 * across.firsts[column];
      for (let tap = column * across.taps, end = tap + across.taps; tap < end && from <= start + last; tap++, from += 3) {
        const weight = across.weights[tap];
        red += pixels[from] * weight;
        green += pixels[from + 1] * weight;
        blue += pixels[from + 2] * weight;
      }
      narrow[to] = Math.min(255, red >> BITS);
      narrow[to + 1] = Math.min(255, green >> BITS);
      narrow[to + 2] = Math.min(255, blue >> BITS);
    }
  }
  const result = new Uint8Array(3 * columns * rows);
  const sums = new Int32Array(3 * columns);
  for (let row = 0; row < rows; row++) {
    sums.fill(2 ** (BITS - 1));
    for (let tap = 0; tap < down.taps && down.firsts[row] + tap < height; tap++) {
      const weight = down.weights[row * down.taps + tap];
      if (!weight) continue;
      const start = (down.firsts[row] + tap) * sums.length;
      for (let at = 0; at < sums.length; at++) sums[at] += narrow[start + at] * weight;
    }
    for (let at = 0; at < sums.length; at++) result[row * sums.length + at] = Math.min(255, sums[at] >> BITS);
  }
  return result;
}

/**
 * Convert a prompt to a picture that is `across` times as wide and `down` times as high, and shift it.
 * @param {Prompt} prompt @param {number} across @param {number} down @param {number} [left] @param {number} [top]
 * @returns {Prompt}
 */
export function scaled(prompt, across, down, left = 0, top = 0) {
  const move = (/** @type {[number, number]} */ [x, y]) =>
    /** @type {[number, number]} */ ([(x + 0.5) * across - 0.5 + left, (y + 0.5) * down - 0.5 + top]);
  return { ...prompt, points: prompt.points.map(move) };
}

/**
 * Convert a prompt from the photo's pixels to model pixels.
 * @param {Prompt} prompt @param {Letterbox} box
 */
export function moved(prompt, box) {
  return scaled(prompt, box.width / box.photoWidth, box.height / box.photoHeight, box.left, box.top);
}

/**
 * A box's edges in the order left, top, right, bottom.
 * @param {Prompt} prompt
 */
function edgesOf({ points: [[x0, y0], [x1, y1]] }) {
  return [Math.min(x0, x1), Math.min(y0, y1), Math.max(x0, x1), Math.max(y0, y1)];
}

/**
 * Draw prompts as four maps: positive clicks, negative clicks, boxes, and the last selection.
 * @param {Prompt[]} prompts in model pixels
 * @param {number} size
 * @param {Float32Array} [previous] probabilities
 */
export function drawPrompts(prompts, size, previous) {
  const area = size * size;
  const maps = new Float32Array(4 * area);
  for (const prompt of prompts) {
    const [[x, y]] = prompt.points;
    const box = prompt.kind === "box";
    const [left, top, right, bottom] = box ? edgesOf(prompt) : [x, y, x, y];
    const [across, down] = [bump(left, right, size), bump(top, bottom, size)];
    const channel = box ? 2 : prompt.positive ? 0 : 1;
    const [first, last] = [across.findIndex(Boolean), size - 1 - across.slice().reverse().findIndex(Boolean)];
    for (let row = 0; row < size; row++) {
      if (!down[row]) continue;
      for (let column = first, at = row * size + first; column <= last; column++, at++) {
        const drawn = Math.fround(down[row] * across[column]);
        if (drawn > maps[channel * area + at]) maps[channel * area + at] = drawn;
        if (!box && drawn > HELD) {
          const other = (1 - channel) * area + at;
          maps[other] = Math.min(maps[other], HELD);
        }
      }
    }
  }
  if (previous) maps.set(previous, 3 * area);
  return maps;
}

/** @param {number} low @param {number} high @param {number} size */
function bump(low, high, size) {
  return Float32Array.from({ length: size }, (_, pixel) => {
    const outside = Math.max(low - pixel, pixel - high, 0);
    return Math.exp((-outside * outside) / (2 * SIGMA * SIGMA));
  });
}

/**
 * The effect of the latest prompt: 1 adds to the selection, -1 takes away, 0 is a box.
 * @param {Prompt} prompt
 */
export function effectOf(prompt) {
  return prompt.kind === "box" ? 0 : prompt.positive ? 1 : -1;
}

/**
 * The pixel in which a click lies, or the nearest one; its place in a map.
 * @param {Prompt} click in model pixels
 * @param {number} size
 */
function pixelOf({ points: [point] }, size) {
  const [column, row] = point.map((place) => limited(rounded(place), 0, size - 1));
  return row * size + column;
}

/**
 * Where the latest prompt may change the selection; null if everywhere.
 * @param {Prompt} prompt in model pixels
 * @param {Uint8Array} selected what was selected of the photo, 0 and 1
 * @param {number} size
 */
export function withinReach(prompt, selected, size) {
  const effect = effectOf(prompt);
  if (!effect || (effect > 0 && !selected.includes(1))) return null;
  const clicked = pixelOf(prompt, size);
  if (effect > 0 && selected[clicked]) return null;
  const [row, column] = [Math.floor(clicked / size), clicked % size];
  // Distance to the nearest pixel of the other kind.
  let square = effect > 0 ? Infinity : Math.min(row + 1, column + 1, size - row, size - column) ** 2;
  for (let y = 0, at = 0; y < size; y++) {
    for (let x = 0; x < size; x++, at++) {
      if ((effect > 0) === (selected[at] === 1)) square = Math.min(square, (y - row) ** 2 + (x - column) ** 2);
    }
  }
  const [times, least] = effect > 0 ? [REACH.adds, LEAST_REACH.adds] : [REACH.takes, LEAST_REACH.takes];
  const radius = Math.min(Math.max(least, times * Math.sqrt(square)), 2 * size);
  const near = new Uint8Array(size * size);
  fillCircle(near, size, size, column, row, rounded(radius), 1);
  return near;
}

/**
 * Fill a circle, pixel by pixel as OpenCV does.
 * @param {Uint8Array} pixels @param {number} width @param {number} height
 * @param {number} column @param {number} row @param {number} radius @param {number} value
 */
export function fillCircle(pixels, width, height, column, row, radius, value) {
  const line = (/** @type {number} */ y, /** @type {number} */ half) => {
    if (y < 0 || y >= height) return;
    pixels.fill(value, y * width + limited(column - half, 0, width), y * width + limited(column + half + 1, 0, width));
  };
  for (let dx = radius, dy = 0, error = 0, plus = 1, minus = 2 * radius - 1; dx >= dy; ) {
    for (const sign of [-1, 1]) {
      line(row + sign * dy, dx);
      line(row + sign * dx, dy);
    }
    dy += 1;
    error += plus;
    plus += 2;
    if (error > 0) {
      error -= minus;
      dx -= 1;
      minus -= 2;
    }
  }
}

/**
 * Where something may be selected: within a box, or a small margin around it; null if there is no box.
 * @param {Prompt[]} prompts in pixels of that size
 * @param {number} width @param {number} height
 */
export function withinBoxes(prompts, width, height) {
  const boxes = prompts.filter((prompt) => prompt.kind === "box");
  if (!boxes.length) return null;
  const allowed = new Uint8Array(width * height);
  for (const box of boxes) {
    const [left, top, right, bottom] = edgesOf(box);
    const margin = BOX_MARGIN * Math.max(right - left, bottom - top);
    const [first, end] = [left, right].map((edge, far) => inside(far ? edge + margin : edge - margin, far, width));
    const [upper, lower] = [top, bottom].map((edge, far) => inside(far ? edge + margin : edge - margin, far, height));
    for (let row = upper; row < lower; row++) allowed.fill(1, row * width + first, row * width + Math.max(first, end));
  }
  return allowed;
}

/** @param {number} edge @param {number} far @param {number} length */
function inside(edge, far, length) {
  return limited(far ? Math.floor(edge) + 1 : Math.ceil(edge), 0, length);
}

/**
 * Probabilities of the three classes from their logits, one class after the other.
 * @param {Float32Array} logits
 */
export function softmax(logits) {
  const area = logits.length / 3;
  const result = new Float32Array(logits.length);
  for (let at = 0; at < area; at++) {
    const largest = Math.max(logits[at], logits[at + area], logits[at + 2 * area]);
    const ground = Math.exp(logits[at] - largest);
    const cat = Math.exp(logits[at + area] - largest);
    const dog = Math.exp(logits[at + 2 * area] - largest);
    const sum = ground + cat + dog;
    result[at] = ground / sum;
    result[at + area] = cat / sum;
    result[at + 2 * area] = dog / sum;
  }
  return result;
}

/** @param {number} logit */
export function sigmoid(logit) {
  return 0.5 + 0.5 * Math.tanh(0.5 * logit);
}

/**
 * Probability of a pet, of either species, from the logits of the classes.
 * @param {Float32Array} logits
 */
export function petChance(logits) {
  const area = logits.length / 3;
  return logits.subarray(0, area).map((ground, at) => {
    const [cat, dog] = [logits[at + area], logits[at + 2 * area]];
    const pets = Math.max(cat, dog) + Math.log1p(Math.exp(-Math.abs(cat - dog)));
    return sigmoid(limited(pets - ground, -LARGEST, LARGEST));
  });
}

/**
 * Parts of a mask in which a model is nowhere sure of a pet, 0 and 1; pixels that touch at a corner belong together.
 * @param {Float32Array} pet each pixel's probability of being pet
 * @param {number} size
 * @param {number} peak how sure it must be in at least one pixel of a part; with 0, every part is kept
 */
export function unsureParts(pet, size, peak) {
  const unsure = new Uint8Array(size * size);
  if (!peak) return unsure;
  const seen = new Uint8Array(size * size);
  for (let start = 0; start < seen.length; start++) {
    if (seen[start] || !(pet[start] > 0.5)) continue;
    const part = partFrom(start, pet, size, seen);
    if (!part.some((at) => pet[at] >= peak)) for (const at of part) unsure[at] = 1;
  }
  return unsure;
}

/**
 * Pixels of the connected part that a selected pixel belongs to; pixels that touch at a corner belong together.
 * @param {number} start @param {Float32Array | Uint8Array} chance selected where it is more than 1/2
 * @param {number} size
 * @param {Uint8Array} seen set to 1 in the part, where it must be 0 before
 */
function partFrom(start, chance, size, seen) {
  const part = [start];
  seen[start] = 1;
  for (let next = 0; next < part.length; next++) {
    const [row, column] = [Math.floor(part[next] / size), part[next] % size];
    for (let y = Math.max(0, row - 1); y <= Math.min(size - 1, row + 1); y++) {
      for (let x = Math.max(0, column - 1); x <= Math.min(size - 1, column + 1); x++) {
        const beside = y * size + x;
        if (seen[beside] || !(chance[beside] > 0.5)) continue;
        seen[beside] = 1;
        part.push(beside);
      }
    }
  }
  return part;
}

/**
 * The connected part of a selection that a click is on, 0 and 1; null if it is on none.
 * @param {Float32Array | Uint8Array} chance selected where it is more than 1/2
 * @param {Prompt} click in model pixels
 * @param {number} size
 */
export function partWith(chance, click, size) {
  const at = pixelOf(click, size);
  if (!(chance[at] > 0.5)) return null;
  const inside = new Uint8Array(size * size);
  partFrom(at, chance, size, inside);
  return inside;
}

/**
 * The parts that a negative click leaves of what it falls on and that are to go too, 0 and 1; null for other prompts.
 * @param {Prompt[]} prompts in model pixels
 * @param {Float32Array} before each pixel's probability of having been selected before the latest prompt
 * @param {Uint8Array} selected the photo's selection before it, 0 and 1
 * @param {Float32Array} after selected after it where it is more than 1/2
 * @param {number} size
 */
export function remnants(prompts, before, selected, after, size) {
  const latest = prompts[prompts.length - 1];
  if (effectOf(latest) >= 0) return null;
  const gone = new Uint8Array(size * size);
  const clicked = partWith(selected, latest, size);
  if (!clicked) return gone;
  const left = clicked.map((inside, at) => (inside && after[at] > 0.5 ? 1 : 0));
  let taken = 0;
  for (let at = 0; at < left.length; at++) taken += clicked[at] - left[at];
  const held = new Set(prompts.filter((prompt) => effectOf(prompt) > 0).map((prompt) => pixelOf(prompt, size)));
  const seen = new Uint8Array(size * size);
  for (let start = 0; start < left.length; start++) {
    if (!left[start] || seen[start]) continue;
    const part = partFrom(start, left, size, seen);
    if (part.length >= taken || part.some((at) => before[at] >= SURE || held.has(at))) continue;
    for (const at of part) gone[at] = 1;
  }
  return gone;
}

/**
 * Whether the first click is on the pet or beside it: 1 or -1; 1 if no pixel was clicked.
 * @param {Float32Array} cells the decoder's features, one channel after the other
 * @param {Float32Array} pet each pixel's probability of being pet, see `petChance`
 * @param {Float32Array} maps from `drawPrompts`
 * @param {number} size
 */
export function clickedSide(cells, pet, maps, size) {
  const edge = size / FINE;
  const cellOf = (/** @type {number} */ at) => Math.floor(at / size / FINE) * edge + Math.floor((at % size) / FINE);
  const chances = new Float64Array(edge * edge);
  let here = chances.length; // the first cell that was clicked
  for (let at = 0; at < size * size; at++) if (maps[at] > CENTRE) here = Math.min(here, cellOf(at));
  if (here === chances.length) return 1;
  for (let at = 0; at < size * size; at++) chances[cellOf(at)] += pet[at] / (FINE * FINE);
  const [row, column] = [Math.floor(here / edge), here % edge];
  const channels = cells.length / chances.length;
  let [sum, weights] = [0, 0];
  for (let at = 0; at < chances.length; at++) {
    let difference = 0;
    for (let from = at, own = here; from < cells.length; from += chances.length, own += chances.length) {
      difference += (cells[from] - cells[own]) ** 2 / channels;
    }
    const square = (Math.floor(at / edge) - row) ** 2 + ((at % edge) - column) ** 2;
    const weight = Math.exp(-square / (2 * UNDER_REACH * UNDER_REACH) - UNDER_DIFFERENCE * difference);
    sum += weight * chances[at];
    weights += weight;
  }
  return sum < DOUBT * weights ? -1 : 1;
}

/**
 * The photo's part of a map of the square.
 * @param {Float32Array} square @param {Letterbox} box
 */
export function cropped(square, { size, left, top, width, height }) {
  const inner = new Float32Array(width * height);
  for (let row = 0; row < height; row++) {
    const start = (top + row) * size + left;
    inner.set(square.subarray(start, start + width), row * width);
  }
  return inner;
}

/**
 * The pixel that stands in for a place outside: mirrored at the first and last one, which appear once.
 * @param {number} at @param {number} length @param {number} [edge] 1: they appear twice
 */
export function mirrored(at, length, edge = 0) {
  if (length === 1) return 0;
  while (at < 0 || at >= length) at = at < 0 ? -at - edge : 2 * length - 2 + edge - at;
  return at;
}

/**
 * Smooth a map with a Gaussian, as OpenCV's `GaussianBlur` does.
 * @param {Float32Array} values @param {number} width @param {number} height
 */
export function smoothed(values, width, height) {
  const reach = Math.floor(rounded(8 * BLUR + 1) / 2);
  const bell = Array.from({ length: 2 * reach + 1 }, (_, at) => Math.exp(-((at - reach) ** 2) / (2 * BLUR * BLUR)));
  const sum = bell.reduce((one, other) => one + other);
  const weights = Float32Array.from(bell, (value) => value / sum);
  const across = weightedRows(values, width, height, weights, reach);
  return weightedRows(across, height, width, weights, reach); // `across` is turned, so this goes down and turns it back
}

/**
 * Weighted means along rows, with the result transposed: its rows are the columns.
 * @param {Float32Array} values @param {number} width @param {number} height
 * @param {Float32Array} weights @param {number} reach
 */
function weightedRows(values, width, height, weights, reach) {
  const result = new Float32Array(values.length);
  const line = new Float32Array(width + 2 * reach);
  const places = Int32Array.from(line, (_, at) => mirrored(at - reach, width));
  for (let row = 0; row < height; row++) {
    for (let at = 0; at < line.length; at++) line[at] = values[row * width + places[at]];
    for (let column = 0; column < width; column++) {
      let sum = 0;
      for (let tap = 0; tap < weights.length; tap++) sum += weights[tap] * line[column + tap];
      result[column * height + row] = sum;
    }
  }
  return result;
}

/**
 * For each pixel of a resized side: the pixel before it, the one after it, and the latter's weight.
 * @param {number} from @param {number} to
 */
export function between(from, to) {
  const before = new Int32Array(to);
  const after = new Int32Array(to);
  const share = new Float32Array(to);
  for (let at = 0; at < to; at++) {
    const place = limited(((at + 0.5) * from) / to - 0.5, 0, from - 1);
    before[at] = Math.floor(place);
    after[at] = Math.min(from - 1, before[at] + 1);
    share[at] = place - before[at];
  }
  return { before, after, share };
}

/**
 * Resize a map, linearly between its pixels, passing one row after the other to `take`.
 * @param {Float32Array} values @param {number} width @param {number} height
 * @param {number} columns @param {number} rows of the result
 * @param {(row: number, line: Float32Array) => void} take the line is overwritten by the next one
 */
export function enlargeRows(values, width, height, columns, rows, take) {
  const across = between(width, columns);
  const down = between(height, rows);
  const [upper, lower, line] = [0, 1, 2].map(() => new Float32Array(columns));
  const wide = [upper, lower]; // the last two rows of the map, enlarged across
  const held = [-1, -1];
  const rowOf = (/** @type {number} */ row) => {
    const slot = row % 2;
    if (held[slot] !== row) {
      held[slot] = row;
      for (let column = 0; column < columns; column++) {
        const first = values[row * width + across.before[column]];
        wide[slot][column] = first + across.share[column] * (values[row * width + across.after[column]] - first);
      }
    }
    return wide[slot];
  };
  for (let row = 0; row < rows; row++) {
    const [above, below, share] = [rowOf(down.before[row]), rowOf(down.after[row]), down.share[row]];
    for (let column = 0; column < columns; column++) {
      line[column] = above[column] + share * (below[column] - above[column]);
    }
    take(row, line);
  }
}

/**
 * Where an enlarged map is more than 1/2, 0 and 1.
 * @param {Float32Array} values @param {number} width @param {number} height @param {number} columns @param {number} rows
 */
export function enlargedMask(values, width, height, columns, rows) {
  const mask = new Uint8Array(columns * rows);
  enlargeRows(values, width, height, columns, rows, (row, line) => {
    for (let column = 0, at = row * columns; column < columns; column++, at++) mask[at] = line[column] > 0.5 ? 1 : 0;
  });
  return mask;
}
