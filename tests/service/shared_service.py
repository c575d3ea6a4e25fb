"""One service of several, with fakes for the weights: `python -m tests.service.shared_service HOME`.

Store, database and key come from the same variables as always. Prints its address, and serves until it is
killed.
"""

from __future__ import annotations

import sys
from pathlib import Path

import uvicorn

from ingest.settings import IngestSettings, read_table
from service.app import create_app
from service.settings import ServiceSettings
from service.shelves import Shelves
from tests.fakes import HashEmbedder
from tests.service.fakes import ScriptedGenerator


def main() -> None:
    home = Path(sys.argv[1])
    ingest, settings = read_table("ingest", IngestSettings), read_table("service", ServiceSettings)
    shelves = Shelves(home, "default", ingest, lambda _: HashEmbedder())
    app = create_app(settings, home, shelves, ScriptedGenerator("The tower is 330 metres tall."))
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error")
    server, listening = uvicorn.Server(config), config.bind_socket()
    print(f"http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
    server.run(sockets=[listening])


if __name__ == "__main__":
    main()
