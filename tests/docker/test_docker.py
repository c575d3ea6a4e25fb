"""The image's two files: valid by their own rules, and true about the code.

No container engine is needed, and none is replaced: what `docker build` itself would do is not shown here. At night
the Dockerfile's install steps run in an empty environment, as they are written.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml
from dockerfile_parse import DockerfileParser

from ingest.settings import TABLES, IngestSettings, find_home, read_table
from model.catalog import ENTRIES
from service.app import create_app
from service.auth import SharedKey
from service.errors import UnsafeBind
from service.settings import ServiceSettings, check_bind, ollama_host
from tests.service.conftest import serving
from tests.service.fakes import MemoryLibrary, ScriptedGenerator

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "docker" / "Dockerfile"
COMPOSE = ROOT / "docker" / "compose.yaml"
MANUAL = ROOT / "docs" / "docker.md"
Step = tuple[str, str]


def stages() -> list[list[Step]]:
    """Instruction and value, comments left out, one list for each FROM (what stands before the first is dropped)."""
    found: list[list[Step]] = []
    for item in DockerfileParser(str(DOCKERFILE)).structure:
        if item["instruction"] == "FROM":
            found.append([])
        if item["instruction"] != "COMMENT" and found:
            found[-1].append((item["instruction"], item["value"]))
    return found


def values(stage: list[Step], instruction: str) -> list[str]:
    return [value for name, value in stage if name == instruction]


def pairs(stage: list[Step], instruction: str) -> dict[str, str]:
    """What ENV or ARG set."""
    return dict(
        part.partition("=")[::2] for value in values(stage, instruction) for part in shlex.split(value)
    )


def image_environment() -> dict[str, str]:
    """The image's own variables, with every build argument at its default."""
    final = stages()[-1]
    arguments = pairs(final, "ARG")
    return {
        name: re.sub(r"\$\{?(\w+)\}?", lambda m: arguments.get(m[1], m[0]), value)
        for name, value in pairs(final, "ENV").items()
    }


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
    return loaded


def plain(value: str) -> str:
    """A value as it is when no variable of the shell is set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value)


# --- the compose file ----------------------------------------------------------------------------------------------


def check_schema(file: Path) -> subprocess.CompletedProcess[str]:
    """Against compose-spec's JSON schema, which comes with check-jsonschema (Apache-2.0), so without a network."""
    return subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )


def holds_to_its_specification(file: Path, tmp_path: Path) -> None:
    """The file is valid by the compose specification, which finds fault with it once it is broken."""
    result = check_schema(file)
    assert result.returncode == 0, result.stdout
    broken = tmp_path / "compose.yaml"
    broken.write_text(file.read_text(encoding="utf-8").replace("cap_drop: [ALL]", "cap_drop: ALL"))
    assert check_schema(broken).returncode == 1


def test_compose_is_valid_by_its_specification(tmp_path: Path) -> None:
    holds_to_its_specification(COMPOSE, tmp_path)


def test_every_container_is_locked_down(compose: dict[str, Any]) -> None:
    assert set(compose["services"]) == {"weights", "lorebase", "ollama", "ollama-pull"}
    for name, service in compose["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"] and "cap_add" not in service, name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}, name
        assert all(":size=" in mount for mount in service["tmpfs"]), name
        assert not {"privileged", "network_mode", "pid", "ipc", "devices", "env_file"} & set(service), name
        assert service["restart"] in ("unless-stopped", "no", "on-failure:3"), name


def test_only_loopback_is_published_and_it_is_the_services_port(compose: dict[str, Any]) -> None:
    published = {name: s["ports"] for name, s in compose["services"].items() if "ports" in s}
    port = ServiceSettings().port
    assert {name: [plain(p) for p in ports] for name, ports in published.items()} == {
        "lorebase": [f"127.0.0.1:{port}:{port}"]
    }


def test_what_compose_refers_to_is_there(compose: dict[str, Any]) -> None:
    folder = COMPOSE.parent
    for name, service in compose["services"].items():
        if build := service.get("build"):
            context = (folder / build["context"]).resolve()
            assert context == ROOT and (context / build["dockerfile"]) == DOCKERFILE
            known = set().union(*(pairs(stage, "ARG") for stage in stages()))
            assert set(build["args"]) <= known, name
        for mount in service.get("volumes", ()):
            source, target, *_ = plain(mount).split(":")
            assert (
                source in compose["volumes"] if re.fullmatch(r"\w+", source) else (folder / source).is_dir()
            )
            assert target in ("/data", "/documents", "/root/.ollama")
        for other, how in service.get("depends_on", {}).items():
            waited = compose["services"][other]
            if how["condition"] == "service_healthy":
                assert "healthcheck" in waited
            else:
                assert how["condition"] == "service_completed_successfully" and waited["restart"] == "no"
        for secret in service.get("secrets", ()):
            assert secret in compose["secrets"]
    host = compose["services"]["ollama-pull"]["environment"]["OLLAMA_HOST"]
    assert (
        host == plain(compose["services"]["lorebase"]["environment"]["OLLAMA_HOST"]) == "http://ollama:11434"
    )
    assert ollama_host({"OLLAMA_HOST": host}) == host


