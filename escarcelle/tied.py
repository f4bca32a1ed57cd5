"""Starts a program that cannot outlive the process that asked for it, not even when that process is killed with -9.

Run by its path, as a script of its own, between the two: a death signal must be set in the innermost process, after
every change of user, and every start pays for what is imported here."""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_CLONE_NEWUSER = 0x10000000

SAME_USER = "same"
PLAIN_USER_NAMESPACE = "namespace"


def command(program: list[str], *, dies_by: signal.Signals, user: str = SAME_USER) -> list[str]:
    """The command line that starts `program` so that it receives `dies_by` when this process dies. Start it from the
    main thread: the kernel watches the thread that forked, not the process.

    `user` is SAME_USER, or for root either PLAIN_USER_NAMESPACE (root's own files, seen as a plain user's) or
    "number:number", a user and group to become.
    """
    return [sys.executable, "-I", "-S", __file__, str(dies_by.value), str(os.getpid()), user, *program]


def main() -> None:
    """Become the program of the command line."""
    dies_by, parent, user, *program = sys.argv[1:]
    try:
        _become(user)
    except OSError as error:
        sys.exit(f"this machine does not let root act as a plain user ({error.strerror})")
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(dies_by), 0, 0, 0)
        if os.getppid() != int(parent):
            return  # it died before the kernel was told to watch it
    # Python ignores SIGPIPE, and what is ignored stays so in the program.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        os.execv(program[0], program)  # noqa: S606 — no shell is wanted
    except OSError as error:
        sys.exit(f"{program[0]} cannot be started: {error.strerror}")


def _become(user: str) -> None:
    if user == PLAIN_USER_NAMESPACE:
        own_user, own_group = os.geteuid(), os.getegid()
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(_CLONE_NEWUSER) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"1000 {own_user} 1")
        _write("/proc/self/gid_map", f"1000 {own_group} 1")
    elif user != SAME_USER:
        number, _, group = user.partition(":")
        os.setgroups([])
        os.setgid(int(group))
        os.setuid(int(number))


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    main()
