"""The parts of scripts/chaos.py: kills, signals, faults and damages, and what they are judged by."""
