// Does the computing beside the page, so that the page never freezes: it starts ONNX Runtime, opens photos, and answers
// each message of page.js with one of the same number.

import { limited, rounded } from "./clicks.js";
import { coco } from "./coco.js";
import { OpenPhoto } from "./open_photo.js";
import { png } from "./png.js";

/** @typedef {import("./clicks.js").Prompt} Prompt */
/** @typedef {import("onnxruntime-web").InferenceSession} Session */
/** @typedef {import("onnxruntime-web").Tensor} Tensor */

/**
 * A file that the page needs, compressed by gzip: its text in base64, or its address.
 * @typedef {{text?: string, address?: string}} Packed
 */

/**
 * @typedef {{size: number, scale: number, peak: number, files: Record<string, Packed>}} Settings
 */

/** What the page shows. */
/** @typedef {{width: number, height: number, mask: Uint8Array<ArrayBuffer>, label: string, sentence: string}} View */

const SHOWN = [800, 1024]; // the picture on the page: smallest and largest length of its longer side in pixels
const STRIP = 512; // rows of a photo that are read at a time: a canvas for all of it might be too large
const STORE = "petseg"; // the browser's cache for a page on a server
const RUNTIME = "ort.wasm.min.mjs";
const GLUE = "ort-wasm-simd-threaded.mjs";
const WASM = "ort-wasm-simd-threaded.wasm";

/** @type {import("./open_photo.js").Model | null} */
let model = null;
/** @type {OpenPhoto | null} */
let photo = null;
let queue = Promise.resolve(); // one task after the other, in the order in which they came
let waiting = 0; // how many tasks are not done yet

self.addEventListener("message", ({ data: { number, kind, value } }) => {
  waiting += 1;
  queue = queue.then(async () => {
    waiting -= 1;
    try {
      const { answer, transfer = [] } = await act(kind, value);
      self.postMessage({ number, answer }, { transfer });
    } catch (error) {
      self.postMessage({ number, error: error instanceof Error ? error.message : String(error) });
    }
  });
});

/**
 * @param {string} kind @param {any} value
 * @returns {Promise<{answer: any, transfer?: Transferable[]}>}
 */
async function act(kind, value) {
  if (kind === "start") {
    const started = await start(value);
    model = started;
    queue = queue.then(() => warmUp(started));
    return { answer: null };
  }
  if (kind === "open") return open(value.file, value.target);
  if (!photo) throw new Error("Open a photo first.");
  const { width, height } = photo;
  if (kind === "mask") return { answer: await png(photo.alpha().map((alpha) => (alpha > 127 ? 255 : 0)), width, height) };
  if (kind === "cut-out") return { answer: await png(photo.cutOut(), width, height) };
  if (kind === "COCO") {
    const selected = photo.alpha().map((alpha) => (alpha > 127 ? 1 : 0));
    return { answer: new Blob([JSON.stringify(coco(value, selected, width, height, photo.label))]) };
  }
  if (kind === "switch") {
    const cleared = photo.prompts.length > 0;
    photo = photo.anew(value);
    return { answer: { ...viewOf(photo), sentence: photo.afterSwitch(cleared) } };
  }
  if (kind === "add") await photo.add(value);
  if (kind === "undo") photo.undo();
  if (kind === "clear") photo.clear();
  return { answer: viewOf(photo) };
}

/** @param {OpenPhoto} shown @returns {View} */
function viewOf(shown) {
  const longest = Math.max(shown.width, shown.height);
  const scale = limited(longest, SHOWN[0], SHOWN[1]) / longest;
  const [width, height] = [shown.width, shown.height].map((side) => Math.max(1, rounded(side * scale)));
  return { width, height, mask: shown.maskAt(width, height), label: shown.label, sentence: shown.sentence };
}

/**
 * Run the networks until a task comes: code that runs often is recompiled by the browser, which makes it faster.
 * @param {import("./open_photo.js").Model} started
 */
async function warmUp({ size, scale, look, select }) {
  for (let turn = 0; turn < 3 && !waiting; turn++) {
    const seen = await look(new Uint8Array(3 * (scale * size) ** 2));
    await select(seen, new Float32Array(4 * size * size), 1, 1);
    await new Promise((done) => setTimeout(done)); // messages arrive only now
  }
}

/** @param {File} file @param {import("./open_photo.js").Target} target */
async function open(file, target) {
  if (!model) throw new Error("The page is not ready.");
  const bitmap = await createImageBitmap(file).catch(() => null); // upright
  if (!bitmap) throw new Error(`${file.name} is damaged: save it anew, or use a photo as JPEG, PNG, WebP or BMP.`);
  const { width, height } = bitmap;
  const opened = await OpenPhoto.open(pixelsOf(bitmap), width, height, model, target);
  photo = opened;
  const view = viewOf(opened);
  const picture = await createImageBitmap(bitmap, {
    resizeWidth: view.width, resizeHeight: view.height, resizeQuality: "high",
  });
  bitmap.close();
  return { answer: { picture, size: [width, height], view }, transfer: [picture] };
}

