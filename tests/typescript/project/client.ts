/** An application that uses the client as its documentation says, and some lines that it has to be kept from writing. */

import { ERROR_CODES, PeerLink, Room, SignalingClient, connect, discover } from "@switchboard/client";
import type { ClientState, ConnectOptions, LinkStats, Peer, RoomMessage } from "@switchboard/client";

const options: ConnectOptions = {
  room: "lobby",
  metadata: { name: "Emma" },
  mesh: true,
  token: async () => "secret",
  signal: AbortSignal.timeout(20_000),
  transport: "auto",
  timeoutMs: 10_000,
  retries: 3,
};

export async function enter(): Promise<Room> {
  const client: SignalingClient = await connect(new URL("http://localhost:8080"), options);
  const peerId: string | undefined = client.peerId;
  const state: ClientState = client.state;
  const rooms: string[] = client.rooms;
  console.log(peerId, state, rooms, client.transport?.toUpperCase());

  client.addEventListener("state", ({ detail }) => {
    const said: [ClientState, string | undefined, number | undefined, boolean | undefined] = [detail.state, detail.cause?.code, detail.retryInMs, detail.resumed];
    console.log(said);
  });
  client.addEventListener("close", ({ detail: { code, reason, reconnect } }) => console.log(code.length, reason.length, reconnect === true), { once: true });

  const second: Room = await client.join("kitchen", { name: "Emma" }, { mesh: true, iceTransportPolicy: "relay" });
  await second.leave();
  const room = client.room ?? second;
  listen(room);

  // Whoever enters one has one.
  const entered = await connect("http://localhost:8080", { room: "lobby", iceServers: [{ urls: "stun:stun.example.org" }] });
  entered.room.send("hello");
  // @ts-expect-error: there may be no room
  client.room.send("hello");
  // @ts-expect-error: not one of the states
  if (client.state === "open") console.log();
  // @ts-expect-error: it is read only
  client.state = "closed";
  // @ts-expect-error: a room has a name
  await client.join(1);
  // @ts-expect-error: there is no such event
  client.addEventListener("stat", () => {});
  client.addEventListener("ice-candidate", ({ detail }) => console.log(detail.from.length, detail.payload));
  client.addEventListener("goodbye", ({ detail: { code, closesInMs } }) => console.log(code.length, closesInMs === undefined ? "now" : closesInMs / 1_000));
  client.addEventListener("sent", ({ detail }) => console.log(detail.type.length, detail.payload));

  // @ts-expect-error: who sent it is a string
  client.addEventListener("offer", ({ detail }) => detail.from.toFixed());
  // @ts-expect-error: it says so only ahead of the end
  client.addEventListener("goodbye", ({ detail }) => detail.closesInMs.toFixed());
  // @ts-expect-error: the cause may be missing
  client.addEventListener("state", ({ detail }) => console.log(detail.cause.code));
  // @ts-expect-error: a code is a string
  client.addEventListener("close", ({ detail }) => detail.code.toFixed());
  return room;
}

// @ts-expect-error: a url is needed
connect();
// @ts-expect-error: a token is a string
connect("http://localhost:8080", { token: async () => 7 });
// @ts-expect-error: no such door
connect("http://localhost:8080", { transport: "pigeon" });
// @ts-expect-error: milliseconds are a number
connect("http://localhost:8080", { timeoutMs: "10s" });
// @ts-expect-error: no such option
connect("http://localhost:8080", { rooms: ["lobby"] });
// @ts-expect-error: a promise, and not the client itself
connect("http://localhost:8080").close();

