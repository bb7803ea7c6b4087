/** Reads aloud, where the browser can: phrases one after another, in the language that each was written in. */

/** Phrases that wait to be read. Whoever writes faster than can be read is read no more than this late. */
const WAITING_MAX = 5;

export class Reader {
  #synthesis;
  #Utterance;
  #waiting = 0;
  #blocked;
  /** Whether to read. */
  on = true;

  /**
   * @param {object} options
   * @param {() => void} [options.blocked] the browser does not speak before somebody has touched the page
   * @param {SpeechSynthesis} [options.synthesis]
   * @param {typeof SpeechSynthesisUtterance} [options.Utterance]
   */
  constructor({ blocked = () => {}, synthesis = globalThis.speechSynthesis, Utterance = globalThis.SpeechSynthesisUtterance } = {}) {
    this.#synthesis = synthesis;
    this.#Utterance = Utterance;
    this.#blocked = blocked;
  }

  /** Can this browser speak at all? */
  get available() {
    return Boolean(this.#synthesis && this.#Utterance);
  }

  /** @param {string} phrase @param {string} [language] */
  read(phrase, language) {
    if (!this.on || !this.available) return;
    // A browser without a voice never says that it has finished.
    if (!this.#synthesis.speaking && !this.#synthesis.pending) this.#waiting = 0;
    if (this.#waiting >= WAITING_MAX) return;
    const utterance = new this.#Utterance(phrase);
    if (language) utterance.lang = language;
    this.#waiting++;
    const done = () => {
      this.#waiting = Math.max(0, this.#waiting - 1);
    };
    utterance.addEventListener("end", done);
    utterance.addEventListener("error", (event) => {
      done();
      if (event.error === "not-allowed") this.#blocked();
    });
    this.#synthesis.speak(utterance);
  }

  /** Falls silent at once. */
  stop() {
    this.#waiting = 0;
    if (this.available) this.#synthesis.cancel();
  }
}
