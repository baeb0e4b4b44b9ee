"""``python -m helm.schema``: writes the chart's schema and docs/kubernetes/values.md, from its values and the settings.

The schema's form is that of values.yaml, closed to any key that is not in it; the block `settings` is that of
`quotas/settings.py`. What a default cannot tell, such as the words that a value may be, is in the tables here. With
``--check`` nothing is written, and what is out of date is named.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

import yaml

from quotas.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "helm" / "mudeung"
VALUES = CHART / "values.yaml"
SCHEMA = CHART / "values.schema.json"
PAGE = ROOT / "docs" / "kubernetes" / "values.md"

CHARTS_OWN = frozenset(
    {
        "host",
        "port",
        "backend",
        "database_url",
        "evaluation",
        "kubernetes_namespace",
        "kubernetes_files_claim",
        "kubernetes_queue",
        "kubernetes_cluster_queue",
        "kubernetes_reachable_cidrs",
        "kubernetes_unreachable_cidrs",
        "kubernetes_internet",
        "kubernetes_priority_classes",
        "oidc_ca",
    }
)
"""Settings that follow from other values."""
TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
OPEN = {
    "annotations": TEXTS,
    "labels": TEXTS,
    "nodeSelector": TEXTS,
    "extraEnv": {"type": "object", "additionalProperties": {"type": ["string", "object"]}},
    "resources": {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            each: {"type": "object", "additionalProperties": {"type": ["string", "number"]}}
            for each in ("requests", "limits")
        },
    },
    "extraImages": {
        "type": "object",
        "additionalProperties": {
            "type": "object",
            "additionalProperties": False,
            "required": ["name", "tag"],
            "properties": {
                "name": {"type": "string"},
                "tag": {"type": "string"},
                "pullPolicy": {"enum": ["Always", "IfNotPresent", "Never"]},
            },
        },
    },
    "flavors": {
        "type": "object",
        "additionalProperties": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "nodeLabels": TEXTS,
                "nodeTaints": {"type": "array", "items": {"type": "object"}},
                "tolerations": {"type": "array", "items": {"type": "object"}},
                "topologyName": {"type": "string"},
            },
        },
    },
    "topologies": {
        "type": "object",
        "additionalProperties": {"type": "array", "minItems": 1, "items": {"type": "string"}},
    },
}
"""Keys, wherever they stand, whose own keys are the cluster's or the user's to choose."""
LISTS = {
    "imagePullSecrets": {"type": "object", "required": ["name"], "additionalProperties": False}
    | {"properties": {"name": {"type": "string"}}},
    "tolerations": {"type": "object"},
    "tls": {"type": "object", "additionalProperties": False}
    | {"properties": {"hosts": {"type": "array", "items": {"type": "string"}}, "secretName": {"type": "string"}}},
    "ports": {"type": "integer", "minimum": 1, "maximum": 65535},
    "proxyFrom": {"type": "object"},
    "extraVolumes": {"type": "object"},
    "extraVolumeMounts": {"type": "object"},
    "resourceGroups": {
        "type": "object",
        "additionalProperties": False,
        "required": ["coveredResources", "flavors"],
        "properties": {
            "coveredResources": {"type": "array", "minItems": 1, "items": {"type": "string"}},
            "flavors": {"type": "array", "minItems": 1, "items": {"$ref": "#/definitions/flavorQuotas"}},
        },
    },
}
"""What the entries of a list are, where they are not texts."""
WORDS = {
    "pullPolicy": {"enum": ["Always", "IfNotPresent", "Never"]},
    "pathType": {"enum": ["Prefix", "Exact", "ImplementationSpecific"]},
    "accessMode": {"enum": ["ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"]},
    "type": {"enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
    "nodePort": {"type": ["integer", "null"], "minimum": 1, "maximum": 65535},
    "port": {"type": "integer", "minimum": 1, "maximum": 65535},
    "queueingStrategy": {"enum": ["StrictFIFO", "BestEffortFIFO"]},
    "minAvailable": {"type": ["integer", "string"]},
    "intervalSeconds": {"type": "integer", "minimum": 1, "maximum": 300},
    "guaranteedPriority": {"type": "integer", "minimum": -(10**9), "maximum": 10**9},
    "borrowedPriority": {"type": "integer", "minimum": -(10**9), "maximum": 10**9},
}
"""What a default does not tell of a value, by its key."""

QUANTITY = {"type": ["string", "number"]}
FLAVOR_QUOTAS = {
    "type": "object",
    "additionalProperties": False,
    "required": ["name", "resources"],
    "properties": {
        "name": {"type": "string"},
        "resources": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["name", "nominalQuota"],
                "properties": {"name": {"type": "string"}}
                | dict.fromkeys(("nominalQuota", "borrowingLimit", "lendingLimit"), QUANTITY),
            },
        },
    },
}
"""How much of one kind of machine there is, in the words of Kueue."""

SIMPLE: dict[type, dict[str, Any]] = {
    bool: {"type": "boolean"},
    int: {"type": "integer", "minimum": 0},
    str: {"type": "string"},
}


def settings_schema() -> dict[str, Any]:
    """Return the schema of the block `settings`, without what the chart sets itself."""
    made = Settings.model_json_schema()
    properties = {
        name: _without_default_title(each, made.get("$defs", {}))
        for name, each in made["properties"].items()
        if name not in CHARTS_OWN
    }
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _without_default_title(field: dict[str, Any], defined: dict[str, Any]) -> dict[str, Any]:
    """Return the field with what it refers to in its place."""
    name = str(field.get("$ref", "")).rpartition("/")[2]
    whole = {**defined.get(name, {}), **field}
    return {key: each for key, each in whole.items() if key not in ("$ref", "title")}


def of(key: str, default: Any) -> dict[str, Any]:
    """Return the schema of the value `key` that has this default."""
    if key in OPEN:
        return OPEN[key]
    if key in WORDS:
        return WORDS[key]
    if isinstance(default, dict):
        properties = {name: of(name, each) for name, each in default.items()}
        return {"type": "object", "additionalProperties": False, "properties": properties}
    if isinstance(default, list):
        return {"type": "array", "items": LISTS.get(key, {"type": "string"})}
    if type(default) in SIMPLE:
        return SIMPLE[type(default)]
    raise TypeError(f"{key}: a value of {default!r} needs a row in WORDS")


def schema() -> str:
    """Return values.schema.json."""
    values = yaml.safe_load(VALUES.read_text(encoding="utf-8"))
    properties = {name: settings_schema() if name == "settings" else of(name, each) for name, each in values.items()}
    # Helm puts it into every chart's values.
    properties["global"] = {"type": "object"}
    whole = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of the chart mudeung",
        "description": "Made by `python -m helm.schema` from values.yaml and quotas/settings.py.",
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
        "definitions": {"flavorQuotas": FLAVOR_QUOTAS},
    }
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


def page() -> str:
    """Return the page of all values: name, default and the comment that stands above it in values.yaml."""
    rows = [f"| `{name}` | {default} | {text} |" for name, default, text in _commented()]
    return "\n".join(
        [
            "# Values of the chart",
            "",
            "Made by `python -m helm.schema` from `helm/mudeung/values.yaml`. The keys of `settings` are those of",
            "[the settings](../reference/settings.md) but for",
            ", ".join(f"`{each}`" for each in sorted(CHARTS_OWN)) + ",",
            "which follow from other values. A key that is not listed is refused.",
            "",
            "| value | default | meaning |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


def _commented() -> list[tuple[str, str, str]]:
    """Return each value that has a default or a comment: its path, its default and the comment."""
    found: list[tuple[str, str, str]] = []
    path: list[str] = []
    comment: list[str] = []
    for line in VALUES.read_text(encoding="utf-8").splitlines():
        text = line.strip()
        if not text:
            comment = []
        elif text.startswith("#"):
            comment.append(text.lstrip("# "))
        elif match := re.match(r"( *)([\w.-]+):(?: +(.*))?$", line):
            depth = len(match[1]) // 2
            path = [*path[:depth], match[2]]
            if match[3] or comment:
                default = f"`{match[3]}`" if match[3] else ""
                found.append((".".join(path), default, " ".join(comment)))
            comment = []
    return found


MADE = {SCHEMA: schema, PAGE: page}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m helm.schema", description=__doc__.split("\n\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file is out of date")
    if parser.parse_args().check:
        stale = [path for path, make in MADE.items() if not path.exists() or path.read_text(encoding="utf-8") != make()]
        for path in stale:
            print(f"{path.relative_to(ROOT)} is out of date; run python -m helm.schema")
        return 1 if stale else 0
    for path, make in MADE.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(make(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
