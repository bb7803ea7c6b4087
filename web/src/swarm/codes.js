/** Every code that an error of the swarm can have, once. None of them crosses the wire, and so none has a number. */
export const SWARM_CODES = [
  { slug: "not-a-file" }, // what is to be shared is neither a File nor a Blob
  { slug: "too-large" }, // a file of more than 32 GiB, or of more pieces than there may be
  { slug: "too-many" }, // 64 files are shared and fetched already
  { slug: "bad-id" }, // an id is a SHA-256 in hex
  { slug: "already-open" }, // the room has a swarm that is not closed
  { slug: "unsupported" }, // the page has no Cache Storage
  { slug: "storage" }, // the browser keeps no more pieces
  { slug: "wrong-hash" }, // what came is not the file that was asked for
  { slug: "manifest-changed" }, // what was read so far turned out to be wrong, so that the stream cannot go on
  { slug: "aborted" }, // given up by this side
  { slug: "closed" }, // the swarm is over
];
