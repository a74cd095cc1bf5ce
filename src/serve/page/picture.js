// Pixels, as Grimace computes them: gray, crops and resizing. Each function names the Rust that it
// agrees with, up to the last digits of floating-point sums.

/** Most pixels of a picture: the limit of `grimace predict`. */
const MAX_PIXELS = 100_000_000;

/** The pixels of an image bitmap: {data, width, height}, four bytes for each pixel. */
export function readPixels(bitmap) {
  const { width, height } = bitmap;
  if (width * height > MAX_PIXELS) {
    throw new Error(`The picture has ${width} × ${height} pixels; at most 100 megapixels are read.`);
  }
  const canvas = new OffscreenCanvas(width, height);
  // In memory: read back from a graphics card, pixels may be rounded.
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  return { data: context.getImageData(0, 0, width, height).data, width, height };
}

/**
 * Resamples the part that begins at (x, y), `step` pixels for each pixel of the result, by averages
 * where it shrinks and linear interpolation where it grows. Outside, the border is repeated.
 * Returns the planes red, green, blue, values 0 to 255. (face-detect, Picture::resample)
 */
export function resample(picture, x, y, step, width, height) {
  const area = width * height;
  const planes = new Float32Array(3 * area);
  const columns = Array.from({ length: width }, (_, at) => taps(x, step, at, picture.width));
  const first = Math.min(...columns.map((column) => column.first));
  const end = Math.max(...columns.map((column) => column.first + column.weights.length));
  const sums = new Float32Array(3 * (end - first));
  for (let row = 0; row < height; row++) {
    sumRows(picture, taps(y, step, row, picture.height), first, end, sums);
    for (let column = 0; column < width; column++) {
      const { first: start, weights } = columns[column];
      let [red, green, blue] = [0, 0, 0];
      for (let i = 0, at = 3 * (start - first); i < weights.length; i++, at += 3) {
        red += weights[i] * sums[at];
        green += weights[i] * sums[at + 1];
        blue += weights[i] * sums[at + 2];
      }
      const to = row * width + column;
      planes[to] = red;
      planes[area + to] = green;
      planes[2 * area + to] = blue;
    }
  }
  return planes;
}

/** Weighted sum of a few rows of the picture, from column `first` to `end`, three values each. */
function sumRows(picture, { first: top, weights }, first, end, sums) {
  sums.fill(0);
  for (let i = 0; i < weights.length; i++) {
    const weight = weights[i];
    let from = 4 * ((top + i) * picture.width + first);
    for (let to = 0; to < sums.length; to += 3, from += 4) {
      sums[to] += weight * picture.data[from];
      sums[to + 1] += weight * picture.data[from + 1];
      sums[to + 2] += weight * picture.data[from + 2];
    }
  }
}

/**
 * The pixels of one axis that pixel `at` of the result is made of, and their weights: a triangle as
 * wide as two pixels of the coarser grid. (face-detect, Taps::new)
 */
function taps(start, step, at, size) {
  const last = size - 1;
  const clamp = (position) => Math.min(Math.max(position, 0), last);
  step = Math.min(step, 4 * size);
  const center = Math.min(Math.max(start + (at + 0.5) * step - 0.5, -1e9), 1e9);
  const reach = Math.max(step, 1);
  const first = clamp(Math.ceil(center - reach));
  const weights = new Float64Array(clamp(Math.floor(center + reach)) - first + 1);
  for (let position = Math.ceil(center - reach); position <= center + reach; position++) {
    // What lies outside counts for the border pixel.
    weights[clamp(position) - first] += Math.max(1 - Math.abs(position - center) / reach, 0);
  }
  const sum = weights.reduce((total, weight) => total + weight, 0);
  if (sum <= 0) {
    weights[0] = 1;
    return { first, weights: Float32Array.from(weights) };
  }
  // Weights of 0, such as two of three where nothing is scaled, only cost time.
  const left = weights.findIndex((weight) => weight > 0);
  const right = weights.findLastIndex((weight) => weight > 0) + 1;
  return { first: first + left, weights: Float32Array.from(weights.slice(left, right), (weight) => weight / sum) };
}

/** Cuts out a square {x, y, side} as `side` x `side` gray pixels. (face-detect, Picture::crop_gray) */
export function cropGray(picture, square, side) {
  const step = Math.fround(Math.max(square.side, 0) / side);
  const planes = resample(picture, square.x, square.y, step, side, side);
  const area = side * side;
  return Uint8Array.from({ length: area }, (_, i) => {
    const [red, green, blue] = [planes[i], planes[area + i], planes[2 * area + i]];
    // A gray picture stays as it is; the weights sum up to 1.
    const gray = red === green && green === blue ? red : 0.299 * red + 0.587 * green + 0.114 * blue;
    return Math.round(gray);
  });
}

/** The whole picture as `side` x `side` gray pixels. (data/picture.rs, into_gray and to_face) */
export function wholeGray({ data, width, height }, side) {
  const gray = new Uint8Array(width * height);
  for (let i = 0, from = 0; i < gray.length; i++, from += 4) {
    gray[i] = (19595 * data[from] + 38470 * data[from + 1] + 7471 * data[from + 2] + 0x8000) >> 16;
  }
  // Columns first; each pass is left out if its length is right already.
  const columns = { lines: width, from: { line: 1, at: width }, to: { line: 1, at: width } };
  const narrow = height === side ? gray : resize(gray, height, side, columns);
  const rows = { lines: side, from: { line: width, at: 1 }, to: { line: side, at: 1 } };
  return width === side ? narrow : resize(narrow, width, side, rows);
}

/**
 * One pass of an antialiased bilinear resize in whole numbers, as fast_image_resize does it: each of
 * `lines` from `size` to `side` values. `from` and `to` say how far apart lines and values are.
 */
function resize(gray, size, side, { lines, from, to }) {
  const { precision, chunks } = wholeWeights(size, side);
  const half = 1 << (precision - 1);
  const result = new Uint8Array(side * lines);
  for (let line = 0; line < lines; line++) {
    for (let at = 0; at < side; at++) {
      const { first, weights } = chunks[at];
      let sum = half;
      for (let i = 0; i < weights.length; i++) {
        sum += weights[i] * gray[line * from.line + (first + i) * from.at];
      }
      result[line * to.line + at * to.at] = Math.min(Math.max(sum >> precision, 0), 255);
    }
  }
  return result;
}

/** Weights of a pass, scaled by 2^precision, the largest with which all of them fit into 16 bits. */
function wholeWeights(size, side) {
  const scale = size / side;
  const reach = Math.max(scale, 1);
  const chunks = Array.from({ length: side }, (_, at) => {
    const center = (at + 0.5) * scale;
    let first = Math.max(Math.floor(center - reach), 0);
    const end = Math.min(Math.ceil(center + reach), size);
    const weights = [];
    for (let x = first; x < end; x++) {
      weights.push(Math.max(1 - Math.abs((x - center + 0.5) / reach), 0));
    }
    while (weights.length > 1 && weights[0] === 0) {
      weights.shift();
      first++;
    }
    const sum = weights.reduce((total, weight) => total + weight, 0);
    return { first, weights: weights.map((weight) => weight / sum) };
  });
  const largest = Math.max(...chunks.flatMap(({ weights }) => weights));
  let precision = 0;
  while (precision < 21 && Math.round(largest * 2 ** (precision + 1)) < 1 << 15) {
    precision++;
  }
  for (const chunk of chunks) {
    chunk.weights = Int16Array.from(chunk.weights, (weight) => Math.round(weight * 2 ** precision));
  }
  return { precision, chunks };
}
