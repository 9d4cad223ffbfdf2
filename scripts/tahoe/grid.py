#!/usr/bin/env python3
"""A real Tahoe-LAFS grid on 127.0.0.1: one introducer, five storage nodes, one client.

As a module it gives class Grid. As a program,

    grid.py VENV DIRECTORY

runs a grid whose nodes live in DIRECTORY, under the Tahoe-LAFS that ./install
put into VENV. When the grid is up it prints one line of JSON:

    {"client": DIR, "node_url": URL, "storage": [DIR, ...], "tahoe": PROGRAM}

Each line of JSON on its standard input, {"k": 3, "happy": 1, "n": 10,
"segment": 131072, "layout": 1}, makes the client upload with these from then on;
the answer is that same line again. With "foolscap": true as well, the client speaks
Foolscap to the storage nodes, not HTTPS. At the end of its input it stops every node.
"""

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

STORAGE_NODES = 5
MIB = 1 << 20
PATIENCE = 90  # seconds until a node that does not come up is given up

# Convergent uploads with one secret make the same caps on every run.
CONVERGENCE = "mzuwy3dxmf4s2zljoruhk4tfomxa"[:26]

# Layout version 2 is only written by itself for shares of 4 GiB and more;
# Tahoe-LAFS has a switch for its own tests, which no configuration reaches.
RUN_LAYOUT_2 = (
    "import sys, allmydata.immutable.layout as layout; layout.FORCE_V2 = True; "
    "from allmydata.scripts.runner import run; sys.argv[0] = 'tahoe'; sys.exit(run())"
)


