// The user interface: it takes photos, clicks and boxes, asks worker.js, and shows the answers.
// Coordinates are the photo's own pixels, pixel centres at whole numbers, whatever the size on the screen.

/** @typedef {import("./clicks.js").Prompt} Prompt */
/** @typedef {import("./worker.js").View} View */
/** @typedef {import("./worker.js").Packed} Packed */

/**
 * What `web_page.py` writes into the page.
 * @type {{size: number, scale: number, peak: number, maxPixels: number, colours: Record<string, string>,
 *   files: Record<string, Packed>}}
 */
const settings = JSON.parse(textOf("settings"));

const GREEN = "#009E73";
const RED = "#D55E00";
const HOLD = 500; // milliseconds after which a finger held down removes
const STEP = 1 / 50; // share of the photo's longer side by which an arrow key moves the cross; with Shift a tenth of it
const KINDS = "use a photo as JPEG, PNG, WebP or BMP.";

const canvas = /** @type {HTMLCanvasElement} */ (element("photo"));
const pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
const said = element("said");
const chooser = /** @type {HTMLInputElement} */ (element("file"));
const opacity = /** @type {HTMLInputElement} */ (element("opacity"));
const clicked = /** @type {HTMLInputElement} */ (element("clicked"));
const [undo, clear, mask, cutout, coco] = ["undo", "clear", "mask", "cutout", "coco"].map(
  (id) => /** @type {HTMLButtonElement} */ (element(id)),
);

/** @type {{file: string, picture: ImageBitmap, size: [number, number], view: View} | null} */
let photo = null;
/** @type {Prompt[]} */
let prompts = []; // as the worker will have them once it has answered everything
/** @type {HTMLCanvasElement | null} */
let tint = null; // the mask in its colour; null if it must be made again
/** @type {Prompt | null} */
let stroke = null; // the prompt under the pointer, until it is released
/** @type {[number, number] | null} */
let cross = null; // where the keyboard points
/** @type {[number, number] | null} */
let corner = null; // of a box begun with the keyboard
let busy = false; // a photo is being opened
let due = false;
let hold = 0;

// The worker

// A worker that is a module does not start on a page from a disk.  The braces keep its names private.
const source = new Blob(['"use strict"; {', textOf("worker"), "}"], { type: "text/javascript" });
const worker = new Worker(URL.createObjectURL(source));
/** @type {Map<number, {done: (answer: any) => void, failed: (error: Error) => void}>} */
const asked = new Map();
let count = 0;

worker.addEventListener("message", ({ data: { number, answer, error } }) => {
  const { done, failed } = asked.get(number) ?? {};
  asked.delete(number);
  if (error === undefined) done?.(answer);
  else failed?.(new Error(error));
});
worker.addEventListener("error", (event) => {
  for (const { failed } of asked.values()) failed(new Error(event.message || "The browser could not start it."));
  asked.clear();
});

/** @param {string} kind @param {any} [value] @returns {Promise<any>} */
function ask(kind, value) {
  count += 1;
  worker.postMessage({ number: count, kind, value });
  const number = count;
  return new Promise((done, failed) => asked.set(number, { done, failed }));
}

const started = start();

async function start() {
  const { size, scale, peak } = settings;
  /** @type {Record<string, Packed>} */
  const files = {};
  for (const [name, { address }] of Object.entries(settings.files)) {
    files[name] = address ? { address: new URL(address, document.baseURI).href } : { text: textOf(name) };
    if (!address) element(name).remove(); // its text is large, and is no longer needed
  }
  try {
    await ask("start", { size, scale, peak, files });
  } catch (error) {
    say(`This page cannot run here: ${messageOf(error)} A newer browser may help.`, true);
    document.body.dataset.state = "failed";
    return false;
  }
  if (!busy) say("Ready. Open a photo of a cat or a dog.");
  document.body.dataset.state = "ready";
  return true;
}

// Photos

/** @param {File | undefined | null} file */
async function open(file) {
  if (busy) return;
  if (!file) {
    say(`That was no photo: ${KINDS}`, true);
    return;
  }
  busy = true;
  show();
  say(document.body.dataset.state === "ready" ? `Opening ${file.name} …` : `Getting ready, then opening ${file.name} …`);
  try {
    await check(file);
    if (await started) {
      const { picture, size, view } = await ask("open", { file, target: target() });
      photo = { file: file.name, picture, size, view };
      prompts = [];
      cross = corner = stroke = null;
      take(view);
    }
  } catch (error) {
    say(messageOf(error), true);
  }
  busy = false;
  show();
}

