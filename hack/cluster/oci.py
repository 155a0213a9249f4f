"""Write OCI image archives of one layer, with the same bytes for the same content."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hack.cluster import records

_ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


@dataclass(frozen=True)
class Image:
    """Image is an image's name, its files and its configuration."""

    name: str
    config: dict[str, Any]
    programs: dict[str, Path] = field(default_factory=dict)
    """Executables: where in the image, from which file."""
    files: dict[str, bytes] = field(default_factory=dict)
    folders: dict[str, int] = field(default_factory=dict)
    """Folders and their modes."""

    def archive(self, cache: Path) -> Path:
        """Return the archive, which is made once for the same content."""
        described = (self.name, self.config, {k: v.name for k, v in self.programs.items()}, self.folders)
        key = hashlib.sha256(repr((1, described, sorted(self.files.items()))).encode()).hexdigest()[:16]
        stem = self.name.rpartition("/")[2].replace(":", "-")
        target = cache / f"{stem}-{key}.tar"
        with records.locked(cache):
            if not target.exists():
                draft = target.with_suffix(".draft")
                self._write(draft)
                draft.rename(target)
        return target

    def _write(self, target: Path) -> None:
        layer_file = target.with_suffix(".layer")
        self._write_layer(layer_file)
        layer = _describe("layer.v1.tar", layer_file.read_bytes())
        config = _encode(
            {
                "architecture": _ARCHITECTURE,
                "os": "linux",
                "config": self.config,
                "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
            }
        )
        manifest = _encode(
            {
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": _describe("config.v1+json", config),
                "layers": [layer],
            }
        )
        names = {"io.containerd.image.name": self.name, "org.opencontainers.image.ref.name": self.name}
        index = {"schemaVersion": 2, "manifests": [{**_describe("manifest.v1+json", manifest), "annotations": names}]}
        with tarfile.open(target, "w") as tar:
            _add(tar, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
            _add(tar, "index.json", _encode(index))
            for blob in (config, manifest, layer_file.read_bytes()):
                _add(tar, f"blobs/sha256/{hashlib.sha256(blob).hexdigest()}", blob)
        layer_file.unlink()

    def _write_layer(self, target: Path) -> None:
        parents = {
            str(parent) for path in (*self.programs, *self.files, *self.folders) for parent in Path(path).parents
        }
        folders = {**dict.fromkeys(parents - {"."}, 0o755), **self.folders}
        with tarfile.open(target, "w") as tar:
            for name, mode in sorted(folders.items()):
                entry = tarfile.TarInfo(name)
                entry.type, entry.mode = tarfile.DIRTYPE, mode
                tar.addfile(entry)
            for name, content in sorted(self.files.items()):
                _add(tar, name, content)
            for name, program in sorted(self.programs.items()):
                _add(tar, name, program.read_bytes(), mode=0o755)


def _add(tar: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    tar.addfile(entry, io.BytesIO(content))


def _describe(kind: str, content: bytes) -> dict[str, Any]:
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": digest, "size": len(content)}


def _encode(document: dict[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True).encode()
