"""The head learns who should write, and the base with it where it is asked to.

In: a collaboration and RUN/scores. Out: RUN/collaboration. Ray Train runs the workers (workers.py). First the head is
fitted to the frozen base's cached hidden states, without a language model (head_*.py); in the modes `lora` and `full`
base and head then learn together, with DeepSpeed (base_*.py, deepspeed_*). This room knows nothing of decoding and
serving.
"""
