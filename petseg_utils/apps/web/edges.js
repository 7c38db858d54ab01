// Edges at the photo's own size: `models/matting.py`, and the cut-out of `apps/cutouts.py`; tests compare them.

import { between, byArea, enlargedMask, enlargeRows, limited, mirrored, resampled, rounded } from "./clicks.js";

const WORK = 512; // longer side in pixels, at most, at which the photo guides the mask; but twice the mask's at least
const RADIUS = 3; // radius in model pixels within which colours are compared
const SMOOTH = 1e-4; // variance of a colour (of 0..1) below which a part of the photo counts as plain
const BAND = 4.5; // how far from the outline, in model pixels, the mask may change
const STEEPNESS = 2.5; // contrast of the alpha around 1/2
const TILE = 1024; // pixels: colours are removed in squares with this edge, to save memory
const BLEED = 2; // radius in model pixels within which the colours of pet and background are sampled
const [STRAIGHT, SLANTED] = [0.955, 1.3693]; // lengths of a step in OpenCV's distances

/**
 * How much of each pixel of a photo is pet, 0 to 255: in a band around the outline, the photo's colours decide.
 * @param {Uint8Array} image RGB @param {number} width @param {number} height
 * @param {Float32Array} chance probability of the pet, in model pixels
 * @param {number} columns @param {number} rows of `chance`
 */
export function softAlpha(image, width, height, chance, columns, rows) {
  const shrunk = Math.min(1, Math.max(WORK, 2 * Math.max(columns, rows)) / Math.max(width, height));
  const [across, down] = [width, height].map((side) => Math.max(1, rounded(shrunk * side)));
  const mask = new Float32Array(across * down);
  enlargeRows(chance, columns, rows, across, down, (row, line) => mask.set(line, row * across));
  const selected = Uint8Array.from(mask, (value) => (value > 0.5 ? 1 : 0));
  const step = Math.max(across, down) / Math.max(columns, rows); // working pixels per model pixel
  if (step <= 1 || !selected.includes(1) || !selected.includes(0)) {
    return enlargedMask(mask, across, down, width, height).map((one) => 255 * one);
  }
  const guide = resampled(image, width, height, byArea(width, across), byArea(height, down));
  const terms = guided(guide, mask, across, down, Math.max(1, rounded(RADIUS * step)));
  const [in1, in2] = [1, 0].map((side) => distances(selected, side, across, down));
  // 1 at the outline, 0 from the band's edge on: there the plain mask continues without a step.
  const weight = in1.map((distance, at) => limited(2 - (2 * (distance + in2[at])) / (BAND * step), 0, 1));

  const alpha = new Uint8Array(width * height);
  const [places, lines] = [between(across, width), between(down, height)];
  for (let row = 0, at = 0; row < height; row++) {
    const [above, below, v] = [lines.before[row] * across, lines.after[row] * across, lines.share[row]];
    for (let column = 0; column < width; column++, at++) {
      const [left, right, u] = [places.before[column], places.after[column], places.share[column]];
      const here = (/** @type {Float32Array} */ map) => {
        const upper = map[above + left] + u * (map[above + right] - map[above + left]);
        return upper + v * (map[below + left] + u * (map[below + right] - map[below + left]) - upper);
      };
      let plain = here(mask) > 0.5 ? 1 : 0;
      const near = here(weight);
      if (near > 0) {
        let filtered = here(terms[3]);
        for (let channel = 0; channel < 3; channel++) {
          filtered += (here(terms[channel]) * image[3 * at + channel]) / 255;
        }
        plain += near * (limited((filtered - 0.5) * STEEPNESS + 0.5, 0, 1) - plain);
      }
      alpha[at] = Math.round(255 * plain);
    }
  }
  return alpha;
}

/**
 * How a mask follows from a photo's colours nearby (a guided filter): four maps, the colours' factors and an offset.
 * @param {Uint8Array} guide RGB @param {Float32Array} mask
 * @param {number} width @param {number} height @param {number} radius of the windows
 */
