"""The compose file of several machines' parts: valid by its rules, and true about the code. Nobody has run it."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ingest.cli import arguments as ingest_arguments
from ingest.settings import IngestSettings, read_table
from ingest.store.milvus.address import parse
from service.database import records
from service.settings import ServiceSettings, check_bind
from tests.docker.test_docker import (
    ROOT,
    holds_to_its_specification,
    image_environment,
    pairs,
    project,
    sent,
    stages,
)

COMPOSE = ROOT / "docker" / "compose.scale.yaml"
NGINX = ROOT / "docker" / "nginx.conf"
MANUAL = ROOT / "docs" / "scale.md"
SERVICES = ("lorebase-1", "lorebase-2")
RAY = ("ray-head", "ray-worker")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
    return loaded


def plain(value: str) -> str:
    """A value as it is when only the passwords are set."""
    return re.sub(r"\$\{\w+:\?[^}]*\}", "pw9", re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value))


def test_it_is_valid_by_its_specification(tmp_path: Path) -> None:
    holds_to_its_specification(COMPOSE, tmp_path)


def test_every_container_is_locked_down(compose: dict[str, Any]) -> None:
    wanted = {"weights", "nginx", *SERVICES, "milvus", "etcd", "objects", "postgres", *RAY, "vllm"}
    assert set(compose["services"]) == wanted
    for name, service in compose["services"].items():
        assert service["read_only"] is True and service["cap_drop"] == ["ALL"] and "cap_add" not in service, (
            name
        )
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}, name
        assert all(":size=" in mount for mount in service["tmpfs"]), name
        assert not {"privileged", "network_mode", "pid", "ipc", "devices", "env_file"} & set(service), name
        assert service["restart"] in ("unless-stopped", "no"), name
        assert "latest" not in service["image"], name


def test_only_nginx_is_published_and_only_on_loopback(compose: dict[str, Any]) -> None:
    published = {
        name: [plain(p) for p in s["ports"]] for name, s in compose["services"].items() if "ports" in s
    }
    assert published == {"nginx": [f"127.0.0.1:{ServiceSettings().port}:8080"]}
    assert "listen 8080;" in NGINX.read_text(encoding="utf-8")


def test_no_password_is_in_it(compose: dict[str, Any]) -> None:
    asked = set()
    for name, service in compose["services"].items():
        for key, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|SECRET|DATABASE", key):
                asked |= (found := set(re.findall(r"\$\{(\w+):\?", str(value))))
                assert found, (name, key)
    manual = MANUAL.read_text(encoding="utf-8")
    assert asked == set(re.findall(r'"([A-Z_]+)="', manual))  # what the manual's command makes
    file = "docker/secrets/scale.env"
    assert file in manual and not sent(file)
    assert "docker/secrets/" in (ROOT / ".gitignore").read_text(encoding="utf-8").split()


def test_what_it_refers_to_is_there(compose: dict[str, Any]) -> None:
    services = compose["services"]
    used = set()
    for name, service in services.items():
        if build := service.get("build"):
            assert (COMPOSE.parent / build["context"]).resolve() == ROOT
            assert set(build["args"]) <= set().union(*(pairs(stage, "ARG") for stage in stages()))
            assert set(build["args"]["EXTRAS"].split(",")) <= set(
                project()["project"]["optional-dependencies"]
            )
        for mount in service.get("volumes", ()):
            source, *_ = plain(mount).split(":")
            if re.fullmatch(r"\w+", source):
                used.add(source)
            else:
                assert (COMPOSE.parent / source).exists(), (name, source)
        for other, how in service.get("depends_on", {}).items():
            waited = services[other]
            if how["condition"] == "service_completed_successfully":
                assert waited["restart"] == "no"
            elif how["condition"] == "service_healthy":
                assert (
                    "healthcheck" in waited or waited["image"] == services["weights"]["image"]
                )  # the image's own
        assert set(service.get("secrets", ())) <= set(compose["secrets"])
    assert used == set(compose["volumes"])
    assert set(re.findall(r"^\s+server (\S+):8000", NGINX.read_text(encoding="utf-8"), re.M)) == set(SERVICES)


def test_services_and_workers_mean_the_engines_beside_them(compose: dict[str, Any], tmp_path: Path) -> None:
    services = compose["services"]
    for name in (*SERVICES, *RAY):
        environ = image_environment() | {k: plain(str(v)) for k, v in services[name]["environment"].items()}
        settings = read_table("service", ServiceSettings, start=tmp_path, environ=environ)
        where = parse(read_table("ingest", IngestSettings, start=tmp_path, environ=environ).store)
        assert where.uri == "http://milvus:19530"
        if name in RAY:
            continue
        check_bind(settings)
        assert settings.openai_upstreams == ("http://vllm:8000/v1",)
        assert settings.model == services["weights"]["command"][4]
        pytest.importorskip("psycopg", reason="the extra postgres is not installed")
        url = records(settings.database, tmp_path)._engine.url  # type: ignore[attr-defined]
        account = services["postgres"]["environment"]
        assert (url.host, url.port, url.username, url.database) == (
            "postgres", 5432, account["POSTGRES_USER"], account["POSTGRES_DB"],
        )  # fmt: skip
    assert services[SERVICES[0]] == services[SERVICES[1]]
    milvus, objects = services["milvus"]["environment"], services["objects"]["environment"]
    assert (milvus["MINIO_ACCESS_KEY_ID"], milvus["MINIO_SECRET_ACCESS_KEY"]) == (
        objects["MINIO_ROOT_USER"], objects["MINIO_ROOT_PASSWORD"],
    )  # fmt: skip
    assert milvus["ETCD_ENDPOINTS"] == "etcd:2379" and milvus["MINIO_ADDRESS"] == "objects:9000"
    port = next(part for part in services["ray-head"]["command"] if part.startswith("--port=")).partition(
        "="
    )[2]
    assert f"--address=ray-head:{port}" in services["ray-worker"]["command"]


def test_the_proxy_lets_through_what_the_service_takes() -> None:
    text, settings = NGINX.read_text(encoding="utf-8"), ServiceSettings()
    assert f"client_max_body_size {settings.max_upload_mb + 1}m;" in text
    (timeout,) = re.findall(r"proxy_read_timeout (\d+)s;", text)
    assert int(timeout) > settings.deadline_s and "proxy_buffering off;" in text
    assert text.count("{") == text.count("}") == 3 and "non_idempotent" not in text


def test_vllm_serves_what_export_writes(compose: dict[str, Any]) -> None:
    command = [plain(part) for part in compose["services"]["vllm"]["command"]]
    told = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
    name = command[command.index("--served-model-name") + 1]
    assert command[command.index("--model") + 1] == f"/data/exports/{name}-hf" and "`exports/NAME-hf`" in told
    assert f"MODEL=openai/{name}" in MANUAL.read_text(encoding="utf-8")


def test_every_variable_and_command_named_exists(compose: dict[str, Any]) -> None:
    known = {"LOREBASE_HOME"} | {
        f"LOREBASE_{table}_{key.upper()}"
        for table, model in (("INGEST", IngestSettings), ("SERVICE", ServiceSettings))
        for key in model.model_fields
    }
    manual = MANUAL.read_text(encoding="utf-8")
    for text in (COMPOSE.read_text(encoding="utf-8"), NGINX.read_text(encoding="utf-8"), manual):
        assert set(re.findall(r"LOREBASE_[A-Z_]+", text)) <= known
    calls = re.findall(rf"^docker compose -f {COMPOSE.relative_to(ROOT)} (.*)$", manual, re.M)
    assert len(calls) == 3
    for call in calls:
        words = shlex.split(call)
        assert words[:2] == ["--env-file", "docker/secrets/scale.env"]
        if words[2] == "exec":
            assert words[3] in compose["services"]
            help_ = [sys.executable, *words[5:7], *([words[7]] if words[7].isalpha() else []), "--help"]
            told = subprocess.run(help_, cwd=ROOT, capture_output=True, text=True, check=True).stdout
            if words[6] == "model":
                assert all(word in told for word in words if word.startswith("--f"))
    (ingest,) = [shlex.split(call) for call in calls if " ingest " in call]
    given = ingest_arguments.parse(ingest[ingest.index("ingest") + 1 :])
    assert (given.engine, given.address) == ("ray", "auto")


def test_what_the_manual_says_of_settings_is_so() -> None:
    """Each variable in it is a setting; the table of settings that move a part has their tables and defaults."""
    fields = {"ingest": IngestSettings.model_fields, "service": ServiceSettings.model_fields}
    texts = {file.name: file.read_text(encoding="utf-8") for file in (ROOT / "docs").glob("*.md")}
    named = {
        v for text in texts.values() for v in re.findall(r"LOREBASE_(INGEST|SERVICE)_([A-Z_]*[A-Z])", text)
    }
    assert len(named) > 5
    for table, key in named:
        assert key.lower() in fields[table.lower()], (table, key)
    rows = re.findall(r"^\| `(\w+)` \| `\[(\w+)\]` \| (none|`(\w+)`)", texts["configuration.md"], re.M)
    assert {key for key, *_ in rows} == {
        "store", "engine", "ray_address", "database", "openai_upstreams", "openai_key_file",
    }  # fmt: skip
    for key, table, _, default in rows:
        assert (fields[table][key].default or "") == default, key
