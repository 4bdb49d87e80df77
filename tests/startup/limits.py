"""Runs a command under restrictions that only a fresh process can take on.

    limits.py no-uring|PATH... -- command...

`no-uring`: a seccomp filter that answers io_uring_setup, _enter and _register with EPERM, as
container runtimes do by default.
"""

import ctypes
import os
import struct
import sys

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
LOAD_NUMBER, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
EPERM, ENOSYS = 1, 38
IO_URING = (425, 426, 427)


def block_io_uring(errno):
    """The three numbers are the same on every 64-bit architecture."""
    program = [struct.pack("HBBI", LOAD_NUMBER, 0, 0, 0)]
    for position, number in enumerate(IO_URING):
        program.append(struct.pack("HBBI", JUMP_IF_EQUAL, len(IO_URING) - position, 0, number))
    program.append(struct.pack("HBBI", RETURN, 0, 0, ALLOW))
    program.append(struct.pack("HBBI", RETURN, 0, 0, ERRNO | errno))
    code = ctypes.create_string_buffer(b"".join(program))
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(program), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "PR_SET_NO_NEW_PRIVS")
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, header, 0, 0):
        raise OSError(ctypes.get_errno(), "PR_SET_SECCOMP")


if __name__ == "__main__":
    restriction, separator, *command = sys.argv[1:]
    assert separator == "--"
    block_io_uring({"no-uring": EPERM, "old-kernel": ENOSYS}[restriction])
    os.execvp(command[0], command)
