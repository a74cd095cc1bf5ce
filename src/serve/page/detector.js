// Finds faces with CenterFace, as the crate face-detect does: the same levels, tiles, boxes and crops.
// The measurements behind the numbers are in that crate.

import { resample } from "./picture.js";

/** Size in pixels of the network's input that the smallest faces get. */
const SMALLEST = 32;
/** Each level has this many pixels of the next, in both directions. */
const RATIO = 4;
/** The last level is the first whose longer side is not longer than this. */
const LAST = 256;
/** The longest side of a tile in pixels of the network's input. */
const TILE = 1536;
/** What neighboring tiles have in common. */
const COMMON = 256;
/** The input's sides are multiples of this. */
const GRID = 32;
/** Pixels of the input for each cell of the output, in both directions. */
const CELL = 4;
/** Lowest score of a face. */
const THRESHOLD = 0.32;
/** Smaller faces than this part of the minimum are left out. */
const TOLERANCE = 0.75;
/** Boxes that are compared with each other, to bound the time. */
const MAX_BOXES = 10_000;

/**
 * The faces of a picture, the most confident first: {x, y, width, height, score}. `run(planes, width, height)`
 * runs the network and resolves to its outputs {heat, size, offset}.
 */
export async function detect(picture, minFace, run) {
  const faces = [];
  for (const scale of levels(picture.width, picture.height, minFace)) {
    for (const y of tiles(scaled(picture.height, scale))) {
      for (const x of tiles(scaled(picture.width, scale))) {
        const start = [Math.fround(x.start / scale), Math.fround(y.start / scale)];
        const planes = resample(picture, ...start, Math.fround(1 / scale), x.length, y.length);
        for (const face of decode(await run(planes, x.length, y.length), x.length / CELL, y.length / CELL)) {
          if (isCore(x, face.x + face.width / 2) && isCore(y, face.y + face.height / 2)) {
            faces.push({
              x: start[0] + face.x / scale,
              y: start[1] + face.y / scale,
              width: face.width / scale,
              height: face.height / scale,
              score: face.score,
            });
          }
        }
      }
    }
  }
  // The network also finds smaller faces, but not reliably, and with coarse boxes.
  return best(faces.filter((face) => cropSquare(face).side >= TOLERANCE * minFace));
}

/** The square around a face that is cut out for the classifier, as FER2013 cuts faces. */
export function cropSquare({ x, y, width, height }) {
  const side = (1.125 * (width + height)) / 2;
  return { x: x + (width - side) / 2, y: y + (height - side) / 2 - 0.02 * height, side };
}

/** The scales of the pyramid, from fine to coarse. */
function levels(width, height, minFace) {
  let scale = Math.fround(SMALLEST / minFace);
  const scales = [scale];
  while (Math.max(width, height) * scale > LAST) {
    scale = Math.fround(scale / RATIO);
    scales.push(scale);
  }
  return scales;
}

function scaled(length, scale) {
  return Math.max(Math.ceil(length * scale), 1);
}

/** The tiles of one axis, each with whether there is one before and behind. */
function tiles(length) {
  const found = [];
  for (let start = 0; ; start += TILE - COMMON) {
    const isLast = length - start <= TILE;
    const size = isLast ? Math.ceil((length - start) / GRID) * GRID : TILE;
    found.push({ start, length: size, hasPrevious: start > 0, hasNext: !isLast });
    if (isLast) {
      return found;
    }
  }
}

/** Whether a face with its center here belongs to this tile and not to a neighbor. */
function isCore(tile, center) {
  const half = COMMON / 2;
  return (!tile.hasPrevious || center >= half) && (!tile.hasNext || center < tile.length - half);
}

/** Boxes in pixels of the network's input, one for each peak of the heat map. */
function decode({ heat, size, offset }, width, height) {
  const area = width * height;
  const faces = [];
  for (let at = 0; at < area; at++) {
    if (!(heat[at] >= THRESHOLD && isPeak(heat, at, width, height))) {
      continue;
    }
    const length = (log) => Math.exp(Math.min(Math.max(log, -4), 8)) * CELL;
    const middle = (cell, shift) => (cell + 0.5 + Math.min(Math.max(shift, -4), 4)) * CELL;
    // Height comes before width, and down before right.
    const [faceHeight, faceWidth] = [length(size[at]), length(size[area + at])];
    const x = middle(at % width, offset[area + at]) - faceWidth / 2;
    const y = middle(Math.floor(at / width), offset[at]) - faceHeight / 2;
    if ([x, y, faceWidth, faceHeight].every(Number.isFinite)) {
      faces.push({ x, y, width: faceWidth, height: faceHeight, score: heat[at] });
    }
  }
  return faces;
}

/** Whether no cell around is hotter. Of equal ones the first is the peak. */
function isPeak(heat, at, width, height) {
  const [x, y] = [at % width, Math.floor(at / width)];
  for (let ny = Math.max(y - 1, 0); ny <= Math.min(y + 1, height - 1); ny++) {
    for (let nx = Math.max(x - 1, 0); nx <= Math.min(x + 1, width - 1); nx++) {
      const other = ny * width + nx;
      if (other !== at && (other < at ? heat[other] >= heat[at] : heat[other] > heat[at])) {
        return false;
      }
    }
  }
  return true;
}

/** Keeps the best of the boxes that show the same face. */
function best(faces) {
  const sorted = faces.sort((a, b) => b.score - a.score).slice(0, MAX_BOXES);
  const kept = [];
  for (const face of sorted) {
    if (!kept.some((other) => isSame(face, other))) {
      kept.push(face);
    }
  }
  return kept;
}

/** Whether two boxes overlap so much that they show one face, or one a part of the other's. */
function isSame(a, b) {
  const width = Math.min(a.x + a.width, b.x + b.width) - Math.max(a.x, b.x);
  const height = Math.min(a.y + a.height, b.y + b.height) - Math.max(a.y, b.y);
  const both = Math.max(width, 0) * Math.max(height, 0);
  const [areaA, areaB] = [a.width * a.height, b.width * b.height];
  return both / (areaA + areaB - both) > 0.3 || both / Math.min(areaA, areaB) > 0.7;
}
