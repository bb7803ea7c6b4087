/** An entrance, and behind it a room. `?server=…&room=…&name=…` in the address fills in the entrance; with a room and a name it stands open. */

import { useState } from "react";

import { Room } from "./room.jsx";

const query = new URLSearchParams(location.search);
const FIELDS = { server: query.get("server") ?? "http://localhost:8080", room: query.get("room") ?? "", name: query.get("name") ?? "" };

export function App() {
  const [fields, setFields] = useState(FIELDS);
  const [inside, setInside] = useState(FIELDS.room !== "" && FIELDS.name !== "");

  if (inside) return <Room {...fields} onLeave={() => setInside(false)} onRename={(name) => setFields({ ...fields, name })} />;

  const field = (key, label) => (
    <label>
      {label} <input required value={fields[key]} onChange={({ target }) => setFields({ ...fields, [key]: target.value })} data-testid={key} />
    </label>
  );
  const enter = (event) => {
    event.preventDefault();
    setInside(true);
  };
  return (
    <form onSubmit={enter}>
      <h1>Enter a room</h1>
      {field("room", "Room")}
      {field("name", "Your name")}
      {field("server", "Server")}
      <button data-testid="enter">Enter</button>
    </form>
  );
}
