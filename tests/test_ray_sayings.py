from __future__ import annotations

import pytest
from ray._private import worker

from colllm_ray.ray_sayings import leave_out_alarms

STOPPED = (
    "Task ServeController.listen_for_change failed. There are infinite retries remaining, so the task will be retried. "
    "Error: The actor is dead because it was killed by `ray.kill`."
)
OUT_OF_MEMORY = "1 Workers (tasks / actors) killed due to memory pressure (OOM)"


def test_what_raylets_tell_is_printed_but_for_what_was_stopped_on_purpose(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        leave_out_alarms()
    for lines in ([STOPPED], [OUT_OF_MEMORY, STOPPED]):
        worker.print_to_stdstream({"lines": lines, "pid": "raylet", "is_err": False}, ignore_prefix=False)
    printed = capsys.readouterr().out
    assert OUT_OF_MEMORY in printed
    assert "listen_for_change" not in printed
