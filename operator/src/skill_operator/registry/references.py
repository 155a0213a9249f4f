"""Write references of images: node, builder and controller each know one image by another name."""

from __future__ import annotations

from skill_operator import naming
from skill_operator.settings import Settings


def pull_reference(settings: Settings, image: str) -> str:
    """Return the reference by which a node pulls the image.

    An image without a registry's host is in the configured registry.
    """
    return image if has_host(image) else f"{settings.registry.pull}/{image}"


def push_reference(settings: Settings, image: str) -> str:
    """Return the reference by which the builder pulls or pushes the image."""
    return image if has_host(image) else f"{settings.registry.push}/{image}"


def skill_repository(settings: Settings, namespace: str, skill: str) -> str:
    """Return the repository of a Skill's images, without the registry's address."""
    return naming.flat_repository(namespace) if settings.registry.flat_names else naming.repository(namespace, skill)


def skill_tag(settings: Settings, skill: str, rev: str) -> str:
    """Return the tag of a revision's image in that repository."""
    return naming.flat_tag(skill, rev) if settings.registry.flat_names else rev


def has_host(image: str) -> bool:
    """Return whether the reference names a registry's host.

    Docker's rule: the first part is a host if it holds a dot or a port, or is `localhost`.
    """
    first, slash, _ = image.partition("/")
    return bool(slash) and ("." in first or ":" in first or first == "localhost")
