"""What goes over HTTP: OpenAI's API, and what only a collaboration has.

In: JSON as `requests.py` describes it. Out: JSON or a stream of events as `answers.py` does. `app.py` has the routes,
`door.py` what happens behind them; nothing here knows how an answer is written, only the router that is asked for it.
"""
