#!/usr/bin/env python3
"""An agent whose only tool is `run_code`: it writes Python, a session server runs it.

    SESSION_URL=http://127.0.0.1:8080 SESSION_AUTH_TOKEN=… python agent.py "scan 10.0.0.1"

The model is an HTTP endpoint shaped like OpenAI's chat completions (MODEL_URL, MODEL_NAME, MODEL_KEY),
or a script: a file of answers, so that all of it can be tried without any model:

    python agent.py --script demo.json "scan 10.0.0.1"

demo.json is a list of what the model says, one after the other: {"code": "…"} runs a cell,
{"answer": "…"} ends. It needs nothing but the package carrel.
"""

import argparse
import asyncio
import json
import os
import sys
import urllib.request

from carrel import CarrelError, SessionClient

STEPS_MAX = 5
OUTPUT_CHARS_MAX = 20000
MODEL_SECONDS = 120

PROMPT = """\
You work by writing Python, which runs in a session that remembers variables and files. In it there are
  skills     what earlier sessions learned: skills.search("…"), skills.NAME(…), skills.create(…)
  tools      programs: tools.search("…"), tools.NAME.RECIPE(…)
  artifacts  what is kept: artifacts.save(name, data), artifacts.load(name), artifacts.list()
Search the skills first, then the tools. Script several steps together rather than one call at a time.
Save results worth keeping as artifacts, and a script worth repeating as a skill.
Call run_code(code) to run a cell; answer in words when you are done."""

TOOL = {"type": "function", "function": {
    "name": "run_code", "description": "Runs Python in the session; what it printed and its value.",
    "parameters": {"type": "object", "required": ["code"],
                   "properties": {"code": {"type": "string"}}}}}


class ScriptedModel:
    """Says what a file says."""

    def __init__(self, steps):
        self.steps = iter(steps)

    def next_step(self, messages):
        """({"code": …} or {"answer": …}, the message to put into the conversation)."""
        step = next(self.steps, {"answer": messages[-1]["content"]})
        return step, {"role": "assistant", "content": json.dumps(step)}


class HttpModel:
    """A chat completions endpoint."""

    def __init__(self, url, name, key):
        self.url, self.name, self.key = url, name, key

    def next_step(self, messages):
        request = urllib.request.Request(
            self.url, json.dumps({"model": self.name, "messages": messages,
                                  "tools": [TOOL]}).encode(),
            {"Content-Type": "application/json", "Authorization": f"Bearer {self.key}"})
        with urllib.request.urlopen(request, timeout=MODEL_SECONDS) as answer:
            message = json.load(answer)["choices"][0]["message"]
        calls = message.get("tool_calls")
        if not calls:
            return {"answer": message.get("content") or ""}, message
        message["tool_calls"] = calls[:1]  # one cell at a time
        arguments = json.loads(calls[0]["function"]["arguments"])
        return {"code": arguments["code"], "id": calls[0]["id"]}, message


def text_of(result):
    """A cell's outcome as the model sees it."""
    parts = [result.stdout]
    if result.error is not None:
        parts.append(result.error)
    elif result.value is not None:
        parts.append(result.value if isinstance(result.value, str) else json.dumps(result.value))
    return "\n".join(part for part in parts if part)[:OUTPUT_CHARS_MAX] or "OK"


async def run_task(task, model, session, say=lambda text: None):
    """Works on a task for at most STEPS_MAX cells; the model's answer.

    session: anything whose `execute` or `run` runs a cell. say: told each cell and its outcome.
    """
    run = getattr(session, "execute", None) or session.run
    messages = [{"role": "system", "content": PROMPT}, {"role": "user", "content": task}]
    loop = asyncio.get_running_loop()
    for _ in range(STEPS_MAX):
        step, message = await loop.run_in_executor(None, model.next_step, messages)
        messages.append(message)
        if "answer" in step:
            return step["answer"]
        say(f">>> {step['code']}")
        text = text_of(await run(step["code"]))
        say(text)
        messages.append({"role": "tool", "tool_call_id": step.get("id"), "content": text})
    return messages[-1]["content"]


def model_from(script):
    """The scripted model, or the one that the environment names; ValueError when it names none."""
    if script:
        with open(script, encoding="utf-8") as file:
            return ScriptedModel(json.load(file))
    url = os.environ.get("MODEL_URL")
    if not url:
        raise ValueError("no model: set MODEL_URL, MODEL_NAME and MODEL_KEY, or give a script")
    return HttpModel(url, os.environ.get("MODEL_NAME", ""), os.environ.get("MODEL_KEY", ""))


async def main():
    parser = argparse.ArgumentParser(description="An agent on a session server.")
    parser.add_argument("--script", metavar="FILE", help="what the model says, as JSON")
    parser.add_argument("task", nargs="*", help="without it: tasks from standard input, a line each")
    options = parser.parse_args()
    client = SessionClient(os.environ.get("SESSION_URL", "http://127.0.0.1:8080"), timeout=60,
                           auth_token=os.environ.get("SESSION_AUTH_TOKEN"))
    async with client:
        tasks = [" ".join(options.task)] if options.task else sys.stdin
        for task in tasks:
            print(await run_task(task.strip(), model_from(options.script), client,
                                 lambda text: print(text, file=sys.stderr)))
        await client.reset()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except (CarrelError, OSError, ValueError, KeyError) as error:
        sys.exit(f"agent: {error}")
