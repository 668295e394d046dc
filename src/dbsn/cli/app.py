"""The command line: `main` runs one of the commands beside it.

It turns what a person did wrong into one line on stderr and exit status 2 (tests/e2e/test_shell.py). A closed pipe
ends it in silence.
"""

import errno
import io
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, suppress
from typing import Annotated, Any, get_args

import tyro

from dbsn.cli import help as pages
from dbsn.cli.denoise import Denoise
from dbsn.cli.evaluate import Evaluate
from dbsn.cli.export import Export
from dbsn.cli.info import Info
from dbsn.cli.inspect import Inspect
from dbsn.cli.models import Models
from dbsn.cli.options import escaped
from dbsn.cli.report import Report
from dbsn.cli.signals import Stops, say_stopped
from dbsn.cli.synthesize import Synthesize
from dbsn.cli.threads import use_threads, wait_passively
from dbsn.cli.train import Train
from dbsn.version import __version__

Command = (
    Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Denoise, tyro.conf.subcommand("denoise")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Synthesize, tyro.conf.subcommand("synthesize")]
    | Annotated[Inspect, tyro.conf.subcommand("inspect")]
    | Annotated[Report, tyro.conf.subcommand("report")]
    | Annotated[Info, tyro.conf.subcommand("info")]
    | Annotated[Models, tyro.conf.subcommand("models")]
    | Annotated[Export, tyro.conf.subcommand("export")]
)
COMMANDS: dict[str, Any] = {kind.__name__.lower(): kind for kind in (get_args(each)[0] for each in get_args(Command))}
"""Each command, by its name."""
_SHELLS = ("bash", "zsh", "fish")
_HELP = ("-h", "--help", "--help-all")
_MISUSED, _PIPE_CLOSED = 2, 128 + signal.Signals.SIGPIPE if hasattr(signal, "SIGPIPE") else 141

_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


def main(handler: Stops) -> None:
    """The `dbsn` command."""
    try:
        handler.is_running = True
        status = _run(sys.argv[1:])
        _flush()
    except BaseException as error:
        status = _status_of(error, handler)
    sys.exit(status)


def _status_of(error: BaseException, handler: Stops) -> int:
    """Say what went wrong in one line; returns the exit status."""
    if isinstance(error, KeyboardInterrupt) or (handler.signal and not isinstance(error, SystemExit)):
        say_stopped()  # an import that is interrupted may raise anything
        return 128 + (handler.signal or signal.SIGINT)
    if isinstance(error, BrokenPipeError):
        _give_up_stdout()
        return _PIPE_CLOSED
    if isinstance(error, OSError) and error.errno in _FULL and error.filename is None:
        error = _unprintable(error)  # every other file is named where it is written
    if isinstance(error, MemoryError):
        error = MemoryError("out of memory. Use a smaller --tile or smaller images.")
    if not isinstance(error, ValueError | OSError | MemoryError):
        raise error
    print(f"dbsn: {escaped(str(error))}", file=sys.stderr)
    return _MISUSED


def _flush() -> None:
    """Flush what was printed; an error names it."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _unprintable(error) from None


def _unprintable(error: OSError) -> OSError:
    """The error of a standard output that takes nothing more."""
    _give_up_stdout()
    return OSError(f"standard output: cannot be written ({error.strerror}). Free space.")


def _give_up_stdout() -> None:
    """Print to nowhere, or the interpreter complains when it flushes at its end."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(arguments: Sequence[str]) -> int:
    """Do what was typed; returns the exit status."""
    words = arguments[: arguments.index("--")] if "--" in arguments else arguments
    if words and words[0] == "--version":
        return _print_version()
    if words and words[0].replace("_", "-") in ("--tyro-print-completion", "--tyro-write-completion"):
        _check_shell(words)
    elif any(word in _HELP for word in words):
        return _print_help(words)
    command = _parse(arguments)
    if not isinstance(command, Train):
        wait_passively()
    use_threads(getattr(command, "threads", None))
    return int(command.run())


def _parse(arguments: Sequence[str]) -> Any:
    """The command that was typed; what is misspelt is named with what was meant."""
    message = io.StringIO()
    try:
        with redirect_stderr(message):
            return tyro.cli(Command, prog=pages.PROGRAM, args=list(arguments))
    except SystemExit as stopped:
        if stopped.code:
            _check_words(arguments)
            advice = f" See `{pages.PROGRAM} {arguments[0]} --help`."
            raise ValueError(pages.in_one_line(message.getvalue()) + advice) from None
        raise


def _check_words(arguments: Sequence[str]) -> None:
    """Refuse a command or an option that there is not; ValueError says which was meant."""
    name, *rest = arguments or [""]
    if name not in COMMANDS:
        what = f"{name}: no such command." if name else "COMMAND: missing."
        near = pages.suggestion(name, list(COMMANDS)) or f" Choose one of {', '.join(COMMANDS)}."
        raise ValueError(f"{what}{near} See `dbsn --help`.")
    known = sorted(pages.flags(pages.parsers(Command)[name]))
    for word in rest:
        flag = word.split("=")[0].replace("_", "-")
        if word == "--":
            return
        if flag.startswith("--") and flag not in known:
            raise ValueError(
                f"{flag}: no such option of `dbsn {name}`.{pages.suggestion(flag, known)} See `dbsn {name} --help-all`."
            )


def _check_shell(words: Sequence[str]) -> None:
    shell = words[1] if len(words) > 1 else "nothing"
    if shell not in _SHELLS:
        raise ValueError(f"{words[0]}: no completion for this shell (got {shell}, expected {', '.join(_SHELLS)}).")


def _print_help(words: Sequence[str]) -> int:
    width = shutil.get_terminal_size().columns
    parsers = pages.parsers(Command)
    name = words[0]
    if name in COMMANDS:
        everything = "--help-all" in words
        print(pages.page(name, parsers[name], COMMANDS[name].layout, everything=everything, width=width))
    elif name in _HELP:
        print(pages.first_page({each: pages.plain(parsers[each].description or "") for each in COMMANDS}, width))
    else:
        _check_words(words)
    return 0


def _print_version() -> int:
    import torch

    from dbsn.devices import has_fast_bf16, pick_device

    device = pick_device("auto")
    print(f"dbsn {__version__}")
    print(f"torch {torch.__version__}, device {device}, bf16 {'yes' if has_fast_bf16(device) else 'no'}")
    return 0
