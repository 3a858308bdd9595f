"""How long what a server depends on is gone, in the tests of what is there afterwards, in seconds:
less and more than the five that a change waits for its database. CARREL_LONG=1 has the long one."""

import os

OUTAGES_S = (0, 1, 6, *((30,) if os.environ.get("CARREL_LONG") == "1" else ()))
