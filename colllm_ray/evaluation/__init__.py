"""Does collaboration help? Answers and log-likelihoods on held-out data, measured and shown.

In: a trained collaboration and a data file. Out: an `Evaluation`, a table, a report. Answers come through Ray Serve.
"""
