#!/usr/bin/python3
"""A server of tools in one file: what time it is, and what time that is somewhere else.

It speaks the Model Context Protocol on its standard input and output, one line of JSON a message,
and needs nothing but Python. examples/tools/time.yaml makes it the tool `time`:

    tools.time.now(timezone="Europe/Berlin")
    tools.time.convert(time="2026-03-01T09:00", source="Asia/Tokyo", target="America/New_York")
"""

import datetime
import json
import sys
import zoneinfo

VERSIONS = ("2025-06-18", "2025-03-26", "2024-11-05")
PARSE_ERROR, INVALID_REQUEST, UNKNOWN_METHOD, INVALID_ARGUMENTS = -32700, -32600, -32601, -32602


def zone(name):
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"there is no time zone {name!r}") from None


def now(timezone="UTC"):
    """The date and time of now in a time zone."""
    return datetime.datetime.now(zone(timezone)).isoformat(timespec="seconds")


def convert(time, source, target):
    """What a date and time of one time zone is in another."""
    there = datetime.datetime.fromisoformat(time).replace(tzinfo=zone(source))
    return there.astimezone(zone(target)).isoformat(timespec="seconds")


def text(description):
    return {"type": "string", "description": description}


TOOLS = {
    "now": (now, {"timezone": {**text("a name like Europe/Berlin"), "default": "UTC"}}, []),
    "convert": (convert, {
        "time": text("a date and time without a zone, like 2026-03-01T09:00"),
        "source": text("the time zone it is in"),
        "target": text("the time zone it is wanted in"),
    }, ["time", "source", "target"]),
}


class Refusal(Exception):
    """What makes an answer an error of the protocol."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


def initialize(params):
    asked = params.get("protocolVersion")
    return {"protocolVersion": asked if asked in VERSIONS else VERSIONS[0],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "time", "version": "1.0"}}


def list_tools(params):
    return {"tools": [{
        "name": name,
        "description": function.__doc__,
        "inputSchema": {"type": "object", "properties": properties, "required": required},
    } for name, (function, properties, required) in TOOLS.items()]}


def call_tool(params):
    if params.get("name") not in TOOLS:
        raise Refusal(INVALID_ARGUMENTS, f"Unknown tool: {params.get('name')}")
    function = TOOLS[params["name"]][0]
    try:
        said, failed = function(**(params.get("arguments") or {})), False
    except (TypeError, ValueError) as e:
        said, failed = str(e), True
    return {"content": [{"type": "text", "text": said}], "isError": failed}


METHODS = {"initialize": initialize, "tools/list": list_tools, "tools/call": call_tool,
           "ping": lambda params: {}}


def answer(line):
    """The answer to one line, or None where none is due."""
    message = None
    try:
        message = json.loads(line)
        if not isinstance(message, dict) or not isinstance(message.get("method"), str):
            raise Refusal(INVALID_REQUEST, "not a request")
        if "id" not in message:
            return None  # a notification
        if message["method"] not in METHODS:
            raise Refusal(UNKNOWN_METHOD, f"unknown method: {message['method']}")
        params = message.get("params")
        result = {"result": METHODS[message["method"]](params if isinstance(params, dict) else {})}
    except Refusal as e:
        result = {"error": {"code": e.code, "message": str(e)}}
    except ValueError:
        result = {"error": {"code": PARSE_ERROR, "message": "not JSON"}}
    number = message.get("id") if isinstance(message, dict) else None
    return {"jsonrpc": "2.0", "id": number, **result}


def main():
    for line in sys.stdin:
        if line.strip() and (reply := answer(line)) is not None:
            print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()
