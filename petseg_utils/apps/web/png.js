// Writes pixels as a PNG file.  A canvas would round the colours of semi-transparent pixels, so it is done here.

const ROWS = 64; // rows that are compressed at a time

/**
 * @param {Uint8Array} pixels grey, or RGBA
 * @param {number} width @param {number} height
 * @returns {Promise<Blob>}
 */
export async function png(pixels, width, height) {
  const channels = pixels.length / (width * height);
  const header = new DataView(new ArrayBuffer(13));
  header.setUint32(0, width);
  header.setUint32(4, height);
  header.setUint8(8, 8); // bits per channel
  header.setUint8(9, channels === 1 ? 0 : 6); // grey, or RGBA
  const packed = filtered(pixels, width * channels, height).pipeThrough(new CompressionStream("deflate"));
  const data = new Uint8Array(await new Response(packed).arrayBuffer());
  const signature = new Uint8Array([137, 80, 78, 71, 13, 10, 26, 10]);
  const chunks = [
    ...chunk("IHDR", new Uint8Array(header.buffer)), ...chunk("IDAT", data), ...chunk("IEND", new Uint8Array()),
  ];
  return new Blob([signature, ...chunks], { type: "image/png" });
}

/**
 * Rows, each as its differences to the one above, which compresses better.
 * @param {Uint8Array} pixels @param {number} stride bytes of a row @param {number} height
 * @returns {ReadableStream<BufferSource>}
 */
function filtered(pixels, stride, height) {
  let top = 0;
  return new ReadableStream({
    pull(stream) {
      const rows = Math.min(ROWS, height - top);
      const band = new Uint8Array(rows * (stride + 1));
      for (let row = 0; row < rows; row++) {
        const [to, from] = [row * (stride + 1), (top + row) * stride];
        band[to] = 2; // the type of filter
        for (let at = 0; at < stride; at++) {
          band[to + 1 + at] = pixels[from + at] - (top + row > 0 ? pixels[from + at - stride] : 0);
        }
      }
      stream.enqueue(band);
      top += rows;
      if (top === height) stream.close();
    },
  });
}

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  for (let bit = 0; bit < 8; bit++) byte = byte & 1 ? 0xedb88320 ^ (byte >>> 1) : byte >>> 1;
  return byte;
});

/**
 * A chunk: length, type, content and checksum.
 * @param {string} kind @param {Uint8Array<ArrayBuffer>} data
 */
function chunk(kind, data) {
  const name = new TextEncoder().encode(kind);
  let sum = 0xffffffff;
  for (const part of [name, data]) for (const byte of part) sum = TABLE[(sum ^ byte) & 255] ^ (sum >>> 8);
  const [length, check] = [data.length, ~sum].map((value) => {
    const bytes = new DataView(new ArrayBuffer(4));
    bytes.setUint32(0, value >>> 0);
    return bytes;
  });
  return [length, name, data, check];
}