/**
 * Look up a photo's size before it is decoded, as decoding may take more memory than there is.
 * @param {File} file
 */
async function check(file) {
  const unreadable = new Error(`${file.name} is no picture that this browser can read, or is damaged: ${KINDS}`);
  if (file.type === "image/svg+xml") throw unreadable; // a drawing of a few lines can keep a browser busy for hours
  const image = new Image();
  image.src = URL.createObjectURL(file);
  try {
    await new Promise((done, failed) => Object.assign(image, { onload: done, onerror: failed }));
  } catch {
    throw unreadable;
  } finally {
    URL.revokeObjectURL(image.src);
  }
  if (image.naturalWidth * image.naturalHeight > settings.maxPixels) {
    const limit = Math.floor(settings.maxPixels / 1e6);
    throw new Error(`${file.name} has more than ${limit} megapixels: make it smaller and try again.`);
  }
}

element("choose").addEventListener("click", () => chooser.click());
element("another").addEventListener("click", () => chooser.click());
element("example").addEventListener("click", async () => {
  const bytes = Uint8Array.from(atob(textOf("chelsea")), (letter) => letter.charCodeAt(0));
  await open(new File([bytes], "chelsea.png", { type: "image/png" }));
  canvas.focus();
});
chooser.addEventListener("change", async () => {
  const file = chooser.files?.[0];
  if (!file) return;
  await open(file);
  chooser.value = ""; // otherwise the same file could not be chosen again
});
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("over");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  open(event.dataTransfer?.files[0]);
});
document.addEventListener("paste", (event) => open(event.clipboardData?.files[0]));

// Clicks and boxes

/** @param {Prompt} prompt */
async function add({ kind, points, positive }) {
  const prompt = { kind, points, positive };
  prompts.push(prompt);
  show();
  await change("add", prompt);
}

/** @param {"add" | "undo" | "clear" | "switch"} kind @param {any} [value] */
async function change(kind, value) {
  try {
    take(await ask(kind, value));
  } catch (error) {
    say(messageOf(error), true);
  }
}

/** @param {View} view */
function take(view) {
  if (!photo) return;
  photo.view = view;
  tint = null;
  say(view.sentence);
  show();
}

/** @param {boolean} all */
function takeBack(all) {
  if (corner) corner = null;
  else if (prompts.length && !busy) {
    prompts = all ? [] : prompts.slice(0, -1);
    change(all ? "clear" : "undo");
  }
  show();
}

undo.addEventListener("click", () => takeBack(false));
clear.addEventListener("click", () => takeBack(true));
document.addEventListener("keydown", (event) => {
  if (event.key.toLowerCase() !== "z" || !(event.ctrlKey || event.metaKey) || event.shiftKey) return;
  event.preventDefault();
  takeBack(false);
});

const target = () => (clicked.checked ? "clicked" : "pet");

clicked.addEventListener("change", () => {
  if (!photo) return;
  prompts = [];
  cross = corner = null;
  change("switch", target());
  show();
});

const tool = () => /** @type {HTMLInputElement} */ (document.querySelector("[name=tool]:checked")).value;

/** @param {PointerEvent} event @returns {[number, number]} */
function place(event) {
  const rect = canvas.getBoundingClientRect();
  const [width, height] = photo?.size ?? [1, 1];
  return [
    ((event.clientX - rect.left) / rect.width) * width - 0.5, ((event.clientY - rect.top) / rect.height) * height - 0.5,
  ];
}

/** @param {[number, number]} point @returns {[number, number]} */
function within([x, y]) {
  const [width, height] = photo?.size ?? [1, 1];
  return [Math.min(Math.max(x, -0.5), width - 0.5), Math.min(Math.max(y, -0.5), height - 0.5)];
}

canvas.addEventListener("contextmenu", (event) => event.preventDefault());

canvas.addEventListener("pointerdown", (event) => {
  if (stroke || !photo || busy || !event.isPrimary || ![0, 2].includes(event.button)) return;
  canvas.setPointerCapture(event.pointerId);
  cross = corner = null;
  const kind = tool() === "box" ? "box" : "click";
  const removes = event.button === 2 || event.shiftKey || event.ctrlKey || tool() === "no";
  stroke = { kind, points: [place(event)], positive: kind === "box" || !removes };
  if (event.pointerType !== "mouse" && kind === "click") {
    hold = setTimeout(() => {
      if (!stroke) return;
      stroke.positive = false;
      navigator.vibrate?.(20);
      show();
    }, HOLD);
  }
  show();
});

