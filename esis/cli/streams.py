"""Keep a command's work apart from what becomes of its output: streams may be closed, full, or have lost their reader.

What can't be written is remembered, and told when the command is done. A terminal gets no control characters of others:
names, reasons and logs hold what strangers chose to write. In a pipe every byte stays as it is.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import re
import sys

# Colours (SGR) and what click.clear sends pass; so do tabs and newlines.
_PASSING = rb"\x1b\[[0-9;:]{0,60}m|\x1b\[2J\x1b\[1;1H"
_CONTROL = re.compile(
    rb"(" + _PASSING + rb")|(\r\n?)|([\x00-\x08\x0b-\x1f\x7f])"
    # C1, and what turns the direction of text around, as UTF-8
    rb"|(\xc2[\x80-\x9f]|\xe2\x80[\xa8-\xae]|\xe2\x81[\xa6-\xa9])"
)
_CUT = re.compile(rb"(?:\r|\x1b(?:\[[0-9;:]{0,60}|\[2J(?:\x1b(?:\[[1;]{0,3})?)?)?|\xc2|\xe2[\x80\x81]?)\Z")


class Stream(io.FileIO):
    """Write to a descriptor; where that fails, go on as if it hadn't."""

    trouble: OSError | None = None  # the first one
    _held = b""  # the beginning of something that isn't there in full yet
    _filtered = False

    @classmethod
    def on(cls, descriptor: int, filtered: bool = False) -> Stream:
        """Return a stream; a terminal gets what is harmless there where it is to be `filtered`."""
        stream = cls(descriptor, "wb", closefd=False)
        stream._filtered = filtered and stream.isatty()
        return stream

    def write(self, data: object) -> int:
        """Write all of it, also where the descriptor doesn't block."""
        whole = bytes(data)  # type: ignore[call-overload]
        self._send(self._harmless(whole) if self._filtered else whole)
        return len(whole)

    def finish(self) -> None:
        """Write what was held back."""
        held, self._held = self._held, b""
        self._send(_CONTROL.sub(_escape, held))

    def _harmless(self, data: bytes) -> bytes:
        data = self._held + data
        cut = _CUT.search(data)
        self._held = data[cut.start() :] if cut is not None else b""
        return _CONTROL.sub(_escape, data[: len(data) - len(self._held)])

    def _send(self, data: bytes) -> None:
        view = memoryview(data)
        while view and self.trouble is None:
            try:
                view = view[os.write(self.fileno(), view) :]
            except BlockingIOError:
                import select

                select.select([], [self.fileno()], [])
            except OSError as error:
                self.trouble = error


class Failing(Stream):
    """Write to a descriptor, and raise OSError where that fails."""

    def write(self, data: object) -> int:
        """Write all of it, also where the descriptor doesn't block."""
        length = super().write(data)
        if self.trouble is not None:
            raise self.trouble
        return length


def open_closed() -> None:
    """Let standard streams that are closed lead nowhere: a file of the run would get their numbers."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)
            os.set_inheritable(descriptor, True)


def guard() -> Stream:
    """Put guarded streams into the places of stdout and stderr, and return that of stdout."""
    codecs.register_error("esis", _encodable)
    out, err = Stream.on(1, filtered=True), Stream.on(2)
    for name, stream, errors in (("stdout", out, "esis"), ("stderr", err, "backslashreplace")):
        before = getattr(sys, name)
        encoding = before.encoding if before is not None else "utf-8"
        setattr(
            sys,
            name,
            io.TextIOWrapper(
                io.BufferedWriter(stream), encoding, errors, line_buffering=stream is err or stream.isatty()
            ),
        )
    return out


def is_lost() -> bool:
    """Return whether nothing of stdout arrives any more, so that there is no use in going on to show something."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return isinstance(raw, Stream) and raw.trouble is not None


def what_was_lost(out: Stream) -> str | None:
    """Return what to say of output that didn't arrive; nothing of a reader that went away (`esis list | head`)."""
    sys.stdout.flush()
    out.finish()
    if out.trouble is None or out.trouble.errno == errno.EPIPE:
        return None
    name = errno.errorcode.get(out.trouble.errno or 0, "no errno")
    return (
        f"standard output: {out.trouble.strerror} ({name}); what was to be shown is lost, what was to be done is done"
    )


def _escape(match: re.Match[bytes]) -> bytes:
    passing, end, _, _ = match.groups()
    if passing is not None:
        return passing
    if end is not None:
        return b"\n"  # of a progress bar each state gets a line of its own
    return match.group().decode("utf-8").encode("unicode_escape")


def _encodable(error: UnicodeError) -> tuple[str | bytes, int]:
    """Give back the bytes that a name was read from; write characters that the terminal hasn't as escapes."""
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.lookup_error("backslashreplace")(error)
