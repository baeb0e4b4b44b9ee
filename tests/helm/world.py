"""What the tests of a standing platform add to the example centre: run beside its hub, `python - < world.py`.

A project whose members are the people with accounts, profiles that a small machine has room for, and a pool of real
devices of two kinds: behind the extended resources that are given, and as many, as in `example.org/gpu=8`.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from typing import Any

from quotas.domain.people import MembershipRole
from quotas.domain.pools import CapacityPhase
from quotas.domain.profiles import Profile
from quotas.domain.projects import Award, ProjectKind
from quotas.domain.rates import Rate, RateRule
from quotas.domain.units import DAY_SECONDS, PPM
from quotas.home import from_environment
from quotas.services import pools, profiles, projects, rates
from quotas.services.example_centre import OPERATOR
from quotas.store import rates as rates_store
from quotas.store.database import Database

MIB = 2**20
PROJECT, PI = "standing", "pi"
MEMBERS = ("member", "instructor", *(f"learner{number}" for number in range(1, 9)))
SMALL, BATCH, DEVICE, RARE = "tiny", "tiny-batch", "tiny-device", "tiny-rare"
GFLOPS = {SMALL: 100, BATCH: 200, DEVICE: 1_000, RARE: 1_000}
POOL = "machines"
MODELS = {DEVICE: "l40s", RARE: "a6000"}
"""No other pool has these models."""


def build(database: Database, now: int, resources: dict[str, tuple[str, int]]) -> None:
    """The project can start servers and runs of each of the profiles."""
    by: dict[str, Any] = {"actor": OPERATOR, "now": now}
    small = Profile(SMALL, "아주 작은", "Tiny", "scientific", 100, 512 * MIB, 2**30)
    batch = replace(small, code=BATCH, name_ko="배치용", name_en="Tiny, for batch", cpu_millis=200)
    named = {DEVICE: ("장치 1대", "One device"), RARE: ("드문 장치 1대", "One rare device")}
    devices = [
        replace(
            small,
            code=code,
            name_ko=korean,
            name_en=english,
            device_model=MODELS[code],
            device_count=1,
            backend_terms={"kubernetes": {"resource": resources[code][0]}},
        )
        for code, (korean, english) in named.items()
    ]
    for position, profile in enumerate((small, batch, *devices), start=20):
        profiles.add_profile(database, profile, position, **by)
    with database.read() as transaction:
        card = rates_store.cards(transaction)[-1]
    own = (Rate(code, gflops, RateRule.ASSIGNED, "a figure for tests", PI) for code, gflops in GFLOPS.items())
    card = replace(card, version=card.version + 1, effective_from=now, rates=(*card.rates, *own))
    rates.publish(database, card, **by)
    pools.add_pool(database, POOL, "장비", "Machines", simulated=False, **by)
    for code, model in MODELS.items():
        pools.add_phase(database, POOL, CapacityPhase(model, now, *(resources[code][1],) * 3), **by)
    _add_project(database, now)


def _add_project(database: Database, now: int) -> None:
    starts_at, ends_at = now - DAY_SECONDS, now + 29 * DAY_SECONDS
    title = "상시 운영", "A platform that stands"
    asked = projects.Application(PROJECT, *title, ProjectKind.RESEARCH, "saebyeok", 100_000, "fp32", starts_at, ends_at)
    projects.apply(database, asked, actor=PI, now=now)
    for username in MEMBERS:
        projects.add_member(database, PROJECT, username, MembershipRole.MEMBER, actor=PI, now=now)
    projects.approve(
        database,
        PROJECT,
        Award(100_000, "fp32", starts_at, ends_at),
        profiles=tuple(GFLOPS),
        actor=OPERATOR,
        now=now,
        reference_precision="fp32",
        oversubscription_limit_ppm=10 * PPM,
    )


if __name__ == "__main__":
    given = (word.partition("=") for word in sys.argv[1:3])
    found = {code: (name, int(count)) for code, (name, _, count) in zip(MODELS, given, strict=True)}
    build(from_environment().database(), int(time.time()), found)
