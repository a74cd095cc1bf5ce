"""The parts of scripts/bench.py: `machine` describes the machine and its load, `measure` runs
programs, `results` stores the results, `render` writes the page. Standard library only."""
