// The page: takes pictures from a file, the clipboard, a drop or the webcam, asks the backend, and
// shows what it answers. `backend.js` is service.js or browser.js.

import { open } from "./backend.js";
import { Drawing } from "./drawing.js";
import { Results } from "./results.js";
import { askToken } from "./token.js";
import { Webcam } from "./webcam.js";

/** Of the webcam, smaller faces than this part of its height are not searched, for speed. */
const MIN_LIVE_FACE = 1 / 6;
/** The rate of the webcam is that of the last frames. */
const RATE_FRAMES = 12;
/** After this time in milliseconds, the page says what makes a search faster. */
const PATIENCE = 4000;

const parts = Object.fromEntries([...document.querySelectorAll("[id]")].map((part) => [part.id, part]));
let backend;
let results;
let drawing;
let webcam;
/** The photo on the page: {file, bitmap}, or null. */
let photo = null;
/** What was found in it or in the last frame, from left to right, and which of them is selected. */
let faces = [];
let selected = -1;
/** Counts what the page was asked for; an answer to an older request is dropped. */
let request = 0;
/** Cancels the request in progress. */
let cancel = new AbortController();
/** Counts sources that were chosen: a file that is read, or a camera that the browser asks about, shows
    only if nothing else was chosen meanwhile. */
let choice = 0;
/** Whether the browser asks about the camera. */
let isStarting = false;
/** Why there is no search for faces; stays on the page as long as nothing else is to be said. */
let lacking = "";
/** The frame of the webcam that is classified. */
const shownFrame = document.createElement("canvas");

const mode = () => document.querySelector('[name="mode"]:checked').value;
const minFace = () => Number(parts["min-face"].value);

function setError(error) {
  parts.error.hidden = !error;
  parts.error.textContent = error ? error.message : "";
}

function setHint(text, hasButton = false) {
  parts.hint.hidden = !text;
  parts.hint.firstElementChild.textContent = text;
  parts["as-one"].hidden = !hasButton;
}

/** Shows the photo or the video, or neither. */
function setStage(kind) {
  parts.frame.hidden = kind === "empty";
  parts.empty.hidden = kind !== "empty";
  parts.stage.classList.toggle("empty", kind === "empty");
  parts.photo.hidden = kind !== "photo";
  parts.video.hidden = kind !== "webcam";
  parts["mirror-label"].hidden = kind !== "webcam";
  parts.webcam.textContent = kind === "webcam" ? "Stop webcam" : "Start webcam";
  parts.webcam.classList.toggle("on", kind === "webcam");
  parts.rate.textContent = "";
}

// Photos

/** Shows a file and what is found in it. */
async function openFile(file, count = 1) {
  const own = ++choice;
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    const name = file.name || "The file";
    setError(new Error(`${name} is not a picture that this browser can show. Choose a JPEG, PNG or WebP file.`));
    return;
  }
  if (own !== choice) {
    bitmap.close();
    return;
  }
  stopWebcam();
  photo?.bitmap.close();
  photo = { file, bitmap };
  drawing.showPhoto(bitmap);
  parts.photo.setAttribute("aria-label", `Photo ${file.name || ""}`.trim());
  setStage("photo");
  await classifyPhoto();
  if (count > 1 && own === choice) {
    setHint(`The first of ${count} files is shown; this page takes one at a time.`);
  }
}

async function classifyPhoto() {
  const [own, faceMode] = [newRequest(), mode()];
  setError(null);
  setHint(lacking);
  results.report("Looking…");
  drawing.showFaces([], -1);
  parts.busy.hidden = false;
  const patience = setTimeout(() => {
    if (own === request) {
      const advice = faceMode === "detect" ? " A larger minimum face size is faster." : "";
      results.report(`Still looking.${advice}`);
    }
  }, PATIENCE);
  try {
    const options = { faces: faceMode, minFace: minFace(), signal: cancel.signal };
    const answer = await backend.predict(photo.file, options);
    if (own === request) {
      showFaces(answer.faces, 0);
      results.list(faces, selected, (face, canvas) => drawing.thumbnail(face, canvas, photo.bitmap));
      reportPhoto();
    }
  } catch (error) {
    if (own === request) {
      results.report("No result");
      setError(error);
    }
  } finally {
    clearTimeout(patience);
    if (own === request) {
      parts.busy.hidden = true;
    }
  }
}

