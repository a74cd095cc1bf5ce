"""The parts of scripts/bench.py: `machine` describes and watches, `measure` runs programs, `results` keeps what was
measured, `render` writes the page. Standard library only."""
