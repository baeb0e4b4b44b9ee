"""What the tests of the terms of Kubernetes are about: a person's launch, and the platform's place in the cluster."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from quotas.domain.launch import Launch
from quotas.domain.profiles import Profile
from quotas.domain.runs import RunKind
from quotas.domain.terms_kubernetes import Site

RUN = "019aa0c5-6c00-7000-8000-000000000001"
CPU = Profile("cpu-small", "CPU 소형", "Small CPU", "mudeung/notebook:1", 1500, 2 * 2**30, 10 * 2**30)
GPU = replace(CPU, code="h100-2", device_model="h100", device_count=2)
SITE = Site("mudeung")


def launch_of(profile: Profile = CPU, **changes: Any) -> Launch:
    launch = Launch(RUN, RunKind.NOTEBOOK, "kim", "vision", profile, (), "/srv/home/projects/vision", {"LANG": "C"})
    return replace(launch, **changes)
