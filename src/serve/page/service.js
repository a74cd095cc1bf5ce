// The backend of `grimace serve`: pictures go to the service that this page came from.
//
// A backend has: name, classes, parameters, accuracy, hasDetector, detectorProblem (why there is none, or
// null), card (an address or null), privacy (a sentence), and predict(source, {faces, minFace, signal}),
// where source is a Blob or an ImageBitmap, and signal, if given, an AbortSignal. It resolves to {width, height, faces: [{box, score, class, index, probability, probabilities}]}.

/** Kinds of pictures that the service reads; others are sent as PNG, if the browser can read them. */
const READ = ["image/jpeg", "image/png", "image/webp", "image/bmp", "image/tiff"];

/** Quality of the JPEG that a frame of the camera becomes. */
const QUALITY = 0.92;

/** How often a busy service is asked again, and how long to wait at most, in seconds. */
const MAX_TRIES = 5;
const MAX_WAIT = 5;

/** What a header can hold. */
const TOKEN = /^[\x21-\x7e]+$/;

/** Shown if nothing answers. */
const GONE = "The service does not answer. Is grimace serve still running? Then try again.";

const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;

/** The token of a service that other machines can reach; asked for when it is needed. */
let token = "";

/** Asks the service for its model. `askToken()` resolves to a token, or null. */
export async function open(askToken) {
  const model = await (await request("v1/model", {}, askToken)).json();
  const isLocal = ["localhost", "127.0.0.1", "[::1]"].includes(location.hostname);
  return {
    name: model.run && model.run !== model.name ? `${model.name} (${model.run})` : model.name,
    classes: model.classes,
    parameters: model.parameters,
    accuracy: model.val_accuracy_dedup ?? model.val_accuracy,
    hasDetector: model.detector,
    detectorProblem: model.detector_problem ?? null,
    card: null,
    privacy: isLocal
      ? "Pictures go to grimace serve on this machine and nowhere else. They are not stored."
      : `Pictures go to ${location.host}, where this page came from, and nowhere else. They are not stored.`,
    async predict(source, { faces, minFace, signal }) {
      const body = await encode(source);
      const limit = model.limits?.body_bytes ?? Infinity;
      if (body.size > limit) {
        throw new Error(`The picture has ${megabytes(body.size)}; this service takes at most ${megabytes(limit)}.`);
      }
      const query = faces === "detect" ? `faces=detect&min_face=${minFace}` : "faces=whole";
      // Browsers do not know the type of every picture; the service looks at the bytes.
      const headers = { "Content-Type": body.type.startsWith("image/") ? body.type : "image/png" };
      const response = await request(`v1/predict?${query}`, { method: "POST", headers, body, signal }, askToken);
      return (await response.json()).images[0];
    },
  };
}

async function request(path, options, askToken) {
  for (let tries = 1; ; tries++) {
    const headers = { ...options.headers, ...(token && { Authorization: `Bearer ${token}` }) };
    const response = await fetch(path, { ...options, headers }).catch(() => {
      throw new Error(GONE);
    });
    if (response.ok) {
      return response;
    }
    if (response.status === 401 && tries < MAX_TRIES) {
      token = await askToken(tries > 1);
      while (token && !TOKEN.test(token)) {
        token = await askToken(true);
      }
      if (token) {
        continue;
      }
    }
    if (response.status === 503 && tries < MAX_TRIES) {
      const seconds = Number(response.headers.get("Retry-After")) || 1;
      await new Promise((resolve) => setTimeout(resolve, 1000 * Math.min(seconds, MAX_WAIT)));
      continue;
    }
    throw new Error(await problem(response));
  }
}

/** What the service says is wrong. */
async function problem(response) {
  const found = await response.json().catch(() => null);
  return found?.error?.message ?? `The service answered with status ${response.status}.`;
}

/** The bytes of a picture: those of a file, or a JPEG of a frame. */
async function encode(source) {
  if (!(source instanceof Blob)) {
    return draw(source, "image/jpeg");
  }
  if (READ.includes(source.type) || !source.type.startsWith("image/")) {
    return source;
  }
  return createImageBitmap(source).then((bitmap) => draw(bitmap, "image/png"), () => source);
}

function draw(bitmap, type) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  bitmap.close();
  return new Promise((resolve, reject) => {
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("The picture cannot be encoded."))), type, QUALITY);
  });
}