def test_the_key_is_a_file_that_neither_git_nor_the_build_sees(compose: dict[str, Any]) -> None:
    (name, secret), *more = compose["secrets"].items()
    assert not more and set(secret) == {"file"}
    assert image_environment()["LOREBASE_SERVICE_API_KEY_FILE"] == f"/run/secrets/{name}"
    file = (COMPOSE.parent / plain(secret["file"])).resolve().relative_to(ROOT).as_posix()
    assert file in MANUAL.read_text(encoding="utf-8")
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").split()
    assert any(file.startswith(line) for line in ignored)
    assert not sent(file)


# --- settings, commands, modules -----------------------------------------------------------------------------------


def test_the_image_starts_with_settings_that_the_service_knows(
    compose: dict[str, Any], tmp_path: Path
) -> None:
    environ = image_environment() | compose["services"]["lorebase"]["environment"]
    settings = read_table("service", ServiceSettings, start=tmp_path, environ=environ)
    read_table("ingest", IngestSettings, start=tmp_path, environ=environ)
    assert find_home(tmp_path, environ) == Path("/data") == Path(values(stages()[-1], "VOLUME")[0])
    assert f"{settings.port}" in values(stages()[-1], "EXPOSE")
    check_bind(settings)  # beyond loopback, because there is a key file
    with pytest.raises(UnsafeBind):
        check_bind(settings.model_copy(update={"api_key_file": None}))


def test_every_variable_named_is_one_that_the_code_reads() -> None:
    tables: dict[str, type[ServiceSettings] | type[IngestSettings]] = {
        "ingest": IngestSettings,
        "service": ServiceSettings,
    }
    known = {"LOREBASE_HOME"} | {
        f"LOREBASE_{table.upper()}_{key.upper()}"
        for table, model in tables.items()
        for key in model.model_fields
    }
    assert set(tables) <= set(TABLES)
    for file in (DOCKERFILE, COMPOSE, MANUAL):
        named = set(re.findall(r"LOREBASE_[A-Z_]+", file.read_text(encoding="utf-8")))
        assert named and named <= known, (file.name, named - known)


def test_every_command_named_exists(compose: dict[str, Any]) -> None:
    commands = [json.loads(value) for value in values(stages()[-1], "CMD")]
    commands += [compose["services"]["weights"]["command"]]
    manual = MANUAL.read_text(encoding="utf-8")
    commands += [
        shlex.split(line) for line in re.findall(r"(python -m (?:ingest|model|service)\b[^`\n]*)", manual)
    ]
    assert len(commands) > 4
    for command in commands:
        assert command[:2] == ["python", "-m"] and command[2] in ("ingest", "model", "service"), command
        verb = next((word for word in command[3:4] if re.fullmatch(r"[a-z]+", word)), None)
        call = [sys.executable, "-m", command[2], *([verb] if verb else []), "--help"]
        assert subprocess.run(call, cwd=ROOT, capture_output=True, check=False).returncode == 0, command
        if verb == "pull":
            assert set(command[4:]) <= {entry.name for entry in ENTRIES}, command
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert f"MODELS := {' '.join(compose['services']['weights']['command'][4:])}\n" in makefile


def test_the_health_check_sees_a_service_and_its_absence(tmp_path: Path) -> None:
    """The check is the image's own, word for word, against a service that asks for a key."""
    (check,) = values(stages()[-1], "HEALTHCHECK")
    command = json.loads(check[check.index("CMD") + 3 :])
    assert command[0] == "python"
    (tmp_path / "key").write_text("k" * 32)
    settings = ServiceSettings(model="scripted", api_key_file=tmp_path / "key", shutdown_grace_s=0.5)
    app = create_app(settings, tmp_path, MemoryLibrary(), ScriptedGenerator())

    def healthy(port: str) -> bool:
        environ = os.environ | {"LOREBASE_SERVICE_PORT": port, "http_proxy": "http://192.0.2.1:9"}
        return (
            subprocess.run(
                [sys.executable, *command[1:]], env=environ, capture_output=True, check=False
            ).returncode
            == 0
        )

    with serving(app) as address:
        port = address.rpartition(":")[2]
        assert healthy(port)
    assert not healthy(port)


# --- the Dockerfile ------------------------------------------------------------------------------------------------


