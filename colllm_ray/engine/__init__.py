"""One language model that steps many sessions.

In: `Extend` messages (which session, where the new tokens begin, the tokens). Out: what the model would write next,
and on the base the head's scores of who should write it. This room knows neither text nor Ray nor the other models.
Keys and values lie in preallocated slots (`kv_cache.py`), which sessions come to and leave (`slots.py`). A forward pass
has exactly the shapes of its texts (`packed.py`), or on a GPU one of a few that were captured (`captured.py`).
"""
