"""Has schemathesis judge whether the administration answers as its description says: starts a server, keeps clients in its rooms who come back
whenever they are sent away, and ends with the status of schemathesis. Usage: conformance.py SWITCHBOARD SCHEMATHESIS."""

import base64
import json
import os
import pathlib
import re
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
# For each of the two runs: one with whatever names of rooms there may be, one with that of a room in which there is somebody.
MAX_TIME_S = 40
ROOMS = ["", '\n[parameters]\n"path.room" = "kitchen"\n']


class Guest(threading.Thread):
    """A client that is in a room, by the WebSocket door, and comes back when it is sent away."""

    def __init__(self, address, room):
        super().__init__(daemon=True)
        self.address, self.room = address, room

    def run(self):
        while True:
            try:
                self.visit()
            except OSError:
                time.sleep(0.05)

    def visit(self):
        with socket.create_connection(self.address, timeout=600) as connection:
            key = base64.b64encode(os.urandom(16)).decode()
            connection.sendall(
                f"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
            )
            stream = connection.makefile("rb")
            while stream.readline() not in (b"\r\n", b""):
                pass
            self.say(connection, {"type": "join", "room": self.room, "metadata": {"name": self.room}})
            while True:
                head = stream.read(2)
                if len(head) < 2:
                    return
                length = head[1] & 127
                if length == 126:
                    (length,) = struct.unpack(">H", stream.read(2))
                elif length == 127:
                    (length,) = struct.unpack(">Q", stream.read(8))
                payload = stream.read(length)
                opcode = head[0] & 15
                if opcode == 8:
                    return
                if opcode == 9:
                    self.send(connection, 10, payload)
                if opcode == 1 and json.loads(payload)["type"] == "left":
                    self.say(connection, {"type": "join", "room": self.room})

    def say(self, connection, message):
        self.send(connection, 1, json.dumps(message).encode())

    @staticmethod
    def send(connection, opcode, payload):
        assert len(payload) < 126
        connection.sendall(bytes([0x80 | opcode, 0x80 | len(payload), 0, 0, 0, 0]) + payload)


def main(switchboard, schemathesis):
    with tempfile.TemporaryDirectory() as directory:
        command = [switchboard, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--rates", "off", "--log", "warn,switchboard::admin=error"]
        # It names the program, and is no setting of it.
        environment = {name: value for name, value in os.environ.items() if name != "SWITCHBOARD_BIN"}
        server = subprocess.Popen(command, cwd=directory, env=environment, stdout=subprocess.PIPE, text=True)
        try:
            public = re.search(r"http://localhost:(\d+)|http://127\.0\.0\.1:(\d+)", server.stdout.readline())
            # Who may come in stands between the two.
            said = iter(server.stdout.readline, "")
            admin = next(filter(None, (re.search(r"(?<=administration: )http://\S+?(?=/$)", line.strip()) for line in said)))
            address = ("127.0.0.1", int(public[1] or public[2]))
            for room in ["kitchen", "kitchen", "a/b", "~"]:
                Guest(address, room).start()
            token = (pathlib.Path(directory) / "certs/admin-token").read_text().strip()
            config = pathlib.Path(directory) / "schemathesis.toml"
            run = [schemathesis, "--config-file", str(config), "run", f"{admin[0]}/openapi.json", "--checks", "all"]
            run += ["--max-time", str(MAX_TIME_S), "--phases", "examples,coverage,fuzzing", "--report-dir", directory]
            # Of all names that a path may hold many are left out because of what their URL would mean, and a busy machine is no fault of the server.
            run += ["--suppress-health-check", "filter_too_much,too_slow"]
            run += ["--seed", os.environ["SEED"]] if "SEED" in os.environ else []
            failed = 0
            for rooms in ROOMS:
                config.write_text((HERE / "schemathesis.toml").read_text() + rooms)
                environment = {**os.environ, "ADMIN_TOKEN": token}
                failed |= subprocess.run(run, env=environment, cwd=directory, timeout=5 * MAX_TIME_S).returncode
                assert server.poll() is None, "the server is gone"
            return failed
        finally:
            server.terminate()
            server.wait(30)


sys.exit(main(*sys.argv[1:]))
