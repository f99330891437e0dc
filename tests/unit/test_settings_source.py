"""YAML as the configuration takes it: files and folders, duplicates, aliases, and no guessed types."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from gateway.settings import ConfigInvalid, Settings, load, loads
from tests.unit.test_settings_faults import HASH, VALID, added, changed, faults


def split(folder: Path, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder


def messages(path: Path) -> list[str]:
    with pytest.raises(ConfigInvalid) as caught:
        load(path, {})
    return [str(fault).removeprefix(f"{path}/") for fault in caught.value.faults]


def test_a_folder_is_the_same_as_one_file(tmp_path: Path) -> None:
    head, tail = VALID.split("aliases:")
    folder = split(tmp_path / "folder", a=head, b=f"aliases:{tail}", c="# nothing yet\n")
    (folder / "d.yml").write_text("storage:\n")
    (folder / ".hidden.yaml").write_text("{{{")
    (folder / "notes.txt").write_text("{{{")
    (tmp_path / "one.yaml").write_text(VALID)
    assert load(folder, {}) == load(tmp_path / "one.yaml", {})


def test_a_key_in_two_files(tmp_path: Path) -> None:
    folder = split(tmp_path, a=VALID, b="# prices\nprices: {}\n")
    assert messages(folder) == ["b.yaml:2: prices: is already in " + str(folder / "a.yaml") + ":20"]


def test_a_broken_file_does_not_hide_the_faults_of_another(tmp_path: Path) -> None:
    head, tail = VALID.split("aliases:")
    folder = split(tmp_path, a=head.replace("8080", "x"), b=f"aliases:{tail}: : :")
    found = messages(folder)
    assert found[0].startswith("a.yaml:2: server.port:")
    assert found[1].startswith("b.yaml:13: is not valid YAML: ")
    assert len(found) == 2, found


def test_an_empty_file_is_refused_as_it_may_be_half_written(tmp_path: Path) -> None:
    folder = split(tmp_path, a=VALID, b="")
    assert messages(folder) == ["b.yaml:1: is empty; write the configuration into it, or remove it"]


def test_a_folder_named_like_a_file(tmp_path: Path) -> None:
    folder = split(tmp_path, a=VALID)
    (folder / "b.yaml").mkdir()
    assert messages(folder) == ["b.yaml:1: cannot be read: Is a directory"]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a: [", "c.yaml:1: is not valid YAML: "),
        ("a: b: c", "c.yaml:1: is not valid YAML: mapping values are not allowed in this context"),
        ("a:\n\tb: 1", "c.yaml:2: is not valid YAML: found character that cannot start any token"),
        ("server: {}\n---\nmodels: {}", "c.yaml:2: has a second document; one file holds one"),
        ("- a\n- b", "c.yaml:1: must hold keys and values, such as server:"),
        ("just text", "c.yaml:1: must hold keys and values, such as server:"),
        ("a: !!int 1", "c.yaml:1: tags (such as !!str) are not used here; remove the tag"),
        (
            "a: !!python/object:os.system x",
            "c.yaml:1: tags (such as !!str) are not used here; remove the tag",
        ),
        ("? [a]\n: b", "c.yaml:1: a key must be text"),
        ("a: *b", "c.yaml:1: alias *b has no anchor before it"),
        ("a: &b [*b]", "c.yaml:1: alias *b stands inside its own anchor"),
        ("a: &b 1\nc: &b 2", "c.yaml:2: anchor &b is defined twice"),
        ("a: " + "[" * 40 + "]" * 40, "c.yaml:1: is nested deeper than 32 levels"),
        ("a: \x07", "c.yaml:1: is not valid YAML: a character is not allowed"),
        ("# only a comment", "c.yaml:1: providers: is missing; write providers: {} if there are none"),
    ],
)
def test_what_is_not_plain_yaml(text: str, wanted: str) -> None:
    assert faults(text)[0].startswith(wanted), faults(text)


def test_not_utf8(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_bytes(b"server:\n  host: \xff\n")
    with pytest.raises(ConfigInvalid) as caught:
        load(file, {})
    assert [str(fault) for fault in caught.value.faults] == [f"{file}:2: is not UTF-8 text"]


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_bytes(b"\xef\xbb\xbf" + VALID.encode())
    assert load(file, {}) == loads(VALID, {})


def test_duplicate_keys_at_every_level() -> None:
    assert faults(added("server", "  port: 1")) == ["c.yaml:3: server.port: is already in line 2"]
    assert faults(VALID + "server: {}\n") == ["c.yaml:24: server: is already in line 1"]
    twice = changed("- id: ci", "- id: ci\n        id: other")
    assert faults(twice) == ["c.yaml:19: tenants.acme.keys[0].id: is already in line 18"]


def test_aliases_and_merges_save_typing() -> None:
    text = VALID.replace(
        "models:\n  gpt-4o:\n    deployments",
        "models:\n  other: &defaults\n    timeouts: {connect_s: 1}\n    max_output_tokens: 7\n"
        "    deployments: [{provider: openai, model: x}]\n"
        "  gpt-4o:\n    <<: *defaults\n    max_output_tokens: 9\n    deployments",
    )
    models = loads(text, {}).models
    assert models["gpt-4o"].timeouts.connect_s == 1
    assert models["gpt-4o"].max_output_tokens == 9
    assert models["gpt-4o"].deployments[0].model == "gpt-4o-2024-11-20"
    assert models["other"].max_output_tokens == 7


def test_a_fault_behind_a_merge_has_the_line_where_it_is_written() -> None:
    text = VALID.replace(
        "models:\n  gpt-4o:\n",
        "models:\n  other: &defaults\n    on_cut: never\n    deployments: [{provider: openai, model: x}]\n"
        "  gpt-4o:\n    <<: *defaults\n",
    )
    found = [fault for fault in faults(text) if "must be" in fault]
    assert [fault.split(" must")[0] for fault in found] == [
        "c.yaml:9: models.other.on_cut:",
        "c.yaml:9: models.gpt-4o.on_cut:",
    ]


@pytest.mark.parametrize("value", ["1", "[1]", "*nested"])
def test_merges_that_are_not_simple(value: str) -> None:
    text = f"x: &a {{p: 1}}\ny: &nested {{<<: *a}}\nz:\n  <<: {value}\n"
    assert any(
        fault.startswith("c.yaml:4: z.<<: must name mappings that have no << of their own")
        for fault in faults(text)
    )


@pytest.mark.parametrize("kind", ["list", "deep", "merge"])
def test_a_small_file_that_aliases_make_huge_is_refused_soon(kind: str) -> None:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    if kind == "list":
        lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 20)]
    elif kind == "deep":
        lines += [f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 3000)]
    else:
        lines = ["a0: &a0 {" + ", ".join(f"k{n}: 1" for n in range(5000)) + "}"]
        lines += [f"b{n}: {{<<: [{', '.join(['*a0'] * 20)}]}}" for n in range(200)]
    started = time.monotonic()
    found = faults("\n".join(lines))
    assert any("makes the configuration larger" in fault or "nested deeper" in fault for fault in found)
    assert time.monotonic() - started < 60


def test_scalars_are_typed_by_their_field() -> None:
    text = (
        VALID.replace("port: 8080", 'port: "8080"\n  host: 0.0.0.0')
        .replace(
            "- id: ci", "- id: no\n        expires: 2027-01-31\n        tags: {on: off, n: 010, t: 12:30}"
        )
        .replace("model: gpt-4o-2024-11-20", "model: 1.10")
    )
    settings = loads(text, {})
    key = settings.tenants["acme"].keys[0]
    assert settings.server.port == 8080
    assert key.id == "no"
    assert key.expires is not None
    assert key.expires.isoformat() == "2027-01-31"
    assert key.tags == {"on": "off", "n": "010", "t": "12:30"}
    assert settings.models["gpt-4o"].deployments[0].model == "1.10"


def test_a_key_without_a_value_is_absent() -> None:
    text = VALID.replace("server:\n  port: 8080", "server:\nstorage:\n  url:\n  data_dir: null").replace(
        "    keys:", "    limits: ~\n    on_disconnect:\n    keys:"
    )
    settings = loads(text, {})
    assert settings.server == Settings().server
    assert settings.storage == Settings().storage
    assert settings.tenants["acme"].limits is None


def test_json_is_yaml() -> None:
    text = (
        '{"providers": {"p": {"kind": "openai", "base_url": "http://a", "stream_usage": false}},'
        ' "models": {"m": {"deployments": [{"provider": "p", "model": "m",'
        ' "price": {"input_per_mtok_usd": 2.5, "output_per_mtok_usd": 1e1}}]}},'
        ' "tenants": {"t": {"models": ["*"], "keys": [{"id": "k", "hash": "' + HASH + '"}]}}}'
    )
    assert loads(text, {}).providers["p"].stream_usage is False
