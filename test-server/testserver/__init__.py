"""The black box that judges a running stack: YAML cases in, verdicts out."""
