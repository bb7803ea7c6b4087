/** Camera, microphone and screen: asks for them, and says in few words why there is none. Knows no element of the page. */

/**
 * Why a device is not to be had: `refused` by the person or by the browser's settings, `missing`, `busy` with another program, or
 * `unavailable` because the page is not secure.
 * @typedef {"refused" | "missing" | "busy" | "unavailable"} Lack
 *
 * @typedef {object} Devices
 * @property {MediaStreamTrack} [audio]
 * @property {MediaStreamTrack} [video]
 * @property {Lack} [lack] why one of them is not there; `refused` counts most
 */

/**
 * What an error of `getUserMedia` or `getDisplayMedia` means.
 * @param {any} error
 * @returns {Lack}
 */
export function lackOf(error) {
  switch (error?.name) {
    case "NotAllowedError":
    case "SecurityError":
      return "refused";
    case "NotFoundError":
    case "OverconstrainedError":
      return "missing";
    case "TypeError":
      return "unavailable";
    default:
      return "busy";
  }
}

/**
 * Asks for camera and microphone. Where they are not to be had together, each is asked for alone, unless the answer was no: nobody is asked twice.
 * @param {{audio: boolean, video: boolean}} wanted
 * @param {Pick<MediaDevices, "getUserMedia"> | undefined} [devices] there are none on a page that is not secure
 * @returns {Promise<Devices>}
 */
export async function askForDevices(wanted, devices = globalThis.navigator?.mediaDevices) {
  // Who asks for nothing gets an error that looks like a page that is not secure.
  if (!wanted.audio && !wanted.video) return {};
  if (!devices) return { lack: "unavailable" };
  try {
    return tracksOf(await devices.getUserMedia(wanted));
  } catch (error) {
    const lack = lackOf(error);
    if (lack === "refused" || !(wanted.audio && wanted.video)) return { lack };
  }
  const audio = await askForDevices({ audio: true, video: false }, devices);
  const video = await askForDevices({ audio: false, video: true }, devices);
  const lacks = [video.lack, audio.lack];
  return { audio: audio.audio, video: video.video, lack: lacks.includes("refused") ? "refused" : (lacks.find((lack) => lack) ?? undefined) };
}

/**
 * Asks which screen or window to show. Rejects as the browser does; `refused` is also who has changed his mind.
 * @returns {Promise<MediaStreamTrack>}
 */
export async function askForScreen() {
  const stream = await navigator.mediaDevices.getDisplayMedia({ video: true });
  return stream.getVideoTracks()[0];
}

/** Can this browser show its screen to others at all? Those of phones cannot. */
export function canShareScreen() {
  return typeof globalThis.navigator?.mediaDevices?.getDisplayMedia === "function";
}

/** @param {MediaStream} stream @returns {Devices} */
function tracksOf(stream) {
  return { audio: stream.getAudioTracks()[0], video: stream.getVideoTracks()[0] };
}
