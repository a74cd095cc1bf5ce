// What was found, beside the picture: the answer, a bar for each class, and a list of faces. Also what
// a screen reader announces.

/** Shortest time between two announcements of the webcam, and how long a class must last, in ms. */
const QUIET = 4000;
const STEADY = 1200;
/** Pixels of a thumbnail's side. */
const THUMBNAIL = 88;

const percent = (probability) => `${(100 * probability).toFixed(1)}%`;

export class Results {
  #parts;
  #classes;
  #bars = [];
  #announced = { text: "", at: 0, candidate: "", since: 0 };

  /** `parts` are elements by their id; `onSelect(index)` is called for a choice in the list. */
  constructor(parts, classes, onSelect) {
    this.#parts = parts;
    this.#classes = classes;
    this.#bars = classes.map((name) => addBar(parts.bars, name));
    parts["face-list"].addEventListener("change", (event) => onSelect(Number(event.target.value)));
    this.clear("No picture yet");
  }

  /** Shows that there is nothing, and why. */
  clear(reason) {
    this.#parts.answer.classList.add("none");
    this.#parts.which.textContent = reason;
    this.#parts.bars.classList.add("waiting");
    for (const bar of this.#bars) {
      setBar(bar, 0, false);
      bar.number.textContent = "–";
    }
    this.#parts.faces.hidden = true;
    this.#parts["face-list"].replaceChildren();
  }

  /** Shows that there is nothing, and why, and announces it. */
  report(reason) {
    this.clear(reason);
    this.announce(reason);
  }

  /** Shows the face `index` of `faces`. */
  show(faces, index) {
    const face = faces[index];
    const [name, value] = this.#parts.answer.children;
    this.#parts.answer.classList.remove("none");
    [name.textContent, value.textContent] = [face.class, percent(face.probability)];
    this.#parts.which.textContent = which(faces, index);
    this.#parts.bars.classList.remove("waiting");
    // By name: the keys of an object that look like numbers come first, whatever their order was.
    this.#classes.forEach((name, at) => setBar(this.#bars[at], face.probabilities[name], at === face.index));
  }

  /** Lists the faces, if there are several. `draw(face, canvas)` draws a thumbnail. */
  list(faces, selected, draw) {
    const { faces: group, "face-list": list } = this.#parts;
    group.hidden = faces.length < 2;
    if (group.hidden) {
      list.replaceChildren();
      return;
    }
    while (list.children.length > faces.length) {
      list.lastChild.remove();
    }
    faces.forEach((face, index) => {
      const entry = list.children[index] ?? list.appendChild(newEntry(index));
      const [input, canvas, text] = entry.children;
      input.checked = index === selected;
      text.firstChild.textContent = `${index + 1} ${face.class}`;
      text.lastChild.textContent = percent(face.probability);
      draw(face, canvas);
    });
  }

  /** Announces the result of a photo. */
  announce(text) {
    this.#parts.status.textContent = text;
    this.#announced = { text, at: performance.now(), candidate: text, since: 0 };
  }

  /** Announces a result of the webcam once it lasts, and not more often than a listener can follow. */
  announceLive(text) {
    const [now, announced] = [performance.now(), this.#announced];
    if (text !== announced.candidate) {
      [announced.candidate, announced.since] = [text, now];
    }
    if (text !== announced.text && now - announced.since > STEADY && now - announced.at > QUIET) {
      this.announce(text);
    }
  }
}

/** The sentence below the answer. */
function which(faces, index) {
  const { box } = faces[index];
  if (!box) {
    return "The whole picture, taken as one face";
  }
  const size = `${Math.round(box.width)} × ${Math.round(box.height)} pixels`;
  return faces.length > 1 ? `Face ${index + 1} of ${faces.length}, ${size}` : `One face, ${size}`;
}

function addBar(body, name) {
  const row = body.insertRow();
  const head = document.createElement("th");
  head.scope = "row";
  head.textContent = name;
  head.title = name;
  const track = document.createElement("div");
  track.className = "track";
  const [fill, number] = [document.createElement("i"), document.createElement("data")];
  fill.setAttribute("aria-hidden", "true");
  track.append(fill, number);
  row.append(head);
  row.insertCell().append(track);
  return { row, fill, number };
}

function setBar({ row, fill, number }, probability, isTop) {
  row.classList.toggle("top", isTop);
  fill.style.setProperty("--value", probability);
  number.value = probability;
  number.textContent = percent(probability);
}

function newEntry(index) {
  const entry = document.createElement("label");
  const [input, canvas] = [document.createElement("input"), document.createElement("canvas")];
  [input.type, input.name, input.value] = ["radio", "face", index];
  [canvas.width, canvas.height] = [THUMBNAIL, THUMBNAIL];
  canvas.setAttribute("aria-hidden", "true");
  const [text, small] = [document.createElement("span"), document.createElement("small")];
  text.append(" ", small);
  entry.append(input, canvas, text);
  return entry;
}
