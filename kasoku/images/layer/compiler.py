"""The compiling process of `bytecode.py`: sources on standard input, `.pyc` contents on standard output.

A request is two lengths (u32, little-endian), a path, a source; an answer is a length and a `.pyc`, which is empty
where the source does not compile.
"""

import importlib.util
import marshal
import struct
import sys

UNCHECKED_HASH = 0b01


def pyc(path: bytes, source: bytes) -> bytes:
    """Compiles one source; returns nothing where that fails, for whatever reason: the source is hostile."""
    try:
        code = compile(source, path.decode("utf-8", "surrogateescape"), "exec", dont_inherit=True)
        body = marshal.dumps(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
        return b""
    head = importlib.util.MAGIC_NUMBER + struct.pack("<I", UNCHECKED_HASH) + importlib.util.source_hash(source)
    return head + body


def main() -> None:
    """Serves until the input ends."""
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    while head := requests.read(8):
        path_length, source_length = struct.unpack("<II", head)
        path = requests.read(path_length)
        answer = pyc(path, requests.read(source_length))
        answers.write(struct.pack("<I", len(answer)) + answer)
        answers.flush()


if __name__ == "__main__":
    main()
