#!/usr/bin/python3
"""A tiny server of tools over stdio, with the standard library alone: notes that can be found again.

It speaks the Model Context Protocol, revisions 2024-11-05 to 2025-06-18: a line of JSON a message.
"""

import json
import sys

VERSIONS = ("2024-11-05", "2025-03-26", "2025-06-18")
NOTES = []

TOOLS = [
    {
        "name": "add",
        "description": "Keep a note",
        "inputSchema": {
            "type": "object",
            "properties": {"text": {"type": "string", "description": "What to keep"}},
            "required": ["text"],
            "additionalProperties": False,
        },
    },
    {
        "name": "find",
        "description": "Notes that hold a word, the newest first",
        "inputSchema": {
            "type": "object",
            "properties": {
                "word": {"type": "string", "description": "What to look for"},
                "limit": {"type": "integer", "default": 10, "description": "How many"},
            },
            "required": ["word"],
            "additionalProperties": False,
        },
    },
]


def add(text):
    NOTES.append(text)
    return f"{len(NOTES)} notes"


def find(word, limit=10):
    return "\n".join([note for note in reversed(NOTES) if word in note][:limit])


def call(params):
    functions = {"add": add, "find": find}
    function = functions.get(params.get("name"))
    if function is None:
        raise LookupError(f"Unknown tool: {params.get('name')}")
    try:
        text, failed = function(**params.get("arguments", {})), False
    except TypeError as error:
        text, failed = str(error), True
    return {"content": [{"type": "text", "text": text}], "isError": failed}


def initialize(params):
    asked = params.get("protocolVersion")
    return {
        "protocolVersion": asked if asked in VERSIONS else VERSIONS[-1],
        "capabilities": {"tools": {}},
        "serverInfo": {"name": "notes", "version": "1"},
    }


METHODS = {
    "initialize": initialize,
    "ping": lambda params: {},
    "tools/list": lambda params: {"tools": TOOLS},
    "tools/call": call,
}


def answer(message):
    """The answer to a request; None to a notification."""
    if "id" not in message:
        return None
    reply = {"jsonrpc": "2.0", "id": message["id"]}
    method = METHODS.get(message.get("method"))
    if method is None:
        return {**reply, "error": {"code": -32601, "message": "Method not found"}}
    try:
        return {**reply, "result": method(message.get("params") or {})}
    except LookupError as error:
        return {**reply, "error": {"code": -32602, "message": str(error)}}


def main():
    for line in sys.stdin:
        reply = answer(json.loads(line))
        if reply is not None:
            print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()