class GridError(Exception):
    """A node did not do what it should; the text ends with the end of its log."""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Node:
    """One node's directory and, while it runs, its process."""

    def __init__(self, venv, directory):
        self.venv = venv
        self.directory = directory
        self.log = directory.with_suffix(".log")
        self.process = None

    def create(self, kind, *options):
        """Begins to make the node's directory; returns the process that does it."""
        return self._spawn([self.venv / "bin" / "tahoe", kind, *options, self.directory], subprocess.DEVNULL)

    def start(self, layout=1):
        """Starts the node, which then writes shares of that layout."""
        tahoe = [self.venv / "bin" / "tahoe"]
        if layout == 2:
            tahoe = [self.venv / "bin" / "python", "-c", RUN_LAYOUT_2]
        # A node ends when its standard input does. This process holds the other
        # end, so that no node outlives it, however it dies.
        self.process = self._spawn([*tahoe, "run", self.directory], subprocess.PIPE)

    def _spawn(self, command, stdin):
        with self.log.open("ab") as log:
            return subprocess.Popen(command, stdin=stdin, stdout=log, stderr=subprocess.STDOUT)

    def stop(self):
        if self.process is None:
            return
        self.process.stdin.close()
        self.process.terminate()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def await_(self, what, condition):
        """Waits until condition() is true; it is tried several times a second."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if self.process.poll() is not None:
                raise GridError(f"{self.directory.name} ended with {self.process.returncode}\n{self.tail()}")
            if time.monotonic() > deadline:
                raise GridError(f"{self.directory.name}: no {what} after {PATIENCE} s\n{self.tail()}")
            time.sleep(0.2)

    def tail(self):
        return self.log.read_text(errors="replace")[-4000:]


class Grid:
    """A running grid below a directory; a context manager that stops it."""

    def __init__(self, venv, directory):
        self.venv = Path(venv)
        self.directory = Path(directory)
        self.introducer = Node(self.venv, self.directory / "introducer")
        self.servers = [Node(self.venv, self.directory / f"s{i}") for i in range(STORAGE_NODES)]
        self.client = Node(self.venv, self.directory / "client")
        self.shape = dict(k=3, happy=1, n=10, segment=MIB, layout=1, foolscap=False)

    @property
    def nodes(self):
        return [self.client, *self.servers, self.introducer]

    @property
    def storage(self):
        return [s.directory / "storage" for s in self.servers]

    @property
    def node_url(self):
        return (self.client.directory / "node.url").read_text().strip()

    def __enter__(self):
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        for node in self.nodes:
            if node.process is not None:
                node.process.terminate()
        for node in self.nodes:
            node.stop()

    def _start(self):
        def listen():
            port = free_port()
            return ("--listen=tcp", f"--port=tcp:{port}:interface=127.0.0.1", f"--location=tcp:127.0.0.1:{port}")

        creating = [(self.introducer, self.introducer.create("create-introducer", *listen()))]
        for server in self.servers:
            creating.append((server, server.create(
                "create-node", *listen(), "--webport=none", f"--nickname={server.directory.name}")))
        creating.append((self.client, self.client.create(
            "create-client", "--webport=tcp:0:interface=127.0.0.1")))
        for node, process in creating:
            if process.wait() != 0:
                raise GridError(f"cannot create {node.directory.name}\n{node.tail()}")

        self.introducer.start()
        furl = self.introducer.directory / "private" / "introducer.furl"
        self.introducer.await_("introducer.furl", lambda: furl.exists() and furl.read_text().strip())
        introducers = f"introducers:\n  grid:\n    furl: {furl.read_text().strip()}\n"
        for node in [*self.servers, self.client]:
            (node.directory / "private" / "introducers.yaml").write_text(introducers)
        (self.client.directory / "private" / "convergence").write_text(CONVERGENCE + "\n")
        for server in self.servers:
            server.start()
        self._start_client()

    def configure(self, k, happy, n, segment=MIB, layout=1, foolscap=False):
        """Makes later uploads k-of-n on at least happy servers, with this
        maximum segment size in bytes and share layout (1 or 2). With foolscap
        the client does without HTTPS."""
        shape = dict(k=k, happy=happy, n=n, segment=segment, layout=layout, foolscap=foolscap)
        if shape != self.shape:
            self.client.stop()
            self.shape = shape
            self._start_client()

    def _start_client(self):
        config = self.client.directory / "tahoe.cfg"
        wanted = {
            "shares.needed": self.shape["k"],
            "shares.happy": self.shape["happy"],
            "shares.total": self.shape["n"],
            "shares._max_immutable_segment_size_for_testing": self.shape["segment"],
            "force_foolscap": self.shape["foolscap"],
        }
        lines = []
        for line in config.read_text().splitlines():
            if line.lstrip("#").split("=")[0].strip() not in wanted:
                lines.append(line)
            if line.strip() == "[client]":
                lines.extend(f"{name} = {value}" for name, value in wanted.items())
        config.write_text("\n".join(lines) + "\n")

        url = self.client.directory / "node.url"
        url.unlink(missing_ok=True)
        self.client.start(self.shape["layout"])
        self.client.await_("connection to every storage node", lambda: url.exists() and self._connected() == STORAGE_NODES)

    def _connected(self):
        try:
            with urllib.request.urlopen(f"{self.node_url}?t=json", timeout=10) as answer:
                servers = json.load(answer)["servers"]
        except (urllib.error.URLError, ConnectionError, ValueError):
            return 0
        return sum(s["connection_status"].lower().startswith("connected") for s in servers)

    def put(self, data):
        """Uploads data and returns its cap."""
        request = urllib.request.Request(f"{self.node_url}uri", data=data, method="PUT")
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return answer.read().decode("ascii").strip()

    def describe(self):
        return {
            "client": str(self.client.directory),
            "node_url": self.node_url,
            "storage": [str(s) for s in self.storage],
            "tahoe": str(self.venv / "bin" / "tahoe"),
        }


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__.strip())
    with Grid(sys.argv[1], sys.argv[2]) as grid:
        print(json.dumps(grid.describe()), flush=True)
        for line in sys.stdin:
            grid.configure(**json.loads(line))
            print(json.dumps(grid.describe()), flush=True)


if __name__ == "__main__":
    main()
