"""What an API server of each version takes, by the schema that its makers have published; no cluster is needed.

The schemas are those of the package kubernetes-validate, in their strict form: a field that the version does not know
is a fault. They are read once each, where the package itself reads them for every object.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Hashable, Iterator
from importlib.resources import files
from typing import Any

import jsonschema
import yaml
from kubernetes_validate.utils import all_versions
from packaging.version import Version
from referencing import Registry, Resource

OLDEST = Version("1.30")
VERSIONS = sorted({each for each in all_versions() if Version(each) >= OLDEST}, key=Version)
FOLDER = files("kubernetes_validate") / "kubernetes-json-schema"


def faults(version: str, given: dict[str, Any]) -> list[str]:
    """Return what an API server of this version would not take of the object, each with its place."""
    try:
        validator = _validator(version, given["apiVersion"], given["kind"])
    except FileNotFoundError:
        return [f"{version} has no {given['kind']} of {given['apiVersion']}"]
    return [f"{each.json_path}: {each.message:.300}" for each in validator.iter_errors(given)]


@functools.cache
def _validator(version: str, api_version: str, kind: str) -> jsonschema.Draft202012Validator:
    # `rbac.authorization.k8s.io/v1` is `rbac-v1` in the name of the file.
    group = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", api_version)
    schema = json.loads((FOLDER / f"v{version}-local-strict" / f"{kind.lower()}-{group}.json").read_text())
    return jsonschema.Draft202012Validator(schema, registry=_definitions(version).with_contents([("", schema)]))


@functools.cache
def _definitions(version: str) -> Any:
    contents = json.loads((FOLDER / f"v{version}-local-strict" / "_definitions.json").read_text())
    return Resource.from_contents(contents) @ Registry()


class _Strict(yaml.CSafeLoader):
    """Refuses a key that stands twice in a mapping, as the API server's strict decoder does."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = {each for each in keys if keys.count(each) > 1}
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"{sorted(map(str, twice))} twice", node.start_mark)
        return super().construct_mapping(node, deep)


def objects(text: str) -> Iterator[dict[str, Any]]:
    """Yield the objects of a rendered chart. Raises yaml.YAMLError for a key that stands twice."""
    for each in yaml.load_all(text, _Strict):
        if each is not None:
            yield each
