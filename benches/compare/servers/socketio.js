// A signaling server on Socket.IO as tutorials write it: its rooms, and events that are passed on with their sender.
import { createServer } from "node:http";
import { Server } from "socket.io";

const http = createServer();
const io = new Server(http);

io.on("connection", (socket) => {
  let room;
  const leave = () => {
    if (room === undefined) return;
    socket.to(room).emit("peer-left", socket.id);
    socket.leave(room);
    room = undefined;
  };
  socket.on("join", (name, joined) => {
    leave();
    room = name;
    socket.join(room);
    socket.to(room).emit("peer-joined", socket.id);
    joined();
  });
  socket.on("leave", (left) => {
    leave();
    left();
  });
  socket.on("signal", ({ to, ...message }) => io.to(to).emit("signal", { ...message, from: socket.id }));
  socket.on("message", (message) => socket.to(room).emit("message", { ...message, from: socket.id }));
  socket.on("disconnecting", leave);
});

http.listen(0, "127.0.0.1");
