"""Published files are found, checked and downloaded; others are refused."""

import re

import pytest

from lipnets.data.files import read

FILES = {"a-idx3-ubyte": b"some bytes" * 50, "b-idx1-ubyte": bytes(range(256))}


@pytest.mark.parametrize("form", ["plain", "gz", "tiny.tar.gz"])
@pytest.mark.parametrize("folder", ["", "tiny", "TINY/raw"])
def test_files_are_read_loose_or_compressed_or_archived(
    tmp_path, lay, release, form, folder
) -> None:
    published = release(FILES, folders=(".", "tiny", "TINY/raw"), archive="tiny.tar.gz")
    lay(tmp_path / folder, FILES, form)
    found, contents = read([published], tmp_path, download=False, verify=True)
    assert found is published
    assert contents == FILES


def test_names_with_a_dot_are_known_too(tmp_path, lay, release) -> None:
    lay(tmp_path, {"a.idx3-ubyte": FILES["a-idx3-ubyte"], "b-idx1-ubyte": FILES["b-idx1-ubyte"]})
    _, contents = read([release(FILES)], tmp_path, download=False, verify=True)
    assert contents == FILES


def test_a_complete_second_form_is_read_where_the_first_is_not_complete(
    tmp_path, lay, release
) -> None:
    first, second = release({"x": b"1", "y": b"2"}), release(FILES)
    lay(tmp_path, {"x": b"1"} | FILES)
    found, contents = read([first, second], tmp_path, download=False, verify=True)
    assert found is second
    assert contents == FILES


def test_the_published_files_are_read_where_others_have_their_names(tmp_path, lay, release) -> None:
    lay(tmp_path, dict.fromkeys(FILES, b"another data set"))
    lay(tmp_path / "tiny", FILES)
    published = release(FILES, folders=(".", "tiny"))
    _, contents = read([published], tmp_path, download=False, verify=True)
    assert contents == FILES


def test_what_is_there_is_not_downloaded_again(tmp_path, lay, release) -> None:
    lay(tmp_path / "data", {"a-idx3-ubyte": FILES["a-idx3-ubyte"]})
    lay(tmp_path / "web", {"b-idx1-ubyte": FILES["b-idx1-ubyte"]}, "gz")
    published = release(FILES, addresses=((tmp_path / "web").as_uri() + "/",))
    _, contents = read([published], tmp_path / "data", download=True, verify=True)
    assert contents == FILES


def test_a_folder_with_some_of_the_names_is_passed_over(tmp_path, lay, release) -> None:
    lay(tmp_path, {"a-idx3-ubyte": b"another data set"})
    with pytest.raises(FileNotFoundError, match="Not all of Tiny is in"):
        read([release(FILES)], tmp_path, download=False, verify=True)


@pytest.mark.parametrize("form", ["plain", "gz", "tiny.tar.gz"])
def test_other_content_is_refused_unless_told(tmp_path, lay, release, form) -> None:
    published = release(FILES, archive="tiny.tar.gz")
    other = FILES | {"b-idx1-ubyte": b"other"}
    lay(tmp_path, other, form)
    with pytest.raises(ValueError, match=r"b-idx1-ubyte.*should have SHA-256 .*verify=False"):
        read([published], tmp_path, download=True, verify=True)
    _, contents = read([published], tmp_path, download=False, verify=False)
    assert contents == other


@pytest.mark.parametrize("form", ["gz", "tiny.tar.gz"])
@pytest.mark.parametrize("verify", [True, False])
def test_files_cut_short_are_refused_in_a_sentence(tmp_path, lay, release, form, verify) -> None:
    lay(tmp_path, FILES, form)
    for path in tmp_path.iterdir():
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"(is damaged: |should hold ).*Remove it"):
        read([release(FILES, archive="tiny.tar.gz")], tmp_path, download=False, verify=verify)


def test_an_archive_that_lacks_a_file_is_refused(tmp_path, lay, release) -> None:
    lay(tmp_path, {"a-idx3-ubyte": FILES["a-idx3-ubyte"]}, "tiny.tar.gz")
    with pytest.raises(ValueError, match="should hold 'b-idx1-ubyte'"):
        read([release(FILES, archive="tiny.tar.gz")], tmp_path, download=False, verify=True)


def test_missing_files_are_named_with_where_to_put_them(tmp_path, release) -> None:
    published = release(FILES, folders=("tiny", "."), addresses=("https://host.invalid/tiny/",))
    with pytest.raises(FileNotFoundError) as caught:
        read([published], tmp_path, download=False, verify=True)
    for part in (*FILES, str(tmp_path / "tiny"), "https://host.invalid/tiny/"):
        assert part in str(caught.value)


@pytest.mark.parametrize("archive", [None, "tiny.tar.gz"])
def test_missing_files_are_downloaded_once_and_nothing_else_is_left(
    tmp_path, lay, release, archive
) -> None:
    lay(tmp_path / "web", FILES, archive or "gz")
    addresses = ((tmp_path / "nowhere").as_uri() + "/", (tmp_path / "web").as_uri() + "/")
    published = release(FILES, folders=("tiny",), addresses=addresses, archive=archive)
    for download in (True, False):
        _, contents = read([published], tmp_path / "data", download=download, verify=True)
        assert contents == FILES
    left = sorted(path.name for path in (tmp_path / "data" / "tiny").iterdir())
    assert left == ([archive] if archive else sorted(f"{name}.gz" for name in FILES))


@pytest.mark.parametrize("archive", [None, "tiny.tar.gz"])
@pytest.mark.parametrize("verify", [True, False])
def test_downloads_of_other_content_are_refused_and_not_kept(
    tmp_path, lay, release, archive, verify
) -> None:
    lay(tmp_path / "web", FILES | {"a-idx3-ubyte": b"a page that says: moved"}, archive or "gz")
    address = (tmp_path / "web").as_uri() + "/"
    published = release(FILES, addresses=(address,), archive=archive)
    message = re.compile(f"A download failed: {address}.*SHA-256")
    with pytest.raises(FileNotFoundError, match=message):
        read([published], tmp_path / "data", download=True, verify=verify)
    assert list((tmp_path / "data").iterdir()) == []


def test_a_failed_download_makes_no_folder(tmp_path, release) -> None:
    published = release(FILES, addresses=((tmp_path / "nowhere").as_uri() + "/",))
    with pytest.raises(FileNotFoundError, match="A download failed"):
        read([published], tmp_path / "data", download=True, verify=True)
    assert not (tmp_path / "data").exists()
