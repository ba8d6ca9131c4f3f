"""Does collaboration help, with which threshold, at what price, and against what else?

In: a trained collaboration and tasks. Out: a `Calibration`, an `Evaluation`, tables, a report. Answers come through Ray
Serve, and are kept, so that nothing is asked twice.
"""