canvas.addEventListener("pointermove", (event) => {
  if (!stroke) return;
  if (stroke.kind === "click") stroke.points = [place(event)];
  else stroke.points[1] = within(place(event));
  show();
});

canvas.addEventListener("pointerup", (event) => {
  clearTimeout(hold);
  if (!stroke) return;
  const prompt = stroke;
  stroke = null;
  if (prompt.kind === "click") prompt.points = [place(event)]; // a click counts where it is released, as elsewhere
  const [first, second] = prompt.points;
  const left = within(first).some((value, axis) => value !== first[axis]);
  const flat = prompt.kind === "box" && (!second || first[0] === second[0] || first[1] === second[1]);
  if (!left && !flat) add(prompt);
  else if (flat) say("Press at one corner of the box, draw to the opposite one, and let go.");
  show();
});

canvas.addEventListener("pointercancel", () => {
  clearTimeout(hold);
  stroke = null; // the finger scrolls
  show();
});

/** @type {Record<string, [number, number]>} */
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

canvas.addEventListener("keydown", (event) => {
  if (!photo || busy || event.ctrlKey || event.metaKey || event.altKey) return;
  const [width, height] = photo.size;
  const arrow = ARROWS[event.key];
  const act = ["Enter", " ", "Delete", "Backspace"].includes(event.key);
  if (!arrow && !act) return;
  event.preventDefault();
  cross ??= [(width - 1) / 2, (height - 1) / 2];
  if (arrow) {
    const step = Math.max(width, height) * STEP * (event.shiftKey ? 0.1 : 1);
    cross = [
      Math.min(Math.max(cross[0] + arrow[0] * step, 0), width - 1),
      Math.min(Math.max(cross[1] + arrow[1] * step, 0), height - 1),
    ];
  } else if (tool() === "box" && event.key !== "Delete" && event.key !== "Backspace") {
    if (!corner) {
      corner = cross;
      say("Now move to the opposite corner of the box, and press Enter.");
    } else {
      const [first, second] = [corner, cross];
      corner = null;
      if (first[0] !== second[0] && first[1] !== second[1]) {
        add({ kind: "box", points: [first, second], positive: true });
      }
    }
  } else {
    const removes = event.shiftKey || !["Enter", " "].includes(event.key) || tool() === "no";
    add({ kind: "click", points: [cross], positive: !removes });
  }
  show();
});

canvas.addEventListener("blur", () => {
  cross = corner = null;
  show();
});
canvas.addEventListener("focus", () => {
  if (photo && canvas.matches(":focus-visible")) cross = [(photo.size[0] - 1) / 2, (photo.size[1] - 1) / 2];
  show();
});
for (const radio of document.querySelectorAll("[name=tool]")) radio.addEventListener("change", () => show());
opacity.addEventListener("input", () => {
  tint = null;
  show();
});

// Results

for (const [button, kind] of /** @type {const} */ ([[mask, "mask"], [cutout, "cut-out"], [coco, "COCO"]])) {
  button.addEventListener("click", async () => {
    if (!photo) return;
    const stem = [...photo.file.replace(/\.[^.]*$/, "")].slice(0, 60).join(""); // names of files must not be too long
    const name = kind === "COCO" ? `${stem}_coco.json` : `${stem}_${kind}.png`;
    say(`Making ${name} …`);
    try {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(await ask(kind, photo.file));
      link.download = name;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
      say(`${name} is saved.`);
    } catch (error) {
      say(messageOf(error), true);
    }
  });
}

// Drawing

/** @param {string} sentence @param {boolean} [bad] */
function say(sentence, bad = false) {
  said.textContent = sentence;
  said.classList.toggle("bad", bad);
}

/** Redraw everything at the browser's next frame. */
function show() {
  if (due) return;
  due = true;
  requestAnimationFrame(() => {
    due = false;
    draw();
  });
}

