"""The suite of small and mixed tables: Polymodal against the script that one would write by hand.

`catalog.py` has the sets and `contestants/` the programs; `protocol.py` runs them, `results.py` compares them.
"""
