#!/usr/bin/env python3
import json, socket, struct, sys
host, port = sys.argv[1].rsplit(":", 1)
line = socket.create_connection((host, int(port))).makefile("rwb")
def say(**frame):
    text = json.dumps(frame).encode()
    line.write(struct.pack(">I", len(text)) + text); line.flush()
    return json.loads(line.read(*struct.unpack(">I", line.read(4))))
print("node", say(type="Hello", name="ten-lines", version=1)["node"])
print(json.dumps(say(type="Signal", to=sys.argv[2], content=sys.argv[3])))
