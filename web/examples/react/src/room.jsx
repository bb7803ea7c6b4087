/** One room: who is here, what was said, and how the connection is doing. All of it comes from `useRoom`. */

import { useState } from "react";

import { useRoom } from "@switchboard/client/react";

/** Lines in the chat; the oldest make way. */
const LINES_MAX = 200;

export function Room({ server, room: roomName, name, onLeave, onRename }) {
  const [lines, setLines] = useState([]);
  const [text, setText] = useState("");
  const add = (line) => setLines((lines) => [...lines, { ...line, key: (lines.at(-1)?.key ?? 0) + 1 }].slice(-LINES_MAX));

  const { state, peers, send, error } = useRoom(server, roomName, {
    // Another name is told to the others without connecting again.
    metadata: { name },
    onMessage: ({ from, payload }) => add({ name: nameOf(peers.find(({ peerId }) => peerId === from) ?? { peerId: from }), text: String(payload) }),
  });

  const say = (event) => {
    event.preventDefault();
    if (text === "" || !send(text)) return;
    add({ name, text });
    setText("");
  };
  const rename = () => {
    const chosen = prompt("Your name", name);
    if (chosen) onRename(chosen);
  };

  return (
    <main data-testid="room" data-state={state}>
      <header>
        <h1>{roomName}</h1>
        <p role="status" data-testid="state">{explain(state, error)}</p>
        <button onClick={rename} data-testid="rename">Rename</button>
        <button onClick={onLeave} data-testid="leave">Leave</button>
      </header>
      <ul aria-label="In the room">
        <li>{name} (you)</li>
        {peers.map((peer) => (
          <li key={peer.peerId} data-testid="peer">{nameOf(peer)}</li>
        ))}
      </ul>
      <ol role="log" aria-label="Messages">
        {lines.map(({ key, name, text }) => (
          <li key={key} data-testid="line"><b>{name}</b> <span>{text}</span></li>
        ))}
      </ol>
      <form onSubmit={say}>
        <input aria-label="Message" value={text} onChange={({ target }) => setText(target.value)} data-testid="text" />
        <button disabled={state !== "connected"} data-testid="say">Send</button>
      </form>
    </main>
  );
}

/** Others may have put anything into their metadata. */
function nameOf({ peerId, metadata }) {
  return String(metadata?.name ?? peerId);
}

function explain(state, error) {
  if (state === "connected") return "Connected";
  const words = { connecting: "Connecting …", reconnecting: "Connection lost, connecting again …", closed: "Not connected" };
  return error ? `${words[state]} (${error.code}: ${error.message})` : words[state];
}
