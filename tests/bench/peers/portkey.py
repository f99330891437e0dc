"""Portkey's gateway (Node.js), from npm."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from .peer import Launch, NotInstalled, Say, run_install

_PACKAGE = "@portkey-ai/gateway"
# The version that its own lock file has; streams fail with "TypeError: immutable" from 1.14.2 on.
_SERVER = "1.13.5"
# It listens on every address; nobody but the bench should reach it.
_LOOPBACK_ONLY = """
const net = require("net");
const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (first, ...rest) {
  const loopback = typeof first === "number" ? { port: first, host: "127.0.0.1", backlog: 4096 } : first;
  return listen.call(this, loopback, ...rest.filter((x) => typeof x === "function"));
};
"""


class Portkey:
    """One process; it keeps no state, so provider and address come with each request."""

    name = "portkey"
    title = "Portkey"
    note = (
        "Node.js; no key, no store; told of the provider by headers; with @hono/node-server "
        f"{_SERVER}, because its streams fail with the newer one that npm would choose"
    )

    def install(self, home: Path, say: Say) -> str:
        self._home = home / "portkey"
        manifest = self._home / "node_modules" / _PACKAGE / "package.json"
        if not (shutil.which("node") and shutil.which("npm")):
            raise NotInstalled("no Node.js on this machine")
        if not manifest.exists():
            say(f"installing {_PACKAGE} from npm into {self._home} (a minute, once)")
            self._home.mkdir(parents=True, exist_ok=True)
            root = {"private": True, "overrides": {"@hono/node-server": _SERVER}}
            (self._home / "package.json").write_text(json.dumps(root))
            quiet = ["--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
            run_install(["npm", "install", *quiet, _PACKAGE], self._home)
        return str(json.loads(manifest.read_text())["version"])

    def launch(self, folder: Path, upstream: int, port: int) -> Launch | None:
        preload = folder / "loopback.cjs"
        preload.write_text(_LOOPBACK_ONLY)
        server = self._home / "node_modules" / _PACKAGE / "build" / "start-server.js"
        return Launch(
            ["node", "--require", str(preload), str(server), f"--port={port}", "--headless"],
            port=port,
            env={"NODE_ENV": "production"},
            headers={
                "x-portkey-provider": "openai",
                "x-portkey-custom-host": f"http://127.0.0.1:{upstream}/v1",
                "authorization": "Bearer sk-fake",
            },
        )
