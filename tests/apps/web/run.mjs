// Runs functions of the page's JavaScript on what Python sends, and prints what they give; `test_web.py` compares.
// Arrays travel as base64 with their type, as JSON would change float32 numbers.

import { readFileSync } from "node:fs";
import * as clicks from "../../../petseg_utils/apps/web/clicks.js";
import * as coco from "../../../petseg_utils/apps/web/coco.js";
import * as edges from "../../../petseg_utils/apps/web/edges.js";
import { OpenPhoto } from "../../../petseg_utils/apps/web/open_photo.js";
import { png } from "../../../petseg_utils/apps/web/png.js";

const TYPES = { uint8: Uint8Array, float32: Float32Array };

const unpack = (_, value) => {
  if (!value?.type) return value;
  const bytes = new Uint8Array(Buffer.from(value.data, "base64"));
  return new TYPES[value.type](bytes.buffer);
};
const pack = (_, value) => {
  const type = Object.keys(TYPES).find((name) => value instanceof TYPES[name]);
  return type ? { type, data: Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString("base64") } : value;
};

/** What a photo says after each action; the network's answers were recorded in Python. */
async function steps(image, width, height, size, scale, peak, logits, cells, target, actions, answers) {
  const told = [];
  const model = {
    size, scale, peak,
    look: async (square) => ({ logits, cells, rest: square }),
    select: async (seen, maps, latest, side) => {
      told.push({ maps, latest, side });
      return answers[told.length - 1];
    },
  };
  let photo = await OpenPhoto.open(image, width, height, model, target);
  const state = () => ({
    mask: photo.maskAt(width, height), label: photo.label, share: photo.share, confidence: photo.confidence,
    alpha: photo.alpha(), cutOut: photo.cutOut(),
    said: [photo.sentence, photo.afterSwitch(false), photo.afterSwitch(true)],
  });
  const states = [state()];
  for (const { kind, prompt } of actions) {
    if (kind === "add") await photo.add(prompt);
    else if (kind === "switch") photo = photo.anew(prompt);
    else photo[kind]();
    states.push(state());
  }
  return { states, told, square: photo.seen.rest };
}

const functions = {
  ...clicks, ...coco, ...edges, steps,
  png: async (...given) => new Uint8Array(await (await png(...given)).arrayBuffer()),
  smoothedSquare: (square, box) => clicks.smoothed(clicks.cropped(square, box), box.width, box.height),
};
const results = [];
for (const [name, ...given] of JSON.parse(readFileSync(0, "utf8"), unpack)) {
  results.push(await functions[name](...given));
}
process.stdout.write(JSON.stringify(results, pack));
