"""A bill of materials of an archive, in the two forms that scanners read: CycloneDX and SPDX."""

from __future__ import annotations

import json
import os
import re
import uuid
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from cyclonedx import spdx as licences
from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion

import packer
from packer import files, inspect, moment, parts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from packer.cache import Cache
    from packer.parts import Part

FORMATS = ("cyclonedx", "spdx")

_VERSION = SchemaVersion.V1_6
_TYPES = {
    "distribution": ComponentType.LIBRARY, "library": ComponentType.LIBRARY,
    "interpreter": ComponentType.PLATFORM, "launcher": ComponentType.APPLICATION,
}  # fmt: skip
_NOT_KNOWN = "NOASSERTION"


def make(path: Path, form: str, cache: Cache | None = None) -> str:
    """Write down what is in an archive; the same archive gives the same but for the date.

    :param form: one of :data:`FORMATS`.
    :raises PackError: if it cannot be read.
    """
    described = inspect.describe(path)
    found = parts.of_archive(path, cache)
    when = _when(described["manifest"])
    digest = files.sha256(path).hex()
    return (_cyclonedx if form == "cyclonedx" else _spdx)(described, found, when, digest)


def _when(manifest: Mapping[str, Any]) -> datetime:
    """Both forms want a date: the one that this run was told, or that packing was, else now."""
    told = moment.epoch()
    packed = manifest.get("source_date_epoch")
    if told is None and isinstance(packed, int):
        told = packed
    return datetime.fromtimestamp(told, timezone.utc) if told is not None else datetime.now(timezone.utc)


def _name(described: Mapping[str, Any]) -> str:
    return str(described["tools"][0]["name"]) if described["tools"] else os.path.basename(described["file"])


def _stated(described: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Give what is known of the archive as a whole."""
    said = [("archive", described["id"]), *((f"slice {n}", one["name"]) for n, one in enumerate(described["slices"]))]
    return said + [
        (key, text) for key, _, text in (line.partition(": ") for line in moment.lines(described["manifest"]))
    ]


# CycloneDX --------------------------------------------------------------------------------------------------------


def _cyclonedx(described: Mapping[str, Any], found: Sequence[Part], when: datetime, digest: str) -> str:
    root = Component(
        name=_name(described), type=ComponentType.APPLICATION, bom_ref="archive", hashes=[_hash(digest)],
        properties=[Property(name=f"fatpar:{key}", value=text) for key, text in _stated(described)],
    )  # fmt: skip
    tool = Component(name="packer", group="fatpar", version=packer.__version__, type=ComponentType.APPLICATION)
    metadata = BomMetaData(component=root, timestamp=when)
    metadata.tools.components.add(tool)
    made = {one.key: _component(one) for one in found}
    bom = Bom(
        components=made.values(), metadata=metadata,
        serial_number=uuid.uuid5(uuid.NAMESPACE_URL, f"fatpar:{described['id']}"),
    )  # fmt: skip
    bom.register_dependency(root, [made[one.key] for one in found if not one.within])
    for one in found:
        bom.register_dependency(made[one.key], [made[other.key] for other in found if other.within == one.key])
    return f"{make_outputter(bom, OutputFormat.JSON, _VERSION).output_as_string(indent=2)}\n"


def _component(one: Part) -> Component:
    said = {"kind": one.kind, **one.facts} | ({"slices": ", ".join(one.slices)} if one.slices else {})
    return Component(
        name=one.name, version=one.version or None, type=_TYPES[one.kind], bom_ref=one.key, purl=one.purl,
        hashes=[_hash(one.sha256)] if one.sha256 else [],
        licenses=[LicenseFactory().make_from_string(one.licence)] if one.licence else [],
        properties=[Property(name=f"fatpar:{key}", value=_shown(text)) for key, text in said.items()],
    )  # fmt: skip


def _hash(digest: str) -> HashType:
    return HashType(alg=HashAlgorithm.SHA_256, content=digest)


def _shown(text: str) -> str:
    """Names of files need not be text."""
    return text.encode("utf-8", "backslashreplace").decode()


# SPDX -------------------------------------------------------------------------------------------------------------


def _spdx(described: Mapping[str, Any], found: Sequence[Part], when: datetime, digest: str) -> str:
    root = "SPDXRef-archive"
    whole = _package(root, _name(described), "", digest, "", purpose="APPLICATION", said=_stated(described))
    return json.dumps({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": _name(described),
        "documentNamespace": f"https://spdx.org/spdxdocs/fatpar-{described['id']}",
        "creationInfo": {
            "created": when.strftime("%Y-%m-%dT%H:%M:%SZ"), "creators": [f"Tool: fatpar-{packer.__version__}"],
        },
        "packages": [whole, *map(_of_part, found)],
        "relationships": [
            _relation("SPDXRef-DOCUMENT", "DESCRIBES", root),
            *(_relation(_id(one.within) if one.within else root, "CONTAINS", _id(one.key)) for one in found),
        ],
    }, indent=2) + "\n"  # fmt: skip


def _of_part(one: Part) -> dict[str, Any]:
    said = [*one.facts.items(), *([("slices", ", ".join(one.slices))] if one.slices else [])]
    purpose = {"launcher": "APPLICATION", "interpreter": "APPLICATION"}.get(one.kind, "LIBRARY")
    made = _package(_id(one.key), one.name, one.version, one.sha256, one.licence, purpose=purpose, said=said)
    reference = {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl"}
    return made | ({"externalRefs": [reference | {"referenceLocator": one.purl.to_string()}]} if one.purl else {})


def _package(
    identity: str, name: str, version: str, digest: str, licence: str, *, purpose: str,
    said: Iterable[tuple[str, str]],
) -> dict[str, Any]:  # fmt: skip
    words = licences.fixup_id(licence) or (licence if licences.is_expression(licence) else "")
    made: dict[str, Any] = {"SPDXID": identity, "name": name}
    made |= {"versionInfo": version} if version else {}
    made |= {"downloadLocation": _NOT_KNOWN, "filesAnalyzed": False, "primaryPackagePurpose": purpose}
    made |= {"checksums": [{"algorithm": "SHA256", "checksumValue": digest}]} if digest else {}
    made |= {"licenseConcluded": _NOT_KNOWN, "licenseDeclared": words or _NOT_KNOWN, "copyrightText": _NOT_KNOWN}
    made |= {"licenseComments": licence} if licence and not words else {}
    return made | {"comment": "\n".join(f"{key}: {_shown(text)}" for key, text in said)}


def _id(key: str) -> str:
    """Write a key with the letters that are allowed; digests in it tell keys apart."""
    return f"SPDXRef-{re.sub('[^A-Za-z0-9.-]', '-', key)}"


def _relation(one: str, how: str, other: str) -> dict[str, str]:
    return {"spdxElementId": one, "relationshipType": how, "relatedSpdxElement": other}
