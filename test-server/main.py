"""Start the test server, or ask a running one for verdicts."""

from testserver.command import cli

if __name__ == "__main__":
    cli()
