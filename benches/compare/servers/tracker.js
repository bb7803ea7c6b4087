// The server of `bittorrent-tracker`, by WebSocket alone, with its defaults; its own command line loads the client as well, which needs WebRTC.
import Server from "bittorrent-tracker/server";

const server = new Server({ http: false, udp: false, ws: true, stats: false });
server.on("warning", () => {}).on("error", (error) => console.error(error.message));
server.listen(0, "127.0.0.1");
