// Draws a photo, and boxes over a photo or the webcam.

/** Longer sides of a photo on the screen need no more pixels than this. */
const MAX_SIDE = 2400;
/** Photos with fewer pixels on a side are shown with hard pixels. */
const TINY = 128;
/** With more faces, or on smaller boxes, only the selected one has its class beside it; the others have
 * numbers. */
const MAX_NAMED = 4;
const MIN_NAMED_WIDTH = 60;
/** Shortest side in screen pixels of the area that a click on a small face hits. */
const MIN_TARGET = 24;

export class Drawing {
  #frame;
  #photo;
  #boxes;
  #size = { width: 1, height: 1 };
  #faces = [];
  #selected = -1;
  #isMirrored = false;

  /** `onSelect(index)` is called for a click on the box of a face. */
  constructor({ frame, photo, boxes }, onSelect) {
    [this.#frame, this.#photo, this.#boxes] = [frame, photo, boxes];
    new ResizeObserver(() => this.#draw()).observe(boxes);
    boxes.addEventListener("click", (event) => {
      const index = this.#find(event.offsetX, event.offsetY);
      if (index >= 0) {
        onSelect(index);
      }
    });
  }

  /** Shows a photo, an image bitmap. */
  showPhoto(bitmap) {
    const scale = Math.min(1, MAX_SIDE / Math.max(bitmap.width, bitmap.height));
    this.#photo.width = Math.max(1, Math.round(bitmap.width * scale));
    this.#photo.height = Math.max(1, Math.round(bitmap.height * scale));
    this.#photo.classList.toggle("tiny", Math.max(bitmap.width, bitmap.height) <= TINY);
    this.#photo.getContext("2d").drawImage(bitmap, 0, 0, this.#photo.width, this.#photo.height);
    this.resize(bitmap);
  }

  /** Sets the size of what is shown, and shows no boxes. */
  resize({ width, height }) {
    this.#size = { width, height };
    this.#frame.style.setProperty("--ratio", width / height);
    this.showFaces([], -1);
  }

  /** Shows the boxes of the faces, one of them selected. */
  showFaces(faces, selected, isMirrored = false) {
    [this.#faces, this.#selected, this.#isMirrored] = [faces, selected, isMirrored];
    this.#boxes.classList.toggle("several", faces.length > 1);
    this.#draw();
  }

  /** A small picture of the face, cut out of `source`: the photo, or the video. */
  thumbnail(face, canvas, source) {
    const { x, y, width, height } = face.box;
    const side = 1.125 * Math.max(width, height);
    const scale = (source.videoWidth || source.width) / this.#size.width;
    const square = [x + (width - side) / 2, y + (height - side) / 2, side, side].map((value) => value * scale);
    canvas.getContext("2d").drawImage(source, ...square, 0, 0, canvas.width, canvas.height);
  }

  /** The box of a face in screen pixels. */
  #place({ box }) {
    const scale = this.#boxes.clientWidth / this.#size.width;
    const x = this.#isMirrored ? this.#size.width - box.x - box.width : box.x;
    return { x: x * scale, y: box.y * scale, width: box.width * scale, height: box.height * scale };
  }

  /** The smallest face at a point, or -1. */
  #find(x, y) {
    let [found, smallest] = [-1, Infinity];
    this.#faces.forEach((face, index) => {
      if (!face.box) {
        return;
      }
      const place = this.#place(face);
      const [dx, dy] = [place.width, place.height].map((side) => Math.max(MIN_TARGET - side, 0) / 2);
      const isInside = x >= place.x - dx && x <= place.x + place.width + dx &&
        y >= place.y - dy && y <= place.y + place.height + dy;
      if (isInside && place.width * place.height < smallest) {
        [found, smallest] = [index, place.width * place.height];
      }
    });
    return found;
  }

  #draw() {
    const { clientWidth, clientHeight } = this.#boxes;
    const ratio = window.devicePixelRatio || 1;
    this.#boxes.width = Math.round(clientWidth * ratio);
    this.#boxes.height = Math.round(clientHeight * ratio);
    const context = this.#boxes.getContext("2d");
    context.scale(ratio, ratio);
    const order = this.#faces.map((_, index) => index).filter((index) => this.#faces[index].box);
    // The selected one last, above the others.
    order.sort((a, b) => (a === this.#selected) - (b === this.#selected));
    for (const index of order) {
      this.#drawBox(context, index, clientWidth);
    }
  }

  #drawBox(context, index, fullWidth) {
    const face = this.#faces[index];
    const { x, y, width, height } = this.#place(face);
    const isSelected = index === this.#selected;
    // The same in light and dark: the background is a photo.
    for (const [color, lineWidth] of [["rgb(0 0 0 / 0.55)", isSelected ? 6 : 4], [isSelected ? "#58a6ff" : "#fff", isSelected ? 3 : 1.5]]) {
      context.strokeStyle = color;
      context.lineWidth = lineWidth;
      context.beginPath();
      context.roundRect(x, y, width, height, 6);
      context.stroke();
    }
    const number = this.#faces.length > 1 ? `${index + 1}` : "";
    const isNamed = isSelected || (this.#faces.length <= MAX_NAMED && width >= MIN_NAMED_WIDTH);
    const text = [number, isNamed ? face.class : ""].filter(Boolean).join(" ");
    if (text) {
      drawLabel(context, text, { x, y, height, isSelected, fullWidth });
    }
  }
}

/** A label above a box, or inside of it at the upper border. */
function drawLabel(context, text, { x, y, isSelected, fullWidth }) {
  context.font = `600 ${isSelected ? 14 : 12}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  const [width, height] = [context.measureText(text).width + 12, isSelected ? 22 : 18];
  const left = Math.min(Math.max(x, 2), Math.max(fullWidth - width - 2, 2));
  const top = y - height - 4 < 0 ? Math.max(y, 0) + 4 : y - height - 4;
  context.fillStyle = isSelected ? "#58a6ff" : "rgb(0 0 0 / 0.75)";
  context.beginPath();
  context.roundRect(left, top, width, height, 4);
  context.fill();
  context.fillStyle = isSelected ? "#04142b" : "#fff";
  context.fillText(text, left + 6, top + height / 2 + 0.5);
}
