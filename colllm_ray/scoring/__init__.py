"""What every model of a collaboration makes of the data.

In: a collaboration and its data files. Out: Parquet shards of gold-token log-probs, top-1 marks and the base's hidden
states (docs/architecture.md). Ray Data runs the models; this room knows neither the head nor its training.
"""
