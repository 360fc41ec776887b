"""The command line: flags become calls."""
