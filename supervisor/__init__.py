"""Start, watch and stop every process of maruntime on one machine, without Docker."""