/**
 * RGB, with transparent pixels laid on white.
 * @param {ImageBitmap} bitmap
 */
function pixelsOf(bitmap) {
  const { width, height } = bitmap;
  const canvas = new OffscreenCanvas(width, Math.min(STRIP, height));
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  if (!pen) throw new Error("This browser has no memory left for this photo: make it smaller and try again.");
  pen.fillStyle = "white";
  const pixels = new Uint8Array(3 * width * height);
  for (let top = 0, to = 0; top < height; top += STRIP) {
    const rows = Math.min(STRIP, height - top);
    pen.fillRect(0, 0, width, rows);
    pen.drawImage(bitmap, 0, -top);
    const { data } = pen.getImageData(0, 0, width, rows);
    for (let from = 0; from < data.length; from += 4, to += 3) {
      pixels[to] = data[from];
      pixels[to + 1] = data[from + 1];
      pixels[to + 2] = data[from + 2];
    }
  }
  return pixels;
}

/**
 * Start ONNX Runtime and load the models.
 * @param {Settings} settings
 * @returns {Promise<import("./open_photo.js").Model>}
 */
async function start({ size, scale, peak, files }) {
  const names = Object.keys(files);
  const loaded = await Promise.all(names.map((name) => bytesOf(files[name])));
  const content = Object.fromEntries(names.map((name, at) => [name, loaded[at]]));
  await forgetOthers(files);
  const script = (/** @type {string} */ name) =>
    URL.createObjectURL(new Blob([content[name]], { type: "text/javascript" }));
  /** @type {typeof import("onnxruntime-web")} */
  const ort = await import(script(RUNTIME));
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = { mjs: script(GLUE) };
  ort.env.wasm.wasmBinary = content[WASM].buffer;
  ort.env.logLevel = "error";
  /** @type {Session[]} */
  const sessions = [];
  for (const name of ["encoder", "decoder", "click_head"]) {
    sessions.push(await ort.InferenceSession.create(content[`${name}.onnx`]));
  }
  const [encoder, decoder, head] = sessions;
  const tensor = (/** @type {Float32Array} */ values, /** @type {number[]} */ ...shape) =>
    new ort.Tensor("float32", values, shape);
  const edge = scale * size;
  return {
    size, scale, peak,
    async look(square) {
      const known = await encoder.run({ pixels: new ort.Tensor("uint8", square, [1, edge, edge, 3]) });
      const { logits, cells } = await decoder.run(known);
      const { picture, ...maps } = known;
      picture.dispose();
      const [classes, features] = [logits, cells].map(({ data }) => /** @type {Float32Array} */ (data));
      return { logits: classes, cells: features, rest: { ...maps, logits, cells } };
    },
    async select(seen, maps, latest, side) {
      const prompts = tensor(maps, 1, 4, size, size);
      const given = { latest: tensor(Float32Array.of(latest), 1), side: tensor(Float32Array.of(side), 1) };
      const { selected } = await head.run({ ...seen.rest, prompts, ...given });
      return /** @type {Float32Array} */ (selected.data);
    },
  };
}

/**
 * A file, unpacked; a server is asked for it only once, as the browser keeps it.
 * @param {Packed} file
 */
async function bytesOf({ text, address }) {
  const packed = text === undefined ? await fetched(String(address)) : fromBase64(text);
  // Some servers declare such files as compressed for the transfer only, and browsers then unpack them.
  if (packed[0] !== 0x1f || packed[1] !== 0x8b) return packed;
  const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(unpacked).arrayBuffer());
}

/** @param {string} text */
function fromBase64(text) {
  const letters = atob(text);
  const bytes = new Uint8Array(letters.length);
  for (let at = 0; at < bytes.length; at++) bytes[at] = letters.charCodeAt(at);
  return bytes;
}

/** @param {string} address */
async function fetched(address) {
  const store = await self.caches?.open(STORE).catch(() => undefined); // missing in some browsers' private windows
  let answer = await store?.match(address);
  if (!answer) {
    answer = await fetch(address);
    if (!answer.ok) throw new Error(`The server answered ${answer.status} for ${address}.`);
    await store?.put(address, answer.clone()).catch(() => undefined); // a full disk is no reason to stop
  }
  return new Uint8Array(await answer.arrayBuffer());
}

/**
 * Delete files of an earlier version.
 * @param {Record<string, Packed>} files
 */
async function forgetOthers(files) {
  const wanted = Object.values(files).map(({ address }) => address);
  if (!wanted[0]) return;
  const store = await self.caches?.open(STORE).catch(() => undefined);
  for (const { url } of (await store?.keys()) ?? []) if (!wanted.includes(url)) await store?.delete(url);
}
