/** A component that uses the hook. */

import { useState } from "react";

import type { Peer, Room } from "@switchboard/client";
import { useRoom } from "@switchboard/client/react";
import type { RoomOptions, RoomView } from "@switchboard/client/react";

const OPTIONS: RoomOptions = { mesh: true, transport: "websocket", retries: 1 };

export function Lobby({ url, name }: { url?: string; name: string }) {
  const [heard, setHeard] = useState("");
  const { state, peers, send, room, client, error } = useRoom(url, "lobby", {
    ...OPTIONS,
    metadata: { name },
    onMessage: ({ from, payload }) => setHeard(`${from.length} ${String(payload)}`),
  });
  const some: RoomView = useRoom(new URL("http://localhost:8080"), null);
  const others: readonly Peer[] = peers;
  const entered: Room | undefined = room;
  const said: boolean = send("hello", others[0]?.peerId);

  // @ts-expect-error: a room is needed
  useRoom("http://localhost:8080");
  // @ts-expect-error: a room is a string
  useRoom("http://localhost:8080", 1);
  // @ts-expect-error: the hook decides when to give up
  useRoom("http://localhost:8080", "lobby", { signal: AbortSignal.timeout(1) });
  // @ts-expect-error: who sent it is a string
  useRoom("http://localhost:8080", "lobby", { onMessage: ({ from }) => from.toFixed() });
  // @ts-expect-error: there may be no room yet
  room.send("hello");
  // @ts-expect-error: not one of the states
  const open = state === "open";
  // @ts-expect-error: the list belongs to the hook
  peers.push({ peerId: "a" });

  return (
    <ul title={`${state} ${String(open)} ${error?.code ?? ""} ${client?.transport ?? ""} ${String(entered === some.room)} ${String(said)}`}>
      {peers.map(({ peerId }) => (
        <li key={peerId}>{heard}</li>
      ))}
    </ul>
  );
}
