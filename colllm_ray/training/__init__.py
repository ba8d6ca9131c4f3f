"""The head learns who should write.

In: a collaboration and RUN/scores. Out: RUN/collaboration. Ray Train runs the workers; the base is frozen, so no
language model is loaded. This room knows nothing of decoding and serving.
"""