function guided(guide, mask, width, height, radius) {
  const mean = (/** @type {(at: number) => number} */ value) => {
    const values = new Float32Array(width * height);
    for (let at = 0; at < values.length; at++) values[at] = value(at);
    return boxMean(values, width, height, radius, 1);
  };
  const colour = [0, 1, 2].map((channel) => Float32Array.from(mask, (_, at) => guide[3 * at + channel] / 255));
  const means = colour.map((values) => mean((at) => values[at]));
  const meanMask = mean((at) => mask[at]);
  const withMask = colour.map((values) => mean((at) => values[at] * mask[at]));
  const pairs = [[0, 0], [0, 1], [0, 2], [1, 1], [1, 2], [2, 2]];
  const products = pairs.map(([one, other]) => mean((at) => colour[one][at] * colour[other][at]));
  const terms = [0, 1, 2, 3].map(() => new Float32Array(mask.length));
  for (let at = 0; at < mask.length; at++) {
    const [rr, rg, rb, gg, gb, bb] = pairs.map(
      ([one, other], pair) => products[pair][at] - means[one][at] * means[other][at] + (one === other ? SMOOTH : 0),
    );
    const [red, green, blue] = withMask.map((values, channel) => values[at] - means[channel][at] * meanMask[at]);
    // The inverse of the symmetric 3 x 3 matrix, by its cofactors.
    const [c0, c1, c2] = [gg * bb - gb * gb, gb * rb - rg * bb, rg * gb - gg * rb];
    const [c3, c4, c5] = [rr * bb - rb * rb, rb * rg - rr * gb, rr * gg - rg * rg];
    const determinant = rr * c0 + rg * c1 + rb * c2;
    const slope = [
      (c0 * red + c1 * green + c2 * blue) / determinant,
      (c1 * red + c3 * green + c4 * blue) / determinant,
      (c2 * red + c4 * green + c5 * blue) / determinant,
    ];
    slope.forEach((value, channel) => (terms[channel][at] = value));
    terms[3][at] = meanMask[at] - slope.reduce((sum, value, channel) => sum + value * means[channel][at], 0);
  }
  return terms.map((values) => boxMean(values, width, height, radius, 1));
}

/**
 * The selected part of a photo, RGBA: soft edges lose the old background's colours; transparent pixels are black.
 * @param {Uint8Array} image RGB @param {Uint8Array} alpha
 * @param {number} width @param {number} height
 * @param {number} size edge of the model's square
 */
export function cutOut(image, alpha, width, height, size) {
  const result = new Uint8Array(4 * alpha.length);
  for (let at = 0; at < alpha.length; at++) {
    if (!alpha[at]) continue;
    for (let channel = 0; channel < 3; channel++) result[4 * at + channel] = image[3 * at + channel];
    result[4 * at + 3] = alpha[at];
  }
  const radius = Math.max(1, rounded((BLEED * Math.max(width, height)) / size));
  for (let top = 0; top < height; top += TILE) {
    for (let left = 0; left < width; left += TILE) {
      ownColours(result, image, alpha, width, height, radius, top, left);
    }
  }
  return result;
}

/**
 * In a tile's pixels that are only partly pet, put the pet's own colour, estimated from certain pixels nearby.
 * @param {Uint8Array} result RGBA
 * @param {Uint8Array} image RGB @param {Uint8Array} alpha
 * @param {number} width @param {number} height @param {number} radius
 * @param {number} top @param {number} left of the tile
 */
