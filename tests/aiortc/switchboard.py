"""A client of Switchboard for Python, on aiortc and websockets: comes in over WebSocket, enters rooms, and opens data channels with the peers there,
with the browser client among them. Written from `src/protocol/protocol.md` alone, and meant to be copied; needs Python 3.11.

    client = await Client.connect("http://localhost:8080")

    @client.on("line")  # a peer calls; who does not listen answers nobody, for an answer tells our addresses
    def on_line(line):
        line.on("message", lambda data: line.send(data))

    for peer in (await client.join("lobby"))["peers"]:  # who comes later calls those who are there
        client.call("lobby", peer["peerId"])

It speaks JSON. Left out: a session is over when its connection is, though the protocol lets it be resumed; and a line that breaks is not mended,
because aiortc cannot restart ICE.
"""

import asyncio
import json
import logging
from urllib.request import urlopen

from aiortc import RTCConfiguration, RTCIceServer, RTCIceTransportPolicy, RTCPeerConnection, RTCSessionDescription
from aiortc.sdp import candidate_from_sdp, candidate_to_sdp
from pyee.asyncio import AsyncIOEventEmitter
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

logger = logging.getLogger(__name__)

ANSWER_S = 15
# So many candidates may wait for the description that they belong to.
WAITING_MAX = 256
# So many signals of a peer may wait until those before them are carried out.
SIGNALS_MAX = 256


class Refused(Exception):
    """The server has refused a message: `code` says why, `retryable` whether the very same may succeed later."""

    def __init__(self, message):
        super().__init__(f"{message['code']}: {message['message']}")
        self.code, self.retryable = message["code"], message["retryable"]


class Emitter(AsyncIOEventEmitter):
    def tell(self, event, *about):
        """Emits. What a listener raises is its own affair: it is logged, and ends nothing here."""
        try:
            self.emit(event, *about)
        except Exception:
            logger.exception("a listener to %s", event)


