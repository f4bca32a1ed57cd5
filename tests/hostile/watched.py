"""`escarcelle`, which on SIGUSR1 appends to the file of its first argument how many of its asyncio tasks are not done.
The rest of the command line is the program's own."""

import asyncio
import gc
import signal
import sys
from pathlib import Path
from types import FrameType

from escarcelle import cli


def main() -> None:
    """Become the program."""
    file = Path(sys.argv.pop(1))

    def tell(_number: int, _frame: FrameType | None) -> None:
        gc.collect()
        with file.open("a", encoding="utf-8") as log:
            log.write(f"{len(asyncio.all_tasks())}\n")

    signal.signal(signal.SIGUSR1, tell)
    cli.main()


if __name__ == "__main__":
    main()
