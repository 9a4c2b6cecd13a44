"""A lake in a bucket, read without our own code: its objects become files of this machine."""

from pathlib import Path

from fault_harness.bucket import Bucket
from fault_harness.rawlake import RawLake


class Mirror:
    """A folder with objects of a lake's data path. An object never changes; one of a failed transaction is deleted."""

    def __init__(self, bucket: Bucket, folder: Path) -> None:
        self.bucket, self.folder = bucket, folder
        folder.mkdir(parents=True, exist_ok=True)

    def lake(self, catalog: str) -> RawLake:
        """The lake of ``catalog``."""
        return _Mirrored(catalog, self)

    def get(self, local: Path) -> None:
        """Get the object of a file, unless it is here or deleted by now."""
        if local.exists():
            return
        body = self.bucket.find(f"{self.bucket.data_path}/{local.relative_to(self.folder)}")
        if body is not None:
            local.parent.mkdir(parents=True, exist_ok=True)
            local.write_bytes(body)

    def equal(self) -> None:
        """Get every object there is, and remove the files of those that were deleted."""
        there = {self.folder / path.removeprefix(f"{self.bucket.data_path}/") for path in self.bucket.objects()}
        for local in there:
            self.get(local)
        for local in set(self.folder.rglob("*.parquet")) - there:
            local.unlink()


class _Mirrored(RawLake):
    def __init__(self, catalog: str, mirror: Mirror) -> None:
        super().__init__(catalog, mirror.folder)
        self._mirror = mirror

    def all_files(self) -> dict[str, list[Path]]:
        """Those of the catalog, each fetched after the catalog was asked for it."""
        found = super().all_files()
        for files in found.values():
            for file in files:
                self._mirror.get(file)
        return found

    def orphans(self) -> list[Path]:
        self._mirror.equal()
        return super().orphans()
