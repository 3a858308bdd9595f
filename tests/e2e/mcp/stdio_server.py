"""A server of tools that does all it should not: each of its tools is one way of being wrong."""

import json
import os
import subprocess
import sys
import time

TOOLS = {}


def tool(**properties):
    def add(function):
        TOOLS[function.__name__] = function, properties
        return function
    return add


def say(message):
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def raw(text):
    sys.stdout.write(text)
    sys.stdout.flush()


def ask_client(method):
    say({"id": "mine", "method": method})
    while True:
        message = json.loads(sys.stdin.readline())
        if message.get("id") == "mine":
            return json.dumps(message)


@tool(text="string")
def echo(number, text):
    return text


@tool(first="string", count="integer")
def typed(number, first, count=1):
    return repr([first, count])


@tool()
def fail(number):
    say({"id": number, "result": {"isError": True, "content": [{"type": "text",
                                                                "text": "it broke"}]}})


@tool()
def refuse(number):
    say({"id": number, "error": {"code": -32000, "message": "no, and my token is " +
                                 os.environ.get("TOKEN", "")}})


@tool()
def parts(number):
    say({"id": number, "result": {"content": [
        {"type": "text", "text": "one"}, {"type": "image", "data": "AA==", "mimeType": "x/y"},
        {"type": "text", "text": "two"}, 7, None, {"type": "text"}]}})


@tool()
def structured(number):
    say({"id": number, "result": {"content": [], "structuredContent": {"a": [1, 2.5, None]}}})


@tool()
def null_error(number):
    say({"id": number, "error": None, "result": {"content": [{"type": "text", "text": "fine"}]}})


@tool()
def die(number):
    os._exit(3)


@tool()
def die_loudly(number):
    sys.stderr.write("cannot go on, the token was " + os.environ.get("TOKEN", "") + "\n")
    sys.stderr.flush()
    os._exit(4)


@tool(seconds="number")
def hang(number, seconds=3600):
    """Goes on reading, so that others are answered."""


@tool()
def deaf(number):
    time.sleep(3600)


@tool()
def flood(number):
    while True:
        raw("x" * 65536)


@tool(count="integer")
def garbage(number, count=1):
    """Lines that are no answers, and then the answer."""
    other = number + 1
    for line in ["", "nonsense", "{", "[]", "[[]]", "null", "17", '"text"', "{}", '{"id": null}',
                 '{"id": {}, "result": {}}', f'{{"id": "{number}", "result": {{}}}}',
                 f'{{"id": {number}.0, "result": {{}}}}', '{"id": -1, "result": {}}',
                 '{"id": 99999999999999999999, "result": {}}',
                 f'{{"id": {other}, "result": {{"content": [{{"type": "text", "text": "lie"}}]}}}}',
                 '{"id": 0, "error": 5}', '{"method": 5}', '{"method": "notifications/progress", '
                 '"params": {"progressToken": 1, "progress": 1}}', "\xff\xfe", "{" * 5000,
                 "[" * 100000]:
        raw(line + "\n")
    sys.stdout.buffer.write(b"\xff\xfe\x00{}\n" * count)
    return "the truth"


@tool()
def twice(number):
    for text in ("first", "second"):
        say({"id": number, "result": {"content": [{"type": "text", "text": text}]}})


@tool()
def no_result(number):
    say({"id": number, "result": "a text"})


@tool(bytes="integer")
def huge(number, bytes):
    return "x" * bytes


@tool()
def ping(number):
    return ask_client("ping")


@tool()
def sample(number):
    return ask_client("sampling/createMessage")


@tool()
def variables(number):
    return json.dumps(dict(os.environ))


@tool(path="string")
def read(number, path):
    try:
        with open(path) as file:
            return file.read()
    except OSError as e:
        return type(e).__name__


@tool(path="string")
def write(number, path):
    try:
        with open(path, "w") as file:
            return str(file.write("mine"))
    except OSError as e:
        return type(e).__name__


@tool()
def leave_children(number):
    """A daemon: a child of a child, in a session of its own."""
    code = ("import os, time\n"
            "if os.fork() == 0:\n"
            "    os.setsid()\n"
            "    if os.fork() == 0:\n"
            "        time.sleep(3600)\n")
    subprocess.run([sys.executable, "-c", code], stdin=subprocess.DEVNULL)
    return "left"


@tool()
def grow(number):
    TOOLS["grown"] = echo, {"text": "string"}
    say({"method": "notifications/tools/list_changed"})
    return "grown"


@tool(count="integer")
def nag(number, count):
    for _ in range(count):
        say({"method": "notifications/tools/list_changed"})
    return "nagged"


def describe(name):
    function, properties = TOOLS[name]
    return {"name": name, "description": function.__doc__ or "", "inputSchema": {
        "type": "object", "properties": {n: {"type": t} for n, t in properties.items()},
        "required": ["first"] if name == "typed" else []}}


listings = 0


def list_tools(params):
    """Two of them a page."""
    global listings
    names = list(TOOLS)
    at = int(params.get("cursor", 0))
    listings += at == 0
    page = {"tools": [describe(n) for n in names[at:at + 2]]}
    if at == 0:
        page["tools"] += [None, 5, {}, {"name": ""}, {"name": 7}, {"name": "x" * 5000}]
    return {**page, "nextCursor": str(at + 2)} if at + 2 < len(names) else page


@tool()
def listed(number):
    return str(listings)


def answer(message):
    number, params = message.get("id"), message.get("params", {})
    if message.get("method") == "initialize":
        say({"id": number, "result": {
            "protocolVersion": params["protocolVersion"], "capabilities": {"tools": {}},
            "serverInfo": {"name": "hostile", "version": "0"}}})
    elif message.get("method") == "tools/list":
        say({"id": number, "result": list_tools(params)})
    elif message.get("method") == "tools/call":
        function = TOOLS[params["name"]][0]
        said = function(number, **params["arguments"])
        if said is not None:
            say({"id": number, "result": {"content": [{"type": "text", "text": said}]}})


def misbehave(how):
    if how == "silent":
        time.sleep(3600)
    elif how == "ended":
        sys.exit(5)
    elif how == "babbling":
        raw("I am not a server\n" * 100)
        time.sleep(3600)
    elif how == "endless":
        for line in sys.stdin:
            message = json.loads(line)
            if message.get("method") == "tools/list":
                at = int(message["params"].get("cursor", 0))
                say({"id": message["id"], "result": {
                    "tools": [{"name": f"tool_{at}_{i}", "inputSchema": {}} for i in range(50)],
                    "nextCursor": str(at + 1)}})
            else:
                answer(message)


def main():
    if len(sys.argv) > 1:
        misbehave(sys.argv[1])
    for line in sys.stdin:
        answer(json.loads(line))


main()
