"""How long a unikernel takes from nothing to the end of /bin/true, beside the same program natively and in containers.

libos_start   from the creation of the virtual machine to the library OS being ready for its program
exec_true     `kasoku exec -- /bin/true`, from before the spawn to after the end
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from common import kasoku_command as kasoku
from common.peers import runtimes
from common.report import Report, arguments
from common.sampling import interleave

PROGRAM = Path("/bin/true")


def main() -> int:
    """Measures and reports."""
    options = arguments(__doc__, rounds=40)
    kasoku.require()
    report = Report("boot")

    def libos_start() -> float:
        phases = kasoku.timings([str(kasoku.KASOKU), "exec", "--timings", "--", str(PROGRAM)])
        return (phases["libos_us"] - phases["companions_us"]) / 1000

    report.absolute("libos_start", "ms", interleave({"kasoku": libos_start}, options.rounds), p50_at_most=5)
    with tempfile.TemporaryDirectory() as folder:
        variants = {
            "kasoku": lambda: kasoku.timed([str(kasoku.KASOKU), "exec", "--", str(PROGRAM)]),
            "native": lambda: kasoku.timed([str(PROGRAM)]),
            **runtimes(Path(folder), PROGRAM),
        }
        report.absolute("exec_true", "ms", interleave(variants, options.rounds), p50_at_most=15)
    return report.finish(options.json)


if __name__ == "__main__":
    sys.exit(main())