/** Drops what the page was asked for before; returns the number of the new request. */
function newRequest() {
  cancel.abort();
  cancel = new AbortController();
  return ++request;
}

/** Announces the result, and says what to do if there is none. */
function reportPhoto() {
  if (faces.length === 0) {
    results.clear("No face found");
    const smaller = minFace() > 32 ? " Choose a smaller minimum face size, or:" : "";
    setHint(`No face was found in this picture. It may be a face that is already cut out.${smaller}`, true);
  }
  results.announce(describe());
}

/** What is found, in a sentence. */
function describe() {
  if (faces.length === 0) {
    return "No face found.";
  }
  const { class: name, probability } = faces[selected];
  const found = `${name}, ${Math.round(100 * probability)} percent.`;
  return faces.length > 1 ? `${faces.length} faces. Face ${selected + 1}: ${found}` : found;
}

// Faces

/** Shows new faces, numbered from left to right, of which the one at `index` is selected. */
function showFaces(found, index) {
  const chosen = found[index];
  faces = found.toSorted((a, b) => (a.box ? a.box.x + a.box.width / 2 - b.box.x - b.box.width / 2 : 0));
  select(faces.indexOf(chosen));
}

function select(index) {
  selected = index;
  if (faces[index]) {
    results.show(faces, index);
  }
  drawing.showFaces(faces, index, webcam?.isOn && parts.mirror.checked);
}

/** Selects a face that was clicked. One that is chosen in the list announces itself. */
function choose(index) {
  select(index);
  const input = parts["face-list"].querySelectorAll("input")[index];
  if (input) {
    input.checked = true;
    input.parentElement.scrollIntoView({ block: "nearest" });
  }
  results.announce(describe());
}

/** The index of the face that is where the selected one was; the most confident if there is none. */
function follow(found) {
  const old = faces[selected]?.box;
  const middle = (box) => [box.x + box.width / 2, box.y + box.height / 2];
  const distance = ({ box }) => Math.hypot(...middle(box).map((value, axis) => value - middle(old)[axis]));
  if (!old || found.length < 2 || !found[0].box) {
    return 0;
  }
  const nearest = found.reduce((best, face, index) => (distance(face) < distance(found[best]) ? index : best), 0);
  return distance(found[nearest]) < Math.max(old.width, old.height) ? nearest : 0;
}

// Webcam

async function startWebcam() {
  const own = ++choice;
  setError(null);
  isStarting = true;
  try {
    await webcam.start();
  } catch (error) {
    setError(error);
    return;
  } finally {
    isStarting = false;
  }
  if (own !== choice) {
    webcam.stop();
    return;
  }
  const watched = newRequest();
  setHint(lacking);
  photo?.bitmap.close();
  photo = null;
  results.clear("Looking…");
  parts.busy.hidden = true;
  setStage("webcam");
  results.announce("The webcam is on.");
  await watch(watched);
}

/** Classifies frames, one at a time, until something else is asked for. */
async function watch(own) {
  const times = [];
  let size = "";
  while (own === request) {
    // Waits while the page is not visible.
    await new Promise((resolve) => requestAnimationFrame(resolve));
    try {
      const frame = await webcam.frame();
      const { width, height } = frame;
      if (size !== (size = `${width} ${height}`)) {
        drawing.resize({ width, height });
      }
      // Predicting takes the frame away.
      [shownFrame.width, shownFrame.height] = [width, height];
      shownFrame.getContext("2d").drawImage(frame, 0, 0);
      const smallest = Math.max(minFace(), Math.round(height * MIN_LIVE_FACE));
      const options = { faces: mode(), minFace: smallest, signal: cancel.signal };
      const answer = await backend.predict(frame, options);
      if (own === request) {
        showFrame(answer.faces);
        showRate(times);
      }
    } catch (error) {
      if (own === request) {
        stopWebcam();
        setError(error);
      }
    }
  }
}

