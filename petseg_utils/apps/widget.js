// The canvas of the click demo: it shows the photo, the mask and the prompts, and tells Python what was pointed at.
// Every coordinate it sends is in the photo's own pixels, pixel centres at whole numbers, whatever the size on screen.

const PART = 4 * 2 ** 20; // bytes; Jupyter's server drops the connection at a message of more than 10 MiB
const LARGEST = 64 * 2 ** 20; // bytes of an uploaded file
const HINT = "Click adds, right click or Shift+click removes, a box limits. Scribble and box: press, draw, let go.";
const GREEN = "#009E73";
const RED = "#D55E00";
const TOOLS = ["click", "scribble", "box"]; // in the order of widget.py
const STEPS = 50; // a stroke has a point for each 50th of the photo's longer side, as in training

/** Save a file that Python sends.  It is done here and not in a view: two views would save it twice. */
function initialize({ model }) {
  model.on("msg:custom", ({ name }, [data]) => {
    const link = document.createElement("a");
    const type = name.endsWith(".json") ? "application/json" : "image/png";
    link.href = URL.createObjectURL(new Blob([data], { type }));
    link.download = name;
    document.body.append(link); // VS Code sees a click only if it happens within the page
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  });
}

function render({ model, el }) {
  const canvas = document.createElement("canvas");
  const said = document.createElement("p");
  const bar = document.createElement("p");
  const button = document.createElement("button");
  const input = document.createElement("input");
  const pen = canvas.getContext("2d");
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", "The photo, with what is selected. Click on it to add or remove something.");
  said.setAttribute("role", "status");
  Object.assign(button, { className: "jupyter-widgets jupyter-button widget-button", textContent: "Upload a photo" });
  Object.assign(input, { type: "file", accept: "image/*", hidden: true });
  el.classList.add("petseg-demo");
  bar.append(...(model.get("uploads") ? [button, input] : []), HINT);
  el.append(bar, canvas, said);

  let photo = null; // the photo on display, once it is decoded
  let tint = null; // the mask in its colour, a canvas of the same size; null if it must be made again
  let stroke = null; // the prompt under the pointer, until it is released
  let sent = []; // prompts that Python has not answered yet: shown at once, so that nothing flickers
  let count = 0;
  let due = false;

  function later() {
    if (due) return;
    due = true; // one message changes several traits: draw once
    requestAnimationFrame(() => {
      due = false;
      draw();
    });
  }

  function draw() {
    if (!photo) return;
    const [width, height] = model.get("shown");
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    tint ??= tinted(model.get("mask"), width, height, model.get("colour"), model.get("opacity"));
    pen.drawImage(photo, 0, 0, width, height);
    pen.drawImage(tint, 0, 0);
    const scale = width / model.get("size")[0];
    const unit = width / (canvas.clientWidth || width); // marks have the same size on any screen
    for (const prompt of [...model.get("prompts"), ...sent, ...(stroke ? [stroke] : [])]) {
      drawPrompt(pen, prompt, scale, unit);
    }
  }

  async function newPhoto() {
    const bytes = model.get("picture");
    photo = null;
    const decoded = await createImageBitmap(new Blob([bytes]));
    if (bytes !== model.get("picture")) return; // the next one has come meanwhile
    photo = decoded;
    later();
  }

  function place(event) {
    const rect = canvas.getBoundingClientRect();
    const [width, height] = model.get("size");
    return [
      ((event.clientX - rect.left) / rect.width) * width - 0.5,
      ((event.clientY - rect.top) / rect.height) * height - 0.5,
    ];
  }

  function within(point) {
    return point.map((value, axis) => Math.min(Math.max(value, -0.5), model.get("size")[axis] - 0.5));
  }

  function extend(points, to) {
    const step = Math.max(...model.get("size")) / STEPS;
    for (;;) {
      const [x, y] = points.at(-1);
      const far = Math.hypot(to[0] - x, to[1] - y);
      if (far < step) return;
      points.push([x + ((to[0] - x) * step) / far, y + ((to[1] - y) * step) / far]);
    }
  }

  canvas.addEventListener("contextmenu", (event) => {
    event.preventDefault();
    event.stopPropagation(); // otherwise JupyterLab opens its own menu
  });

  canvas.addEventListener("pointerdown", (event) => {
    if (stroke || !photo || !event.isPrimary || ![0, 2].includes(event.button)) return;
    canvas.setPointerCapture(event.pointerId);
    const removes = event.button === 2 || event.shiftKey || event.ctrlKey || model.get("removes") === 1;
    const kind = TOOLS[model.get("tool")];
    stroke = { kind, points: [place(event)], positive: !removes || kind === "box" };
    later();
  });

  canvas.addEventListener("pointermove", (event) => {
    if (!stroke) return;
    if (stroke.kind === "click") stroke.points = [place(event)];
    else if (stroke.kind === "box") stroke.points[1] = within(place(event));
    else extend(stroke.points, within(place(event)));
    later();
  });

  canvas.addEventListener("pointerup", (event) => {
    if (!stroke) return;
    const prompt = stroke;
    stroke = null;
    if (prompt.kind === "click") prompt.points = [place(event)]; // a click counts where it is released, as elsewhere
    const [first, last] = [prompt.points[0], prompt.points.at(-1)];
    const left = prompt.kind === "click" && first.some((value, axis) => value !== within(first)[axis]);
    const flat = prompt.kind === "box" && (first[0] === last[0] || first[1] === last[1]);
    if (!left && !flat) {
      count += 1;
      sent.push({ ...prompt, number: count });
      model.send({ ...prompt, number: count });
    }
    later();
  });

  canvas.addEventListener("pointercancel", () => {
    stroke = null; // the finger scrolls
    later();
  });

  button.addEventListener("click", () => input.click());
  input.addEventListener("change", async () => {
    const [file] = input.files;
    if (!file) return;
    if (file.size > LARGEST) {
      said.textContent = `${file.name}: too large; files of up to ${LARGEST / 2 ** 20} MB are taken.`;
    } else {
      const bytes = await file.arrayBuffer();
      for (let start = 0; start === 0 || start < bytes.byteLength; start += PART) {
        const part = { kind: "file", name: file.name, first: start === 0, last: start + PART >= bytes.byteLength };
        model.send(part, undefined, [bytes.slice(start, start + PART)]);
      }
    }
    input.value = ""; // otherwise the same file could not be chosen again
  });

  const heard = {
    picture: newPhoto,
    said: () => (said.textContent = model.get("said")),
    // A finger may scroll the page over the canvas, unless it draws.
    tool: () => (canvas.style.touchAction = TOOLS[model.get("tool")] === "click" ? "manipulation" : "none"),
    prompts: later,
    answered() {
      sent = sent.filter((prompt) => prompt.number > model.get("answered"));
      later();
    },
  };
  for (const name of ["shown", "mask", "colour", "opacity"]) {
    heard[name] = () => {
      tint = null;
      later();
    };
  }
  for (const [name, act] of Object.entries(heard)) model.on(`change:${name}`, act);
  heard.picture();
  heard.said();
  heard.tool();
  const watch = new ResizeObserver(later);
  watch.observe(canvas);
  return () => {
    watch.disconnect();
    for (const [name, act] of Object.entries(heard)) model.off(`change:${name}`, act);
  };
}

