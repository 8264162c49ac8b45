"""`python -m xzpipe`."""

from xzpipe.cli.main import entry

entry()
