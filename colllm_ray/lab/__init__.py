"""The small world that ships with the project: a base, three experts and their data, trained by the project itself.

`shipped/` holds the result of `colllm lab build` with the default recipe. The lab may use every other room.
"""
