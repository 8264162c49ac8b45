"""The command line: parse, one call, exit code."""