class Client(Emitter):
    """Events: the server's messages by their `type` (`peer-joined`, `message`, …), each a dict; `line`, with a Line that a peer has begun; and `close`
    when the connection is over, with the `goodbye` if there was one."""

    @classmethod
    async def connect(cls, base_url, token=None):
        """Comes in. `token` says who we are, to a server that wants to know."""
        document = await asyncio.to_thread(discover, base_url)
        url = next(transport["url"] for transport in document["transports"] if transport["type"] == "websocket")
        client = cls(await connect(url))
        try:
            async with asyncio.timeout(ANSWER_S):
                await client.send("hello", token=token)
                first = json.loads(await client._socket.recv())
            if first["type"] != "welcome":
                raise ConnectionError(f"turned away: {first['code']}, {first['reason']}")
        except BaseException:
            await client._socket.close()
            raise
        client.peer_id, client.ice_servers = first["peerId"], first["iceServers"]
        client._reader = asyncio.create_task(client._read())
        return client

    def __init__(self, socket):
        super().__init__()
        self._socket = socket
        self._questions = {}
        self._last_id = 0
        # By name: what `joined` said of the rooms that we are in.
        self.rooms = {}
        # By room and peer id.
        self.lines = {}

    async def send(self, type, **fields):
        """Sends a message of the protocol, without waiting for what becomes of it. Fields that are None are left out, but for `payload`."""
        fields = {name: value for name, value in fields.items() if value is not None or name == "payload"}
        await self._socket.send(json.dumps({"type": type, **fields}))

    async def request(self, type, **fields):
        """Sends a message of the protocol, and returns when the server has carried it out; raises Refused."""
        self._last_id += 1
        id, answer = self._last_id, asyncio.get_running_loop().create_future()
        self._questions[id] = answer
        try:
            async with asyncio.timeout(ANSWER_S):
                await self.send(type, id=id, **fields)
                await answer
        finally:
            del self._questions[id]

    async def join(self, room, metadata=None):
        """Enters a room; returns `joined`, whose `peers` were there before us."""
        await self.request("join", room=room, metadata=metadata)
        return self.rooms[room]

    def call(self, room, peer_id):
        """Begins a line to a peer, or gives the one that there is."""
        line = self.lines.get((room, peer_id))
        if line is None:
            line = Line(self, room, peer_id)
            line.take("call", None)
        return line

    async def close(self):
        """Leaves: the lines end, and the others see us go."""
        for line in list(self.lines.values()):
            await line.close()
        await self._socket.close()
        await self._reader

    async def _read(self):
        goodbye = None
        try:
            # The library answers the server's pings by itself.
            async for text in self._socket:
                message = json.loads(text)
                if message["type"] == "goodbye":
                    goodbye = message
                self._take(message)
        except ConnectionClosed:
            pass
        finally:
            for answer in self._questions.values():
                if not answer.done():
                    answer.set_exception(ConnectionError("the connection is over"))
            # Where a message was none of the protocol, it is still open.
            await self._socket.close()
            self.tell("close", goodbye)

    def _take(self, message):
        match message["type"]:
            case "ack" | "error" if (answer := self._questions.get(message.get("id"))) is not None:
                if not answer.done():
                    answer.set_result(None) if message["type"] == "ack" else answer.set_exception(Refused(message))
                return
            case "error":
                # Of a message that was sent without asking: a signal to a peer that has just left, perhaps.
                logger.warning("refused: %s", message)
                return
            case "joined":
                self.rooms[message["room"]] = message
            case "left":
                self.rooms.pop(message["room"], None)
                self._end_lines(lambda room, _: room == message["room"])
            case "peer-left":
                self._end_lines(lambda room, peer_id: (room, peer_id) == (message["room"], message["peerId"]))
            case "ice-servers":
                self.ice_servers = message["iceServers"]
            case "offer" | "answer" | "ice-candidate":
                self._signal(message)
        self.tell(message["type"], message)

    def _end_lines(self, concerned):
        for key in [key for key in self.lines if concerned(*key)]:
            self.lines[key].take("close", None)

    def _signal(self, message):
        key = message["room"], message["from"]
        if key not in self.lines and message["type"] == "offer" and self.listeners("line"):
            self.tell("line", Line(self, *key))
        if key in self.lines:
            self.lines[key].take(message["type"], message["payload"])


