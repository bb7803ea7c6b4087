/**
 * Every bound of a swarm, once, each with its reason. Peers are strangers: whatever one of them can make grow stops at one of these, and
 * who goes past those that an honest peer keeps to loses its channel.
 */

const KIB = 1024;

/** A piece, unless told otherwise: small enough to be fetched again without regret, large enough to hide the round trip of its request. */
export const PIECE_BYTES = 256 * KIB;

/** Smaller pieces would be more hash than file. */
export const PIECE_BYTES_MIN = 16 * KIB;

/** A request under way keeps so much in memory. */
export const PIECE_BYTES_MAX = 4096 * KIB;

/**
 * The hashes of a file so take 256 KiB at most, and knowing who has which piece 1 KiB for each peer. Longer files have larger pieces, up to
 * 32 GiB.
 */
export const PIECES_MAX = 8192;

/** A binary message, header included; the size that every implementation of data channels takes. */
export const CHUNK_BYTES_MAX = 16 * KIB;

/** A text message; the longest that we send is a part of the list of hashes, 11,000 characters. */
export const MESSAGE_CHARS_MAX = 16 * KIB;

/** Piece hashes in one message. */
export const HASHES_PER_MESSAGE_MAX = 256;

/** Pieces in one `have`. */
export const HAVES_PER_MESSAGE_MAX = 256;

/** What file systems take as a name. */
export const NAME_CHARS_MAX = 255;

/** RFC 6838 allows two names of 127 characters, with parameters behind; none in use comes near. */
export const TYPE_CHARS_MAX = 255;

/** Files that one peer announces at a time: what it shares, and what it has pieces of. */
export const SHARES_MAX = 64;

/** Requests to one peer that wait for an answer: with pieces of 256 KiB and 100 ms of round trip, 10 MB a second. */
export const REQUESTS_MAX = 4;

/** Requests of one peer that wait for us. Twice what an honest one has under way. */
export const REQUESTS_SERVED_MAX = 8;

/** Above this we write nothing more into a channel, */
export const BUFFERED_BYTES_HIGH = 256 * KIB;

/** until no more than this is left. */
export const BUFFERED_BYTES_LOW = 64 * KIB;

/** Text messages that wait for a peer to read; one that lets so many pile up does not read at all. */
export const QUEUED_MESSAGES_MAX = 1024;

/** Channels of a link, those included on which nobody has said hello. */
export const CHANNELS_PER_LINK_MAX = 4;

/** Peers that are remembered as having sent what is wrong; the oldest are forgotten. */
export const AVOIDED_MAX = 1024;

/** Manifests that are remembered as wrong, or tried; the oldest are forgotten. */
export const MANIFESTS_REMEMBERED_MAX = 1024;

/** Peers that a download remembers as having vouched for its manifest; the oldest are forgotten. */
export const VOUCHERS_MAX = 1024;

/** How long a peer has for each 256 KiB that are asked of it; after that they are asked of others. */
export const REQUEST_MS = 10_000;

/** A manifest under which nothing arrives is given up after so many times `REQUEST_MS`, if another is offered. */
export const STUCK_REQUESTS = 3;

/** Whoever reads a stream gets the next so many pieces first; the others come rarest first. */
export const PIECES_AHEAD = 4;
