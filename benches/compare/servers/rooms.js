// A signaling server on `ws` as tutorials write it: a map of rooms, every message parsed, given its sender and spelled again.
import { randomUUID } from "node:crypto";
import { WebSocketServer } from "ws";

const rooms = new Map();
const server = new WebSocketServer({ host: "127.0.0.1", port: 0 });

server.on("connection", (socket) => {
  const id = randomUUID();
  let room;

  const send = (peer, message) => peer.send(JSON.stringify(message));
  const tellOthers = (message) => {
    for (const [peerId, peer] of rooms.get(room) ?? []) if (peerId !== id) send(peer, message);
  };
  const leave = () => {
    const peers = rooms.get(room);
    if (!peers?.delete(id)) return;
    if (peers.size === 0) rooms.delete(room);
    tellOthers({ type: "peer-left", id });
    room = undefined;
  };

  socket.on("message", (data) => {
    const message = JSON.parse(data);
    switch (message.type) {
      case "join": {
        leave();
        room = message.room;
        if (!rooms.has(room)) rooms.set(room, new Map());
        const peers = rooms.get(room);
        send(socket, { type: "joined", id, peers: [...peers.keys()] });
        peers.set(id, socket);
        tellOthers({ type: "peer-joined", id });
        break;
      }
      case "leave":
        leave();
        send(socket, { type: "left" });
        break;
      default: {
        const { to, ...rest } = message;
        if (!to) return tellOthers({ ...rest, from: id });
        const peer = rooms.get(room)?.get(to);
        if (peer) send(peer, { ...rest, from: id });
      }
    }
  });
  socket.on("close", leave);
});