function draw() {
  document.body.classList.toggle("open", photo !== null);
  document.body.toggleAttribute("aria-busy", busy);
  undo.disabled = busy || !(prompts.length || corner);
  clear.disabled = busy || !prompts.length;
  mask.disabled = cutout.disabled = coco.disabled = busy || !photo;
  clicked.disabled = busy;
  canvas.style.touchAction = tool() === "box" ? "none" : "manipulation"; // a finger scrolls, unless it draws
  if (!photo) return;
  const { width, height } = photo.view;
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  tint ??= tinted(photo.view, settings.colours[photo.view.label], Number(opacity.value) / 100);
  pen.fillStyle = "white"; // behind transparent pixels
  pen.fillRect(0, 0, width, height);
  pen.drawImage(photo.picture, 0, 0, width, height);
  pen.drawImage(tint, 0, 0);
  const scale = width / photo.size[0];
  const unit = width / (canvas.clientWidth || width); // marks have the same size on any screen
  for (const prompt of [...prompts, ...(stroke ? [stroke] : [])]) drawPrompt(prompt, scale, unit);
  if (corner && cross) drawPrompt({ kind: "box", points: [corner, cross], positive: true }, scale, unit);
  if (cross) drawCross(cross, scale, unit);
}

/**
 * The mask as a canvas: its colour at the chosen opacity, its outline opaque.
 * @param {View} view @param {string} colour @param {number} share
 */
function tinted({ width, height, mask: on }, colour, share) {
  const pixels = new ImageData(width, height);
  const filled = new Uint32Array(pixels.data.buffer);
  const [red, green, blue] = [1, 3, 5].map((start) => parseInt(colour.slice(start, start + 2), 16));
  const [soft, full] = [255 * share, 255].map((alpha) => new Uint32Array(Uint8Array.of(red, green, blue, alpha).buffer)[0]);
  for (let y = 0, at = 0; y < height; y++) {
    const [above, below] = [y < 2 ? 0 : 2 * width, y < height - 2 ? 2 * width : 0];
    for (let x = 0; x < width; x++, at++) {
      if (!on[at]) continue;
      const inner = on[at - above] & on[at + below] & (x < 2 ? 1 : on[at - 2]) & (x < width - 2 ? on[at + 2] : 1);
      filled[at] = inner ? soft : full;
    }
  }
  const layer = Object.assign(document.createElement("canvas"), { width, height });
  layer.getContext("2d")?.putImageData(pixels, 0, 0);
  return layer;
}

/**
 * A dot with its sign, or a box, with a white rim so that it is visible on any photo.
 * @param {Prompt} prompt @param {number} scale @param {number} unit
 */
function drawPrompt({ kind, points, positive }, scale, unit) {
  const [[x, y], [right, bottom] = []] = points.map((point) => point.map((value) => (value + 0.5) * scale));
  const path = new Path2D();
  if (kind === "box") {
    if (right === undefined) return;
    path.rect(x, y, right - x, bottom - y);
  } else {
    path.arc(x, y, 0.5, 0, 2 * Math.PI);
  }
  const wide = kind === "box" ? 3 : 14;
  pen.lineCap = pen.lineJoin = "round";
  stroked(path, [["white", wide + 3], [positive ? GREEN : RED, wide]], unit);
  if (kind === "box") return;
  const arm = 4 * unit;
  const sign = new Path2D(`M${x - arm} ${y}h${2 * arm}` + (positive ? `M${x} ${y - arm}v${2 * arm}` : ""));
  pen.lineCap = "butt";
  stroked(sign, [["white", 2]], unit);
}

/** @param {[number, number]} at @param {number} scale @param {number} unit */
function drawCross(at, scale, unit) {
  const [x, y] = at.map((value) => (value + 0.5) * scale);
  const [near, far] = [5 * unit, 16 * unit];
  const arms = [[-1, 0], [1, 0], [0, -1], [0, 1]].map(
    ([right, down]) => `M${x + right * near} ${y + down * near}L${x + right * far} ${y + down * far}`,
  );
  stroked(new Path2D(arms.join("")), [["black", 5], ["white", 2.5]], unit);
}

/** @param {Path2D} path @param {[string, number][]} styles @param {number} unit */
function stroked(path, styles, unit) {
  for (const [strokeStyle, width] of styles) {
    Object.assign(pen, { strokeStyle, lineWidth: width * unit });
    pen.stroke(path);
  }
}

new ResizeObserver(show).observe(canvas);

/** @param {string} id */
function element(id) {
  return /** @type {HTMLElement} */ (document.getElementById(id));
}

/** @param {string} id */
function textOf(id) {
  return element(id).textContent ?? "";
}

/** @param {unknown} error */
function messageOf(error) {
  return error instanceof Error ? error.message : String(error);
}

export {}; // makes this a module, so that its names are its own
