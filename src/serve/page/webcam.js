// The camera of this machine.

/** Enough for faces of 60 pixels, and quick to search. */
const SIZE = { width: { ideal: 640 }, height: { ideal: 480 }, facingMode: "user" };

/** What the browser's errors mean. */
const PROBLEMS = {
  NotAllowedError: "The browser did not allow the camera. Allow it for this page, beside the address, and start the webcam again.",
  NotFoundError: "No camera was found. Connect one and start the webcam again, or choose a photo.",
  NotReadableError: "The camera cannot be read. Another program may be using it: close that, and start the webcam again.",
};

export class Webcam {
  #video;
  #stream = null;

  /** `onEnd` is called when the camera goes away by itself. */
  constructor(video, onEnd) {
    this.#video = video;
    this.onEnd = onEnd;
  }

  /** Asks for the camera, and resolves when it shows something. If it fails, the camera is off. */
  async start() {
    if (!navigator.mediaDevices) {
      throw new Error("Browsers give the camera only to pages from localhost or over HTTPS. Choose a photo instead.");
    }
    try {
      this.#stream = await navigator.mediaDevices.getUserMedia({ video: SIZE, audio: false });
    } catch (error) {
      throw new Error(PROBLEMS[error.name] ?? `The camera cannot be used: ${error.message}`);
    }
    for (const track of this.#stream.getTracks()) {
      track.addEventListener("ended", () => this.onEnd());
    }
    this.#video.srcObject = this.#stream;
    try {
      await this.#video.play();
    } catch (error) {
      this.stop();
      throw new Error(`The camera shows nothing: ${error.message}`);
    }
  }

  stop() {
    this.#stream?.getTracks().forEach((track) => track.stop());
    this.#stream = null;
    this.#video.srcObject = null;
  }

  get isOn() {
    return this.#stream !== null;
  }

  /** The current frame, as an image bitmap. */
  frame() {
    return createImageBitmap(this.#video);
  }
}