function ownColours(result, image, alpha, width, height, radius, top, left) {
  const [bottom, right] = [Math.min(height, top + TILE), Math.min(width, left + TILE)];
  const mixed = [];
  for (let row = top; row < bottom; row++) {
    for (let at = row * width + left; at < row * width + right; at++) if (alpha[at] % 255) mixed.push(at);
  }
  if (!mixed.length) return;
  const [first, start] = [Math.max(0, top - 2 * radius), Math.max(0, left - 2 * radius)];
  const [wide, high] = [Math.min(width, right + 2 * radius) - start, Math.min(height, bottom + 2 * radius) - first];
  const mean = (/** @type {(at: number) => number} */ value) => {
    const values = new Float32Array(wide * high);
    for (let row = 0, to = 0; row < high; row++) {
      const from = (first + row) * width + start;
      for (let at = from; at < from + wide; at++, to++) values[to] = value(at);
    }
    return boxMean(values, wide, high, radius, 0);
  };
  const shares = [mean((at) => alpha[at] / 255), mean((at) => 1 - alpha[at] / 255)];
  for (let channel = 0; channel < 3; channel++) {
    const inPet = mean((at) => (image[3 * at + channel] * alpha[at]) / 255);
    const inGround = mean((at) => image[3 * at + channel] * (1 - alpha[at] / 255));
    for (const at of mixed) {
      const place = (Math.floor(at / width) - first) * wide + (at % width) - start;
      const [pet, ground] = [inPet, inGround].map((sums, side) => sums[place] / (shares[side][place] + 1e-4));
      const share = alpha[at] / 255;
      const own = pet + share * (image[3 * at + channel] - share * pet - (1 - share) * ground);
      result[4 * at + channel] = Math.round(limited(own, 0, 255));
    }
  }
}

/**
 * Mean over the square window around each pixel.
 * @param {Float32Array} values @param {number} width @param {number} height
 * @param {number} radius half the window's edge
 * @param {number} edge see `mirrored`
 */
function boxMean(values, width, height, radius, edge) {
  return meanRows(meanRows(values, width, height, radius, edge), height, width, radius, edge);
}

/**
 * Mean over the window around each pixel of a row, with the result transposed: its rows are the columns.
 * @param {Float32Array} values @param {number} width @param {number} height @param {number} radius @param {number} edge
 */
function meanRows(values, width, height, radius, edge) {
  const result = new Float32Array(values.length);
  const length = 2 * radius + 1;
  const places = Int32Array.from({ length: width + 2 * radius }, (_, at) => mirrored(at - radius, width, edge));
  for (let row = 0; row < height; row++) {
    const start = row * width;
    let sum = 0;
    for (let at = 0; at < length - 1; at++) sum += values[start + places[at]];
    for (let column = 0; column < width; column++) {
      sum += values[start + places[column + length - 1]];
      result[column * height + row] = sum / length;
      sum -= values[start + places[column]];
    }
  }
  return result;
}

/**
 * Distance of each pixel of one kind to the nearest of the other, by steps to the eight neighbours; 0 elsewhere.
 * @param {Uint8Array} selected 0 and 1 @param {number} side the value whose pixels get distances
 * @param {number} width @param {number} height
 */
function distances(selected, side, width, height) {
  const wide = width + 2; // with a rim that is far from everything
  const result = new Float32Array(wide * (height + 2)).fill(1e6);
  const pass = (/** @type {number} */ at, /** @type {number} */ sign) => {
    const beside = Math.min(result[at - sign], result[at - sign * wide]) + STRAIGHT;
    const slanted = Math.min(result[at - sign * (wide + 1)], result[at - sign * (wide - 1)]) + SLANTED;
    result[at] = Math.min(result[at], beside, slanted);
  };
  for (let row = 0, from = 0; row < height; row++) {
    for (let column = 0, at = (row + 1) * wide + 1; column < width; column++, at++, from++) {
      if (selected[from] === side) pass(at, 1);
      else result[at] = 0;
    }
  }
  for (let row = height; row > 0; row--) {
    for (let column = width; column > 0; column--) pass(row * wide + column, -1);
  }
  const inner = new Float32Array(width * height);
  for (let row = 0; row < height; row++) {
    const start = (row + 1) * wide + 1;
    inner.set(result.subarray(start, start + width), row * width);
  }
  return inner;
}
