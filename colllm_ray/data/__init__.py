"""From a user's rows to token ids and target masks.

In: files (JSON lines, Parquet; by path or URI) and `datasets` data sets, what their columns mean, and the base's
tokenizer. Out: `Example`s, and a `FailedRow` for each row that makes none. This room knows no model but its tokenizer,
and no Ray.
"""
