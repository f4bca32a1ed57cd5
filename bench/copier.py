"""`python -m bench.copier SLUG`: one copy for analysts, in a process of its own. It answers with a line of JSON: how
long it took and each step of it, in seconds, and the most memory that was held."""

import json
import resource
import sys
import time

from domain.settings import from_environment
from reporting import copy


def main() -> None:
    """Copy, and say so."""
    settings = from_environment()
    (issuer,) = copy.issuers(settings, sys.argv[1])
    begun: list[tuple[str, float]] = []
    began = time.perf_counter()
    copied = copy.copy(settings, issuer, lambda step: begun.append((step, time.perf_counter())))
    ended = time.perf_counter()
    assert copied is not None and copied.anew, "nobody else copies here, and there was nothing"
    ends = [at for _, at in begun[1:]] + [ended]
    said = {
        "seconds": ended - began,
        "steps": {step: end - at for (step, at), end in zip(begun, ends, strict=True)},
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