/** The mask, packed bits row by row, as a canvas: its colour at the chosen opacity, its outline opaque. */
function tinted(view, width, height, colour, opacity) {
  const bits = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
  const on = (at) => (bits[at >> 3] >> (7 - (at & 7))) & 1;
  const pixels = new ImageData(width, height);
  const rgb = [1, 3, 5].map((start) => parseInt(colour.slice(start, start + 2), 16));
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at++) {
      if (!on(at)) continue;
      const inner =
        (x < 2 || on(at - 2)) && (x >= width - 2 || on(at + 2)) &&
        (y < 2 || on(at - 2 * width)) && (y >= height - 2 || on(at + 2 * width));
      pixels.data.set([...rgb, inner ? 255 * opacity : 255], 4 * at);
    }
  }
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  return canvas;
}

/** A dot with its sign, a stroke, or a box, each with a white rim so that it is visible on any photo. */
function drawPrompt(pen, { kind, points, positive }, scale, unit) {
  const spots = points.map((point) => point.map((value) => (value + 0.5) * scale));
  const [[x, y]] = spots;
  const path = new Path2D();
  if (kind === "box") {
    const [right, bottom] = spots.at(-1);
    path.rect(x, y, right - x, bottom - y);
  } else {
    path.arc(x, y, 0.5, 0, 2 * Math.PI); // a line of zero length would be invisible
    for (const spot of spots) path.lineTo(...spot);
  }
  const wide = { click: 14, scribble: 6, box: 3 }[kind];
  pen.lineCap = pen.lineJoin = "round";
  for (const [style, width] of [["white", wide + 3], [positive ? GREEN : RED, wide]]) {
    Object.assign(pen, { strokeStyle: style, lineWidth: width * unit });
    pen.stroke(path);
  }
  if (kind === "click") {
    const arm = 4 * unit;
    const sign = new Path2D(`M${x - arm} ${y}h${2 * arm}` + (positive ? `M${x} ${y - arm}v${2 * arm}` : ""));
    Object.assign(pen, { strokeStyle: "white", lineWidth: 2 * unit, lineCap: "butt" });
    pen.stroke(sign);
  }
}

export default { initialize, render };
