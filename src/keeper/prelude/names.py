"""The names that every session finds in its namespace.

Made once, in the image, so a session pays nothing for them; they are ordinary
global variables, which user code may shadow or delete. There are two sets: one
that returns awaitables where an event loop runs, and one that always blocks,
for synchronous skills that run inside a loop.
"""

from _carrel.artifacts import Artifacts
from _carrel.deps import Deps
from _carrel.skills import Skills
from _carrel.tools import Tools


def _make(blocking):
    skills = Skills(blocking)
    return {"tools": Tools(blocking), "skills": skills, "workflows": skills,
            "artifacts": Artifacts(blocking), "deps": Deps(blocking)}


_sets = (_make(False), _make(True))


def public(blocking=False):
    """Returns the names with their objects; not to be changed."""
    return _sets[blocking]