class Line(Emitter):
    """A data channel with one peer, as the browser client has them. Events: `open`, `message` (a str, or bytes), `close`."""

    def __init__(self, client, room, peer_id):
        super().__init__()
        self.room, self.peer_id = room, peer_id
        self._client = client
        self._waiting = []
        self._signals = asyncio.Queue(SIGNALS_MAX)
        self._worker = asyncio.create_task(self._work())
        self._is_over = False
        self._ending = None
        client.lines[room, peer_id] = self
        self._begin()

    def send(self, data):
        """Sends a str or bytes; raises InvalidStateError while the channel is not open, and ValueError for more than the peer takes."""
        self.channel.send(data)

    async def close(self):
        """Ends the line."""
        if self._is_over:
            return
        self._is_over = True
        self._client.lines.pop((self.room, self.peer_id), None)
        if asyncio.current_task() is not self._worker:
            self._worker.cancel()
        await self.connection.close()
        self.tell("close")

    def take(self, type, payload):
        """A signal from the peer, or a wish of ours. They are carried out one after another, in the order in which they came;
        where too many wait, the line ends."""
        try:
            self._signals.put_nowait((type, payload))
        except asyncio.QueueFull:
            self._ending = self._ending or asyncio.create_task(self.close())

    def _begin(self):
        policy = RTCIceTransportPolicy(self._client.rooms[self.room].get("iceTransportPolicy", "all"))
        # Without a list, aiortc would ask a server of Google's.
        connection = RTCPeerConnection(RTCConfiguration(ice_servers(self._client.ice_servers), iceTransportPolicy=policy))
        # Both sides open it by its number, so that it does not matter who offers.
        channel = connection.createDataChannel("switchboard", negotiated=True, id=0)
        channel.on("open", lambda: self.tell("open"))
        channel.on("message", lambda data: self.tell("message", data))
        channel.on("close", lambda: connection is self.connection and self.take("close", None))

        @connection.on("connectionstatechange")
        def on_change():
            if connection is self.connection and connection.connectionState == "failed":
                self.take("close", None)

        self.connection, self.channel = connection, channel

    async def _work(self):
        while not self._is_over:
            type, payload = await self._signals.get()
            try:
                await self._carry_out(type, payload)
            except ConnectionClosed:
                pass
            except Exception:
                # A peer can send anything; it must not be able to do more than fail to connect.
                logger.warning("%s from %s not taken", type, self.peer_id, exc_info=True)

    async def _carry_out(self, type, payload):
        match type:
            case "call":
                # Unless the peer has called meanwhile.
                if self.connection.signalingState == "stable" and self.connection.remoteDescription is None:
                    await self._describe(await self.connection.createOffer())
            case "offer":
                if self.connection.signalingState == "have-local-offer":
                    # Both have offered. The one with the lower peer id takes its offer back; aiortc cannot, but with another connection.
                    if self._client.peer_id > self.peer_id:
                        return
                    given_up = self.connection
                    self._begin()
                    await given_up.close()
                await self._be_described("offer", payload)
                await self._describe(await self.connection.createAnswer())
            case "answer":
                await self._be_described("answer", payload)
            case "ice-candidate":
                if self.connection.remoteDescription is not None:
                    await self._add(payload)
                elif len(self._waiting) < WAITING_MAX:
                    self._waiting.append(payload)
            case "close":
                await self.close()

    async def _describe(self, description):
        """Sends our side. aiortc tells of no candidate while it looks for them: it does that within setLocalDescription, which for a TURN server out of
        reach takes five seconds. So the description goes out before, without candidates, and these follow all at once."""
        await self._signal(description.type, {"type": description.type, "sdp": description.sdp})
        await self.connection.setLocalDescription(description)
        sctp = self.connection.sctp
        gatherer = sctp.transport.transport.iceGatherer
        belongs_to = {"sdpMid": sctp.mid, "sdpMLineIndex": 0, "usernameFragment": gatherer.getLocalParameters().usernameFragment}
        for candidate in gatherer.getLocalCandidates():
            await self._signal("ice-candidate", {"candidate": f"candidate:{candidate_to_sdp(candidate)}", **belongs_to})
        # The end of candidates.
        await self._signal("ice-candidate", {"candidate": "", **belongs_to})

    async def _be_described(self, type, payload):
        await self.connection.setRemoteDescription(RTCSessionDescription(payload["sdp"], type))
        waiting, self._waiting = self._waiting, []
        for candidate in waiting:
            await self._add(candidate)

    async def _add(self, payload):
        text = "" if payload is None else payload["candidate"]
        if text:
            candidate = candidate_from_sdp(text.removeprefix("candidate:"))
            candidate.sdpMid, candidate.sdpMLineIndex = payload.get("sdpMid"), payload.get("sdpMLineIndex")
            await self.connection.addIceCandidate(candidate)
        # After the end aiortc takes no more. Browser clients have words for each other in empty candidates that belong to nothing.
        elif payload is None or payload.get("sdpMid") is not None or payload.get("sdpMLineIndex") is not None:
            await self.connection.addIceCandidate(None)

    async def _signal(self, type, payload):
        await self._client.send(type, room=self.room, to=self.peer_id, payload=payload)


def discover(base_url):
    """The document in which a server says where its doors are."""
    with urlopen(f"{base_url.rstrip('/')}/.well-known/switchboard", timeout=ANSWER_S) as response:
        return json.load(response)


def ice_servers(entries):
    """The server's list for aiortc, which uses the first STUN and the first TURN server in it, and refuses a whole list that has an IPv6 address."""
    entries = [{**entry, "urls": [url for url in entry["urls"] if "[" not in url]} for entry in entries]
    return [RTCIceServer(entry["urls"], entry.get("username"), entry.get("credential")) for entry in entries]
