"""The command line: `main` runs one of the commands beside it.

It turns what a person did wrong into one line on stderr and exit status 2 (tests/e2e/test_shell.py).
"""

import sys
from typing import Annotated

import tyro

from dbsn.cli.denoise import Denoise
from dbsn.cli.evaluate import Evaluate
from dbsn.cli.info import Info
from dbsn.cli.inspect import Inspect
from dbsn.cli.models import Models
from dbsn.cli.report import Report
from dbsn.cli.synthesize import Synthesize
from dbsn.cli.threads import use_threads, wait_passively
from dbsn.cli.train import Train

Command = (
    Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Denoise, tyro.conf.subcommand("denoise")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Synthesize, tyro.conf.subcommand("synthesize")]
    | Annotated[Inspect, tyro.conf.subcommand("inspect")]
    | Annotated[Report, tyro.conf.subcommand("report")]
    | Annotated[Info, tyro.conf.subcommand("info")]
    | Annotated[Models, tyro.conf.subcommand("models")]
)


def main() -> None:
    """The `dbsn` command."""
    wait_passively()
    command = tyro.cli(Command, prog="dbsn", description="Denoise with what your noisy images teach.")
    try:
        use_threads(getattr(command, "threads", None))
        status = command.run()
    except (ValueError, OSError) as error:
        print(f"dbsn: {error}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        print("dbsn: stopped", file=sys.stderr)
        status = 130
    sys.exit(status)
