"""The commands of the shell, one dataclass each with `run`; torch is loaded inside it, so that --help is quick.

A mistake is a ValueError or OSError of one line, with its remedy; files that fail while others go through are a line
each and status 1 (tests/e2e/test_shell.py).
"""