def test_nobody_is_root_at_the_end_and_no_secret_is_baked_in() -> None:
    final = stages()[-1]
    owner = values(final, "USER")[-1].split(":")[0]
    assert owner.isdigit() and int(owner) > 0
    (made,) = [value for value in values(final, "RUN") if "useradd" in value]
    assert f"--uid {owner} " in made and f"--owner={owner}" in made and "/data" in made
    order = [name for name, _ in final]
    assert order.index("USER") > order.index("RUN") and "ADD" not in order
    for stage in stages():
        for name, value in (pairs(stage, "ENV") | pairs(stage, "ARG")).items():
            if re.search(r"KEY|TOKEN|PASSWORD|SECRET", name):
                assert value.startswith("/run/secrets/"), f"{name} must name a file, not hold a secret"
            assert "@" not in value


def test_what_is_copied_is_there_and_is_sent_to_the_build() -> None:
    copied = [value.split()[:-1] for value in values(stages()[0], "COPY")]
    sources = [source for group in copied for source in group]
    packages = {p.removesuffix("*") for p in project()["tool"]["setuptools"]["packages"]["find"]["include"]}
    assert set(sources) == packages | {"pyproject.toml", project()["project"]["readme"], "LICENSE"}
    for source in sources:
        assert (ROOT / source).exists() and sent(source), source
    for kept in (
        ".git/config",
        ".lorebase/service.sqlite",
        "docs/install.md",
        "docker/secrets/api_key",
        ".env",
    ):
        assert not sent(kept), kept
    assert (
        sent("service/web/page.js") and sent("model/adapters/x/y") and not sent("service/__pycache__/a.pyc")
    )


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def sent(path: str) -> bool:
    """Whether .dockerignore lets a file into the build: the last rule that matches it or a folder above decides."""
    parents = [path, *(parent.as_posix() for parent in Path(path).parents if parent.name)]
    kept = True
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        rule = line.strip()
        if rule and not rule.startswith("#"):
            pattern = rule.lstrip("!")
            anywhere = pattern.startswith("**/")
            names = [p for parent in parents for p in ([Path(parent).name] if anywhere else [parent])]
            if any(
                fnmatch(n, pattern.removeprefix("**/")) and (anywhere or n.count("/") == 0) for n in names
            ):
                kept = rule.startswith("!")
    return kept


def install_steps() -> list[str]:
    """The build stage's pip commands, without BuildKit's mounts."""
    runs = [re.sub(r"--mount=\S+\s*", "", value).strip() for value in values(stages()[0], "RUN")]
    return [run for run in runs if "pip install" in run]


def test_the_install_steps_ask_for_what_the_project_asks_for() -> None:
    first, last = install_steps()
    (wanted,) = [d for d in project()["project"]["dependencies"] if d.startswith("torch")]
    assert shlex.split(first)[-1] == wanted and shlex.split(last)[-1] == ".${EXTRAS:+[$EXTRAS]}"
    version = pairs(arguments_before_the_first_stage(), "ARG")["PYTHON_VERSION"]
    assert f"Programming Language :: Python :: {version}" in project()["project"]["classifiers"]


def arguments_before_the_first_stage() -> list[Step]:
    found: list[Step] = []
    for item in DockerfileParser(str(DOCKERFILE)).structure:
        if item["instruction"] == "FROM":
            break
        found.append((item["instruction"], item["value"]))
    return found


@pytest.mark.skipif("LOREBASE_NIGHTLY" not in os.environ, reason="downloads PyTorch: only in `make nightly`")
@pytest.mark.timeout(3600)
def test_the_install_steps_work_in_an_empty_environment(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    source = tmp_path / "src"
    source.mkdir()
    for group in values(stages()[0], "COPY"):
        *names, _ = group.split()
        for name in names:
            subprocess.run(["cp", "-r", ROOT / name, source / name], check=True)
    environ = os.environ | {
        "PATH": f"{tmp_path / 'venv' / 'bin'}:{os.environ['PATH']}",
        "VIRTUAL_ENV": str(tmp_path / "venv"),
        "TORCH_INDEX_URL": os.environ.get("TORCH_INDEX_URL", ""),
        "PYTHONSAFEPATH": "1",
    }
    environ.pop("PYTHONPATH", None)
    for step in install_steps():
        subprocess.run(["sh", "-euc", step], cwd=source, env=environ, check=True)
    for wing in ("ingest", "model", "service"):
        told = subprocess.run(
            ["python", "-m", wing, "--help"],
            cwd=tmp_path,
            env=environ,
            capture_output=True,
            text=True,
            check=True,
        )
        assert "usage" in told.stdout
    web = (
        "import service, pathlib; print((pathlib.Path(service.__file__).parent / 'web/index.html').is_file())"
    )
    assert "True" in subprocess.check_output(["python", "-c", web], cwd=tmp_path, env=environ, text=True)
    (tmp_path / "key").write_text("k" * 32)
    assert SharedKey.read(tmp_path / "key").admits("k" * 32)
