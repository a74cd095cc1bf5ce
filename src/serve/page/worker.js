// Runs detector and classifier with ONNX Runtime, apart from the page, so that it stays responsive.
// Messages: {files} opens the models; {id, source, options} is answered with {id, answer} or {id, error}.

import * as ort from "./onnxruntime/onnxruntime-web.js";
import { cropSquare, detect } from "./detector.js";
import { cropGray, readPixels, wholeGray } from "./picture.js";

/** Faces that are classified at once. */
const MAX_BATCH = 64;

/** The id of the newest message: a search for an older one ends. */
let newest = 0;
let classifier;
let detector;
let labels;
let side;

async function open({ files, threads }) {
  ort.env.wasm.numThreads = threads;
  ort.env.wasm.wasmPaths = { wasm: files.wasm };
  ort.env.logLevel = "error";
  const description = await (await fetchFile(files.description)).json();
  labels = description.labels;
  side = description.input.shape.at(-1);
  const options = { executionProviders: ["wasm"], graphOptimizationLevel: "all" };
  const load = async (file) => ort.InferenceSession.create(await (await fetchFile(file)).arrayBuffer(), options);
  classifier = await load(files.classifier);
  detector = await load(files.detector);
  return { description };
}

async function fetchFile(file) {
  const response = await fetch(file);
  if (!response.ok) {
    throw new Error(`${file} is missing (${response.status}); export the page again.`);
  }
  return response;
}

/** The answer of the service for one picture: {width, height, faces}. */
async function predict(id, source, { faces, minFace }) {
  const bitmap = source instanceof Blob ? await decode(source) : source;
  const picture = readPixels(bitmap);
  bitmap.close();
  const run = (...tile) => {
    if (id !== newest) {
      throw new Error("The search was superseded by another one.");
    }
    return runDetector(...tile);
  };
  const boxes = faces === "detect" ? await detect(picture, minFace, run) : [null];
  const crops = boxes.map((box) => (box ? cropGray(picture, cropSquare(box), side) : wholeGray(picture, side)));
  const rows = await classify(crops);
  return {
    width: picture.width,
    height: picture.height,
    faces: boxes.map((box, i) => describe(box, rows[i])),
  };
}

/** Upright, and with the colors of the file, as other decoders give them. */
async function decode(blob) {
  const options = { imageOrientation: "from-image", premultiplyAlpha: "none", colorSpaceConversion: "none" };
  try {
    return await createImageBitmap(blob, options);
  } catch {
    throw new Error("The file is not a picture that this browser can read; use JPEG, PNG or WebP.");
  }
}

async function runDetector(planes, width, height) {
  const input = new ort.Tensor("float32", planes, [1, 3, height, width]);
  const outputs = await detector.run({ [detector.inputNames[0]]: input });
  const [heat, size, offset] = detector.outputNames.map((name) => outputs[name].data);
  return { heat, size, offset };
}

/** The probabilities of each crop. */
async function classify(crops) {
  const rows = [];
  for (let start = 0; start < crops.length; start += MAX_BATCH) {
    const batch = crops.slice(start, start + MAX_BATCH);
    const pixels = new Float32Array(batch.length * side * side);
    batch.forEach((crop, i) => pixels.set(crop, i * side * side));
    const input = new ort.Tensor("float32", pixels, [batch.length, 1, side, side]);
    const { probabilities } = await classifier.run({ pixels: input });
    for (let i = 0; i < batch.length; i++) {
      rows.push(Array.from(probabilities.data.subarray(i * labels.length, (i + 1) * labels.length)));
    }
  }
  return rows;
}

function describe(box, row) {
  const index = row.indexOf(Math.max(...row));
  return {
    box: box && { x: box.x, y: box.y, width: box.width, height: box.height },
    score: box && box.score,
    class: labels[index],
    index,
    probability: row[index],
    probabilities: Object.fromEntries(labels.map((label, i) => [label, row[i]])),
  };
}

/** A message for people; running out of memory has many names. */
function describeError(error) {
  const message = error.message || String(error);
  return error instanceof RangeError || /bad_alloc|memory|allocat/i.test(message)
    ? "The browser has not enough memory for this picture. Choose a larger minimum face size, or a smaller picture."
    : message;
}

self.onmessage = async ({ data }) => {
  newest = data.id;
  try {
    const answer = data.files ? await open(data) : await predict(data.id, data.source, data.options);
    self.postMessage({ id: data.id, answer });
  } catch (error) {
    self.postMessage({ id: data.id, error: describeError(error) });
  }
};
