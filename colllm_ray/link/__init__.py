"""The connection over which a router sends tokens to one expert replica.

In: a host, a port and a secret, and the engine's `Extend` of many sessions. Out: its `Extended`, `Behind` and `Failed`,
and a broken connection said once to everyone whom it concerns. This room knows neither models, nor what a session is
for, nor how the two ends found each other.
"""
