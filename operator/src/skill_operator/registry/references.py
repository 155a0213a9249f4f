"""References of images: how a node, the builder and the controller write one and the same image."""

from __future__ import annotations

from skill_operator.settings import Settings


def pull_reference(settings: Settings, image: str) -> str:
    """As a node pulls it: an image named without a registry's host is in the configured registry."""
    return image if has_host(image) else f"{settings.registry.pull}/{image}"


def push_reference(settings: Settings, image: str) -> str:
    """As the builder pulls or pushes it."""
    return image if has_host(image) else f"{settings.registry.push}/{image}"


def has_host(image: str) -> bool:
    """Docker's rule: the first part is a host if it holds a dot or a port, or is `localhost`."""
    first, slash, _ = image.partition("/")
    return bool(slash) and ("." in first or ":" in first or first == "localhost")
