"""Quantities are taken, compared and written as Kubernetes does it."""

from __future__ import annotations

import random
import re
from copy import deepcopy
from fractions import Fraction

import pytest

from skill_operator.api.quantity import MAX_VALUE, QUANTITY, canonical
from skill_operator.api.v1alpha1 import ResourceLimits
from skill_operator.reconcile.writer import holds
from skill_operator.resources.deployment import deployment
from skill_operator.resources.quota import quota
from tests.unit.reconcile.samples import SETTINGS, skill

# As the tests of apimachinery have them, but rounded up to thousandths as defaulting does it.
CANONICAL = {
    "0": "0", "0Ki": "0", "00": "0", "0.0": "0", "+1": "1", "1.": "1", ".5": "500m", "0.5": "500m", "00.5": "500m",
    "1000m": "1", "1500m": "1500m", "100m": "100m", "0.1": "100m", "1024Mi": "1Gi", "1000Mi": "1000Mi", "1Ki": "1Ki",
    "1024": "1024", "1023": "1023", "0.25Gi": "256Mi", "1.5Gi": "1536Mi", "1.5Ki": "1536", ".5Ki": "512", "0.5Mi": "512Ki",
    "1e3": "1e3", "1E3": "1e3", "100e1": "1e3", "1e1": "10", "1e2": "100", "1e-1": "100e-3", "1E": "1E", "0.5E": "500P",
    "1000k": "1M", "1200k": "1200k", "256M": "256M", "1e8": "100e6", "134217728": "134217728", "128974848000m": "128974848",
    "1n": "1m", "100u": "1m", "1000u": "1m", "1001u": "2m", "0.0001": "1m", "1Ei": "1Ei", "8Ei": str(MAX_VALUE),
    "9E": "9E", "10E": str(MAX_VALUE), "1e99": str(MAX_VALUE), "1e-99": "1e-3", "1024Ki": "1Mi", "1.0000001": "1001m",
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), CANONICAL.items(), ids=CANONICAL)
def test_the_canonical_form_is_that_of_the_api_server(text: str, expected: str) -> None:
    assert canonical(text) == expected
    assert ResourceLimits.model_validate({"memory": text}).memory == expected


NONE = (
    "", "-1", "+", ".", "1e", "e3", "1 ", " 1", "1g", "m", "1ki", "1KI", "0x1", "1,5", "1e3Ki", "1Kii", "1e1.5", "++1", "1e999",
    "1e999999999", "Inf", "nan", "1_000", "\u0661",
)  # fmt: skip


@pytest.mark.parametrize("text", NONE)
def test_what_is_none_is_refused(text: str) -> None:
    assert re.match(QUANTITY, text) is None
    assert canonical(text) == text
    with pytest.raises(ValueError, match="memory"):
        ResourceLimits.model_validate({"memory": text})


FACTORS = {
    "": Fraction(1), "n": Fraction(1, 10**9), "u": Fraction(1, 10**6), "m": Fraction(1, 1000), "k": Fraction(1000),
    "M": Fraction(10**6), "G": Fraction(10**9), "T": Fraction(10**12), "P": Fraction(10**15), "E": Fraction(10**18),
    "Ki": Fraction(2**10), "Mi": Fraction(2**20), "Gi": Fraction(2**30), "Ti": Fraction(2**40), "Pi": Fraction(2**50),
    "Ei": Fraction(2**60),
}  # fmt: skip


def generated(chance: random.Random) -> tuple[str, Fraction]:
    """Return a quantity and its value."""
    whole = chance.choice([str(chance.randrange(2000)), "0" * chance.randrange(1, 3), str(chance.randrange(10**9))])
    digits = chance.choice(["", str(chance.randrange(1000)), "5", "25", "000"])
    number = whole + chance.choice(["", "."]) if not digits else f"{whole}.{digits}"
    value = Fraction(f"{number}0" if "." in number else number)
    if chance.random() < 0.2:
        exponent = chance.randrange(-6, 10)
        return f"{number}{chance.choice('eE')}{exponent:{chance.choice(['', '+'])}}", value * Fraction(10) ** exponent
    suffix = chance.choice(list(FACTORS))
    return f"{chance.choice(['', '+'])}{number}{suffix}", value * FACTORS[suffix]


def valued(text: str) -> Fraction:
    """Return the value of a canonical text."""
    found = re.fullmatch(r"([0-9]+)(e(-?[0-9]+)|[a-zA-Z]*)", text)
    assert found, f"{text} is not canonical"
    factor = Fraction(10) ** int(found[3]) if found[3] else FACTORS[found[2]]
    return int(found[1]) * factor


def test_generated_quantities_keep_their_value_and_have_one_form() -> None:
    chance = random.Random(14)
    for _ in range(5000):
        text, value = generated(chance)
        assert re.match(QUANTITY, text), text
        form = canonical(text)
        assert canonical(form) == form, text
        if value <= MAX_VALUE:
            assert value <= valued(form) < value + Fraction(1, 1000), text
        else:
            assert valued(form) == MAX_VALUE


def test_no_deployment_is_rolled_twice_for_how_a_quantity_is_written() -> None:
    chance = random.Random(15)
    for _ in range(200):
        text, _ = generated(chance)
        if len(text) > 20:
            continue
        if not valued(canonical(text)):
            continue
        limits = {"cpu": text, "memory": text, "ephemeral-storage": text}
        spec = {"resources": {"requests": {"cpu": "0", "memory": "0"}, "limits": limits}}
        wanted = deployment(skill(**spec), SETTINGS, "r", "i", replicas=None, user_namespace=True)
        stored = deepcopy(wanted)
        pod = stored["spec"]["template"]["spec"]
        limits = pod["containers"][0]["resources"]["limits"]
        limits |= {name: canonical(quantity) for name, quantity in limits.items()}
        (size,) = (volume["emptyDir"] for volume in pod["volumes"] if volume["name"] == "tmp")
        size["sizeLimit"] = canonical(size["sizeLimit"])
        assert holds(stored, wanted)


def test_the_quota_of_a_namespace_is_canonical() -> None:
    isolation = SETTINGS.isolation.model_copy(update={"namespace_cpu": "4000m", "namespace_memory": "2048Mi"})
    hard = quota(SETTINGS.model_copy(update={"isolation": isolation}), "team")["spec"]["hard"]
    assert (hard["limits.cpu"], hard["limits.memory"]) == ("4", "2Gi")
