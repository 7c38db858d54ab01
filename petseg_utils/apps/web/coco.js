// A mask in the format of other programs: the JSON of `apps/mask_formats.py`, with compressed run lengths.

import { CLASSES } from "./clicks.js";

/**
 * COCO's instances for one photo in which one object is selected.
 * @param {string} name the photo's file
 * @param {Uint8Array} selected 0 and 1
 * @param {number} width @param {number} height
 * @param {string} label
 */
export function coco(name, selected, width, height, label) {
  const value = CLASSES.indexOf(label) || CLASSES.length; // if the background was selected, the number after the last
  const categories = CLASSES.slice(1).map((species, at) => ({ id: at + 1, name: species }));
  if (value === CLASSES.length) categories.push({ id: value, name: label });
  const [left, top, right, bottom] = extent(selected, width, height);
  const annotation = {
    id: 1, image_id: 1, category_id: value, iscrowd: 0,
    area: selected.reduce((sum, one) => sum + one, 0),
    bbox: [left, top, right - left, bottom - top],
    segmentation: { size: [height, width], counts: runLengths(selected, width, height) },
  };
  return {
    info: { description: "Masks by petseg" },
    images: [{ id: 1, file_name: name, width, height }],
    annotations: annotation.area ? [annotation] : [],
    categories,
  };
}

/**
 * The smallest rectangle around the selection: left, top, right, bottom.
 * @param {Uint8Array} selected @param {number} width @param {number} height
 */
function extent(selected, width, height) {
  let [left, top, right, bottom] = [width, height, 0, 0];
  for (let row = 0; row < height; row++) {
    const line = selected.subarray(row * width, (row + 1) * width);
    const first = line.indexOf(1);
    if (first < 0) continue;
    [top, bottom] = [Math.min(top, row), row + 1];
    [left, right] = [Math.min(left, first), Math.max(right, line.lastIndexOf(1) + 1)];
  }
  return [left, top, right, bottom];
}

/**
 * COCO's compressed run lengths: down one column after the other, of unselected and selected pixels in turns.
 * From the fourth on, only the difference to the previous one of its kind is written, in digits of five bits, the
 * lowest first; the sixth bit says that more digits follow.
 * @param {Uint8Array} selected @param {number} width @param {number} height
 */
export function runLengths(selected, width, height) {
  const runs = [0];
  for (let column = 0, now = 0; column < width; column++) {
    for (let at = column; at < selected.length; at += width) {
      if (selected[at] !== now) {
        now = 1 - now;
        runs.push(0);
      }
      runs[runs.length - 1] += 1;
    }
  }
  const digits = [];
  for (const [at, run] of runs.entries()) {
    for (let rest = at > 2 ? run - runs[at - 2] : run, more = true; more; ) {
      const digit = rest & 31;
      rest >>= 5;
      more = rest !== (digit & 16 ? -1 : 0);
      digits.push(String.fromCharCode(48 + digit + (more ? 32 : 0)));
    }
  }
  return digits.join("");
}
