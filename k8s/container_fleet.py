"""A fleet as containers see it: its folders below the image's home, its gateway open to the pod network."""

from pathlib import Path

from cluster.moved_fleet import move_fleet
from experts.errors import ConfigurationError
from experts.fleet import Fleet, is_url

HOME = "/srv/guildhall"
"""Where the images of k8s/images have the project; commands run there."""

DATA = "/var/lib/guildhall"
"""Where the volume that all pods share is: indexes, models, built encoders, feedback."""


def plan_container_fleet(fleet: Fleet, project: Path) -> Fleet:
    """The fleet with every path as the image has it, and a gateway that other pods reach and that asks for keys.

    `fleet` has absolute paths, `project` is the folder that the image is built from. Raises ConfigurationError.
    """
    for name, domain in fleet.domains.items():
        location = domain.index.location if domain.index is not None else None
        if location is not None and not is_url(location):
            raise ConfigurationError(
                f"domains.{name}.index.location is the folder {location}, which no pod has; remove it, and the index "
                "lies on the volume that all pods share, or name a URL such as s3://bucket/folder"
            )
    gateway = fleet.gateway.model_copy(update={"host": "0.0.0.0"})  # noqa: S104 - keys are asked for
    return move_fleet(fleet, project, HOME).model_copy(update={"gateway": gateway})
