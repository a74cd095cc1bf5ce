"""The checks of scripts/fault_injection.py. Standard library only."""
