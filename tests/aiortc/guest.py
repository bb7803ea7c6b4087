"""The Python side of the test: a client in a room, which carries out what its standard input says, tells on its standard output what happens to it,
and ends with its standard input. Both have one JSON object a line. Usage: guest.py BASE_URL ROOM."""

import asyncio
import base64
import json
import sys

from switchboard import Client


def tell(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)


def watch(line):
    line.on("open", lambda: tell("open"))
    line.on("close", lambda: tell("close"))

    @line.on("message")
    def on_message(data):
        if isinstance(data, str):
            tell("message", text=data)
        else:
            tell("message", base64=base64.b64encode(data).decode())


async def main(base_url, room):
    client = await Client.connect(base_url)

    @client.on("line")
    def on_line(line):
        tell("called", peerId=line.peer_id)
        watch(line)

    client.on("peer-left", lambda message: tell("peer-left", reason=message["reason"]))
    client.on("close", lambda _: tell("gone"))

    @client.on("message")
    def on_message(message):
        tell("said", payload=message["payload"])
        raise ValueError("a mistake of the listener")

    joined = await client.join(room)
    tell("joined", peerId=client.peer_id, peers=[peer["peerId"] for peer in joined["peers"]])

    reader = asyncio.StreamReader(limit=2**20)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while command := await reader.readline():
        match json.loads(command):
            case {"call": peer_id}:
                watch(client.call(room, peer_id))
            case {"text": text}:
                for line in client.lines.values():
                    line.send(text)
            case {"base64": text}:
                for line in client.lines.values():
                    line.send(base64.b64decode(text))
            case {"candidates": _}:
                # Those that have come, as aiortc has taken them, and whether it knows that there will be no more.
                for line in client.lines.values():
                    taken = line.connection.sctp.transport.transport.getRemoteCandidates()
                    ended = "a=end-of-candidates" in line.connection.remoteDescription.sdp
                    tell("candidates", types=[candidate.type for candidate in taken], ended=ended)
            case {"close": _}:
                break
    await client.close()


asyncio.run(main(*sys.argv[1:]))
