"""Engines: shards of work in this process, in several processes, or on the machines of a Ray cluster."""
