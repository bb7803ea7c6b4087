// The `peer` server with its defaults; its own command line does not take 0 for a port.
import { PeerServer } from "peer";

PeerServer({ host: "127.0.0.1", port: 0 });