function showFrame(found) {
  showFaces(found, follow(found));
  results.list(faces, selected, (face, canvas) => drawing.thumbnail(face, canvas, shownFrame));
  if (faces.length === 0) {
    results.clear("No face in view");
  }
  const name = faces[selected]?.class;
  results.announceLive(name ? `${name}.` : "No face in view.");
}

function showRate(times) {
  times.push(performance.now());
  if (times.length > RATE_FRAMES) {
    times.shift();
  }
  if (times.length > 2) {
    const rate = (1000 * (times.length - 1)) / (times.at(-1) - times[0]);
    parts.rate.textContent = `${rate.toFixed(rate < 10 ? 1 : 0)} frames/s`;
  }
}

function stopWebcam() {
  if (!webcam.isOn) {
    return;
  }
  newRequest();
  webcam.stop();
  faces = [];
  results.clear("No picture yet");
  setStage("empty");
}

// Start

function listen() {
  parts.file.addEventListener("change", () => {
    const [file] = parts.file.files;
    if (file) {
      openFile(file);
    }
    // The same file may be chosen again.
    parts.file.value = "";
  });
  document.addEventListener("paste", ({ clipboardData }) => takeFiles(clipboardData.files));
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    parts.stage.classList.add("over");
  });
  document.addEventListener("dragleave", () => parts.stage.classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    parts.stage.classList.remove("over");
    takeFiles(event.dataTransfer.files);
  });
  parts.webcam.addEventListener("click", () => {
    if (webcam.isOn) {
      stopWebcam();
    } else if (!isStarting) {
      startWebcam();
    }
  });
  parts.mirror.addEventListener("change", () => {
    parts.video.classList.toggle("mirrored", parts.mirror.checked);
    select(selected);
  });
  parts.modes.addEventListener("change", changeMode);
  parts["min-face"].addEventListener("change", changeMode);
  parts["as-one"].addEventListener("click", () => {
    document.querySelector('[name="mode"][value="whole"]').checked = true;
    changeMode();
    document.querySelector('[name="mode"][value="whole"]').focus();
  });
}

function takeFiles(files) {
  if (files.length > 0) {
    openFile(files[0], files.length);
  }
}

function changeMode() {
  parts.smallest.hidden = mode() === "whole";
  if (photo) {
    classifyPhoto();
  }
}

function describeModel() {
  const facts = [`Model ${backend.name}`];
  if (backend.parameters) {
    facts.push(`${backend.parameters.toLocaleString("en")} parameters`);
  }
  if (typeof backend.accuracy === "number") {
    facts.push(`${(100 * backend.accuracy).toFixed(1)}% right on its validation images`);
  }
  parts.model.textContent = facts.join(" · ");
  parts.privacy.textContent = backend.privacy;
  if (backend.card) {
    const [card, licenses] = parts.card.querySelectorAll("a");
    [card.href, licenses.href] = [backend.card, "LICENSES.txt"];
    parts.card.hidden = false;
  }
}

async function start() {
  parts.start.hidden = parts.retry.hidden = true;
  setError(null);
  try {
    backend = await open(askToken);
  } catch (error) {
    parts.empty.textContent = "The model could not be loaded.";
    setError(error);
    parts.retry.hidden = false;
    return;
  }
  results = new Results(parts, backend.classes, select);
  drawing = new Drawing(parts, choose);
  webcam = new Webcam(parts.video, () => {
    stopWebcam();
    setError(new Error("The camera was disconnected or its permission was withdrawn."));
  });
  describeModel();
  if (!backend.hasDetector) {
    document.querySelector('[value="whole"]').checked = true;
    document.querySelector('[value="detect"]').disabled = true;
    const reason = backend.detectorProblem ? ` Where the service runs: ${backend.detectorProblem}` : "";
    lacking = `The service has no face detector: pictures are taken as one face.${reason}`;
    setHint(lacking);
  }
  parts.video.classList.toggle("mirrored", parts.mirror.checked);
  parts.empty.textContent = "Drop a photo here, paste one, choose a file, or start the webcam.";
  listen();
  changeMode();
  setStage("empty");
  parts.file.disabled = parts.webcam.disabled = false;
}

parts.retry.addEventListener("click", start);
start();
