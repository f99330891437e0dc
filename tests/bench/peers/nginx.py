"""nginx as a plain reverse proxy: the floor of what passing a request on can cost."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from .peer import Launch, NotInstalled, Say

_CONFIG = """
daemon off;
worker_processes 1;
worker_rlimit_nofile 16384;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
{user}
events {{ worker_connections 8192; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_requests 100000000;
    upstream provider {{
        server 127.0.0.1:{upstream};
        keepalive 1024;
        keepalive_requests 100000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://provider;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
        }}
    }}
}}
"""


class Nginx:
    """One worker, keep-alive on both sides, no buffering, no log."""

    name = "nginx"
    title = "nginx"
    note = "a plain reverse proxy: no key, no accounting, the body is not looked at"

    def install(self, home: Path, say: Say) -> str:
        program = _find()
        done = subprocess.run([program, "-v"], capture_output=True, text=True, check=False)
        return done.stderr.strip().rpartition("/")[2]

    def launch(self, folder: Path, upstream: int, port: int) -> Launch | None:
        config = folder / "nginx.conf"
        user = "user root;" if os.geteuid() == 0 else ""
        config.write_text(_CONFIG.format(folder=folder, upstream=upstream, port=port, user=user))
        return Launch([_find(), "-c", str(config), "-p", str(folder)], port=port)


def _find() -> str:
    if program := shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin"):
        return program
    raise NotInstalled("no nginx on this machine")
