"""How it is served over HTTP."""

from __future__ import annotations

from pydantic import Field

from colllm_ray.config.section import Labels, Section

ROUTE_PREFIX = r"^/([\w.~-]+(/[\w.~-]+)*)?$"


class ServingConfig(Section):
    """How it is served over HTTP; limits are those of each ingress replica."""

    ingresses: int = Field(1, ge=1, description="Replicas of the ingress.")
    labels: Labels = Field(
        {}, description="Labels that an ingress's node must have, as those of a model: connections end with their node."
    )
    api_keys: str | None = Field(
        None,
        description="File with an API key on each line; $COLLLM_API_KEYS has more of them. With neither, whoever "
        "reaches the port may ask.",
    )
    max_answers: int = Field(256, ge=1, description="Answers that are written at once; more wait.")
    max_waiting: int = Field(
        256, ge=0, description="Answers that wait; requests for more are refused, with status 429."
    )
    timeout_s: float = Field(600.0, gt=0, description="Seconds from a request to the end of its answer.")
    wait_s: float = Field(
        60.0,
        ge=0,
        description="Seconds that an answer waits for an expert of which no copy runs, where the request does not say.",
    )
    drain_s: float = Field(
        60.0, ge=0, description="Seconds that a copy which is to stop waits for the answers that need it."
    )
    surge: bool = Field(
        False, description="In an update, start new copies before old ones stop: it needs room for both."
    )
    max_body_bytes: int = Field(4 * 2**20, ge=1, description="Size of a request.")
    cors_origins: tuple[str, ...] = Field((), description="Web sites, as `https://host`, whose pages may ask.")
    route_prefix: str = Field(
        "/",
        pattern=ROUTE_PREFIX,
        description="Below which path it answers, such as `/law`: each application of a cluster has its own.",
    )
    page: bool = Field(True, description="Whether `/` shows the page.")