function listen(room: Room): void {
  const peers: readonly Peer[] = room.peers;
  room.send({ any: ["JSON", 1, null] });
  room.send("to one", peers[0]?.peerId);
  room.sendBestEffort({ x: 1 });
  const users: (string | undefined)[] = peers.map(({ user }) => user);
  room.addEventListener("peer-joined", ({ detail }) => console.log(detail.peerId.length, detail.metadata, detail.user?.length, users));
  room.addEventListener("peer-left", ({ detail }) => console.log(detail.peerId.length, detail.reason.length));
  room.addEventListener("message", ({ detail }) => {
    const message: RoomMessage = detail;
    console.log(message.from.length, message.payload, message.to?.length);
  });
  room.addEventListener("link", ({ detail: link }) => direct(link));
  // What listens to everything, as a log does.
  const log = (event: Event) => console.log(event.type);
  room.addEventListener("left", log);
  room.removeEventListener("left", log);
  const links: ReadonlyMap<string, PeerLink> = room.links;
  console.log(links.size, room.name.length);
  const made: Promise<void> = room.setMetadata({ name: "Stella" });
  void made;
  direct(room.connect(peers[0] ?? "a"));

  // @ts-expect-error: there is no such event
  room.addEventListener("peer-arrived", () => {});
  // @ts-expect-error: who left has no payload
  room.addEventListener("peer-left", ({ detail }) => console.log(detail.payload));
  // @ts-expect-error: not everybody is known
  room.addEventListener("peer-joined", ({ detail }) => detail.user.length);
  // @ts-expect-error: to a peer, by its id
  room.send("hello", 7);
  // @ts-expect-error: what is sent is missing
  room.send();
  // @ts-expect-error: links are by peer id
  room.links.get(1);
  // @ts-expect-error: a peer has an id
  room.connect({ metadata: 1 });
}

function direct(link: PeerLink): void {
  const sent: boolean = link.send("text") && link.send(new Uint8Array(8)) && link.send(new ArrayBuffer(8)) && link.send(new Blob(["x"]));
  link.addEventListener("message", ({ detail }) => console.log(typeof detail === "string" ? detail.length : detail.byteLength));
  link.addEventListener("state", ({ detail }) => {
    const state: "connecting" | "connected" | "failed" | "closed" = detail;
    console.log(state, link.state === state, link.isOver, link.error?.code, sent);
  });
  link.addEventListener("channel", ({ detail }) => detail.close());
  link.addEventListener("track", ({ detail }) => console.log(detail.track.kind, detail.streams[0]?.id));
  link.addEventListener("renamed", ({ detail }) => console.log(detail.length));
  const channel: RTCDataChannel = link.channel("file", { ordered: false });
  const connection: RTCPeerConnection = link.connection;
  console.log(channel.label, connection.connectionState, link.remoteId.length);

  // @ts-expect-error: it may be bytes
  link.addEventListener("message", ({ detail }) => console.log(detail.length));
  // @ts-expect-error: objects do not cross as they are
  link.send({ text: "hello" });
  // @ts-expect-error: not one of the states
  link.addEventListener("state", ({ detail }) => detail === "reconnecting");
  // @ts-expect-error: a channel has a label
  link.channel();
}

export async function call(link: PeerLink, media: MediaStream): Promise<void> {
  const [track] = media.getVideoTracks();
  if (!track) return;
  const sender: RTCRtpSender = link.addTrack(track, media);
  link.removeTrack(sender);
  const stats: LinkStats = await link.stats();
  console.log(stats.roundTripMs?.toFixed(), stats.localCandidate === "relay", stats.protocol, stats.bytesSent + stats.bytesReceived);
  // @ts-expect-error: it may not be known yet
  console.log(stats.roundTripMs.toFixed());
  // @ts-expect-error: a track, and not its stream
  link.addTrack(media);
  link.close();
}

export async function doors(): Promise<string[]> {
  const { transports } = await discover("http://localhost:8080");
  const full: number | undefined = ERROR_CODES.find(({ slug }) => slug === "room-full")?.number;
  // @ts-expect-error: a number
  const wrong: string = ERROR_CODES[0]?.number;
  console.log(full, wrong);
  return transports.map(({ url }) => url);
}
