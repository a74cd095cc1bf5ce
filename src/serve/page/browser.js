// The backend of the web export: everything happens in this browser, in a worker (worker.js).

const asset = (path) => new URL(path, import.meta.url).href;

/** More threads do not make such small networks faster. */
const MAX_THREADS = 4;

/** Loads the models. See service.js for what a backend is. */
export async function open() {
  const worker = new Worker(asset("worker.js"), { type: "module" });
  const waiting = new Map();
  let last = 0;
  const ask = (message, transfer) =>
    new Promise((resolve, reject) => {
      const id = ++last;
      waiting.set(id, { resolve, reject });
      worker.postMessage({ id, ...message }, transfer ?? []);
    });
  worker.onmessage = ({ data: { id, answer, error } }) => {
    const { resolve, reject } = waiting.get(id);
    waiting.delete(id);
    error ? reject(new Error(error)) : resolve(answer);
  };
  worker.onerror = (event) => {
    const problem = new Error(`The worker failed: ${event.message || "assets/worker.js cannot be loaded"}.`);
    waiting.forEach(({ reject }) => reject(problem));
    waiting.clear();
  };
  const files = {
    wasm: asset("onnxruntime/ort-wasm-simd-threaded.wasm"),
    description: asset("../model.json"),
    classifier: asset("../model.onnx"),
    detector: asset("../detector.onnx"),
  };
  // Threads share memory, which browsers allow only to pages that are isolated by two headers.
  const threads = self.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency, MAX_THREADS) : 1;
  const { description } = await ask({ files, threads });
  return {
    name: description.name,
    classes: description.labels,
    parameters: description.parameters,
    accuracy: description.provenance?.val_accuracy_dedup ?? description.provenance?.val_accuracy,
    hasDetector: true,
    detectorProblem: null,
    card: "MODEL_CARD.md",
    privacy: "Pictures stay in this browser. Nothing is uploaded.",
    predict: (source, { faces, minFace }) =>
      ask({ source, options: { faces, minFace } }, source instanceof Blob ? [] : [source]),
  };
}
