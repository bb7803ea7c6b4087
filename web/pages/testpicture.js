/** A moving picture and no camera: colour bars, a ball that crosses them, a name and the time, so that one sees at once whether it stands still. */

const WIDTH = 640;
const HEIGHT = 360;
const SNOW_HEIGHT = 48;
export const FRAMES_PER_SECOND = 15;

const BARS = ["#e8e4da", "#d9b13b", "#3fa7a0", "#4f9d5b", "#9a5aa0", "#b8452f", "#34508f"];

/**
 * Where the ball is after so many seconds: it goes to and fro, and bounces.
 * @param {number} seconds
 * @param {{width: number, height: number, radius: number}} field
 * @returns {{x: number, y: number}}
 */
export function ballAt(seconds, { width, height, radius }) {
  const swing = Math.abs(((seconds / 2) % 2) - 1);
  const bounce = Math.abs(Math.sin(seconds * Math.PI));
  return { x: radius + swing * (width - 2 * radius), y: height - radius - bounce * (height - 2 * radius) };
}

/** A running test picture, until it is stopped. */
export class TestPicture {
  #canvas = document.createElement("canvas");
  #snow;
  #drawing;
  #begun = performance.now();

  /** @param {string} caption @param {{snow?: boolean}} [options] `snow`: something that no codec makes small, for a film of some size */
  constructor(caption, { snow = false } = {}) {
    this.caption = caption;
    this.#snow = snow ? new ImageData(WIDTH, SNOW_HEIGHT) : undefined;
    this.#canvas.width = WIDTH;
    this.#canvas.height = HEIGHT;
    this.#draw();
    this.#drawing = setInterval(() => this.#draw(), 1_000 / FRAMES_PER_SECOND);
    this.stream = this.#canvas.captureStream(FRAMES_PER_SECOND);
    this.track = this.stream.getVideoTracks()[0];
  }

  stop() {
    clearInterval(this.#drawing);
    this.track.stop();
  }

  #draw() {
    const context = this.#canvas.getContext("2d");
    if (!context) return;
    const seconds = (performance.now() - this.#begun) / 1_000;
    const floor = HEIGHT - 72;
    BARS.forEach((colour, i) => {
      context.fillStyle = colour;
      context.fillRect(Math.floor((i * WIDTH) / BARS.length), 0, Math.ceil(WIDTH / BARS.length), floor);
    });
    context.fillStyle = "#171815";
    context.fillRect(0, floor, WIDTH, HEIGHT - floor);
    const radius = 34;
    const { x, y } = ballAt(seconds, { width: WIDTH, height: floor, radius });
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.fillStyle = "#22211d";
    context.fill();
    context.fillStyle = "#ebe8df";
    context.font = "600 30px system-ui, sans-serif";
    context.textBaseline = "middle";
    context.fillText(this.caption, 20, floor + 37, WIDTH - 200);
    context.font = "30px ui-monospace, monospace";
    context.textAlign = "right";
    context.fillText(seconds.toFixed(1), WIDTH - 20, floor + 37);
    context.textAlign = "left";
    if (this.#snow) {
      const pixels = new Uint32Array(this.#snow.data.buffer);
      for (let i = 0; i < pixels.length; i++) pixels[i] = 0xff000000 | (Math.random() * 0x1000000);
      context.putImageData(this.#snow, 0, 0);
    }
  }
}
