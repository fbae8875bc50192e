"""First file that Python runs in a function's VM: `python3 main.py CHANNEL`.

CHANNEL is the path of the invocation channel (`/dev/kasoku/invoke`), or `fd:N` for a descriptor that is open already.
Everything else is in the package beside this file, whose name no function file has: a function's own `handler.py` or
`context.py` must never meet one of ours.
"""

import sys

from kasoku_runner.loop import run

if __name__ == "__main__":
    # The folder of this file is Python's first import path; the function's own folder takes its place (see loop.run).
    del sys.path[0]
    sys.exit(run(sys.argv[1]))
