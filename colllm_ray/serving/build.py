"""What a Serve config file names as its `import_path`, on Kubernetes for one: an application built on the cluster."""

from pydantic import BaseModel, ConfigDict, Field
from ray import serve

from colllm_ray.decoding.team_spec import TeamSpec
from colllm_ray.deferral.trained import TrainedCollaboration
from colllm_ray.serving.api.keys import take_keys
from colllm_ray.serving.application import http_application

# No postponed annotations: Serve looks at the argument's type itself.


class Arguments(BaseModel):
    """`args` of the application in the config file."""

    model_config = ConfigDict(extra="forbid")

    collaboration: str = Field(description="Folder RUN/collaboration: a path that is the same on all nodes, or a URI.")
    update: int = Field(1, description="Any number. Serve builds the application again where it has changed.")


def collaboration(arguments: Arguments) -> serve.Application:
    """A trained collaboration behind its ingress; API keys are those of the environment of the cluster's nodes.

    Raises ColllmError.
    """
    trained = TrainedCollaboration.load(arguments.collaboration)
    keys = take_keys(trained.collaboration.serving.api_keys)
    return http_application(TeamSpec.of(trained), keys)
