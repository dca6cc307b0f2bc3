"""Published files: found, checked by SHA-256, and downloaded if need be.

Files are read as they were published, plain or compressed, loose or in their archive; nothing is
unpacked to disk, and nothing that lies in the data directory is ever changed.
"""

__all__ = ["Release", "read"]

import gzip
import hashlib
import tarfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .download import DownloadError, fetch


@dataclass(frozen=True)
class Release:
    """One of the forms in which the authors of a data set publish it.

    Arguments:
        title: What to call it in messages.
        sums: The files, by name, and the SHA-256 of what each holds when it is not compressed.
        folders: Where the files may lie, below the data directory; the first is where they are
            put by a download.
        addresses: Folders on the web that have the files, as `NAME.gz`, or the archive.
        archive: The name of the tar file they are published in, if they are not published as
            files; it may lie wherever they may.
    """

    title: str
    sums: Mapping[str, str]
    folders: tuple[str, ...]
    addresses: tuple[str, ...]
    archive: str | None = None


def read(
    releases: Sequence[Release], data_dir: str | Path | None, *, download: bool, verify: bool
) -> tuple[Release, dict[str, bytes]]:
    """Reads all files of the first release that lies in the data directory.

    Where files lie in several of its folders, the first are read that are the published ones.

    Arguments:
        releases: The forms that will do; a download gets the first.
        data_dir: The data directory: `data` in the working directory, by default.
        download: Whether to download what is missing.
        verify: Whether to refuse files that are not those published.  Downloads always are.

    Returns:
        The release, and what its files hold, by name.

    Raises:
        FileNotFoundError: If files are missing, and cannot be downloaded.
        ValueError: If the files there are damaged, or are not those published.
    """
    directory = Path("data" if data_dir is None else data_dir)
    found = _read_first(releases, directory, verify)
    if found is None and download:
        try:
            _download(releases[0], directory)
        except DownloadError as error:
            raise FileNotFoundError(
                f"{_how_to_get(releases, directory)} A download failed: {error}"
            ) from None
        found = _read_first(releases[:1], directory, verify)
    if found is None:
        raise FileNotFoundError(_how_to_get(releases, directory))
    return found


def _read_first(
    releases: Sequence[Release], directory: Path, verify: bool
) -> tuple[Release, dict[str, bytes]] | None:
    """Reads the first complete release there is, or None; raises if all there are are wrong."""
    wrong: ValueError | None = None
    for release in releases:
        for folder in release.folders:
            for archived in (False, True):
                place = directory / folder
                try:
                    contents = _read_place(release, place, archived=archived, verify=verify)
                except ValueError as error:
                    wrong = wrong or error
                else:
                    if contents is not None:
                        return release, contents
    if wrong is not None:
        raise wrong
    return None


def _read_place(
    release: Release, folder: Path, *, archived: bool, verify: bool
) -> dict[str, bytes] | None:
    """Reads all files of a release from a folder, loose or archived, if they are there."""
    if archived:
        path = folder / release.archive if release.archive else None
        return _read_archive(path, release, verify) if path and path.is_file() else None
    paths = {name: path for name in release.sums if (path := _find(folder, name))}
    if len(paths) < len(release.sums):
        return None
    return {
        name: _read_file(path, release.sums[name] if verify else None)
        for name, path in paths.items()
    }


def _find(folder: Path, name: str) -> Path | None:
    """Finds a file under one of its usual names."""
    for usual in (name, name.replace("-idx", ".idx")):
        for path in (folder / usual, folder / f"{usual}.gz"):
            if path.is_file():
                return path
    return None


def _read_file(path: Path, sha256: str | None) -> bytes:
    """Reads a file, plain or .gz.

    Raises:
        ValueError: If it cannot be uncompressed, or its SHA-256 is not the one given.
    """
    content = path.read_bytes()
    if path.suffix == ".gz":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"'{path}' is damaged: {error}. {_REMEDY}") from None
    _check(content, sha256, f"'{path}'")
    return content


def _read_archive(path: Path, release: Release, verify: bool) -> dict[str, bytes]:
    """Reads the files of a release from a tar file, in one pass.

    Raises:
        ValueError: If it is damaged, lacks one, or one has another SHA-256.
    """
    contents: dict[str, bytes] = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = member.name.rpartition("/")[2]
                file = archive.extractfile(member) if name in release.sums else None
                if file is not None:
                    contents[name] = file.read()
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise ValueError(f"'{path}' is damaged: {error}. {_REMEDY}") from None
    for name, sha256 in release.sums.items():
        if name not in contents:
            raise ValueError(f"'{path}' should hold '{name}', and does not. {_REMEDY}")
        _check(contents[name], sha256 if verify else None, f"'{name}' in '{path}'")
    return contents


_REMEDY = "Remove it, so that it can be downloaded, or replace it."


def _check(content: bytes, sha256: str | None, what: str) -> None:
    actual = hashlib.sha256(content).hexdigest()
    if sha256 is not None and actual != sha256:
        raise ValueError(
            f"{what} is not the file that its authors published: its content should have SHA-256 "
            f"{sha256}, got {actual}. {_REMEDY} 'verify=False' reads it as it is."
        )


def _download(release: Release, directory: Path) -> None:
    """Downloads what is missing of a release.

    Raises:
        DownloadError: If it cannot.
    """
    folder = directory / release.folders[0]
    if release.archive is not None:
        fetch(
            [address + release.archive for address in release.addresses],
            folder / release.archive,
            lambda path: _read_archive(path, release, verify=True),
        )
        return
    for name, sha256 in release.sums.items():
        if _find(folder, name) is None:
            fetch(
                [f"{address}{name}.gz" for address in release.addresses],
                folder / f"{name}.gz",
                lambda path, sha256=sha256: _read_file(path, sha256),
            )


def _how_to_get(releases: Sequence[Release], directory: Path) -> str:
    """Says which files are missing, and where to put them."""
    first = releases[0]
    ways = []
    for release in releases:
        if release.archive is None:
            ways.append(f"{', '.join(release.sums)}, plain or with .gz,")
        else:
            ways.append(f"{release.archive}, or the folder that is in it,")
    return (
        f"Not all of {first.title} is in '{directory}': put {' or '.join(ways)} into "
        f"'{directory / first.folders[0]}', from {' or '.join(first.addresses)}, or name the directory "
        "where they are: --data-dir DIR, data.dir in a config."
    )
