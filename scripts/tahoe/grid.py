#!/usr/bin/env python3
"""A real Tahoe-LAFS grid on this machine: one introducer, five storage nodes, one client.

As a module it gives class Grid. As a program,

    grid.py VENV DIRECTORY

runs a grid whose nodes live in DIRECTORY, under the Tahoe-LAFS that ./install
put into VENV. When the grid is up it prints one line of JSON:

    {"client": DIR, "node_url": URL, "client_pid": PID, "storage": [DIR, ...], "pids": [PID, ...], "tahoe": PROGRAM}

With --hosts ADDRESS,ADDRESS,... the introducer listens on the first address and a storage
node on each other one; without it, all do on 127.0.0.1. With --far NAMESPACE they run in that network namespace (a
file, see nsenter(1)). With --foolscap there is a second client, which speaks Foolscap to
the storage nodes and is described as "foolscap_url" and "foolscap_pid".

Each line of JSON on its standard input, {"k": 3, "happy": 1, "n": 10,
"segment": 131072, "layout": 1}, makes the client upload with these from then on;
the answer is that same line again. With "foolscap": true as well, the client speaks
Foolscap to the storage nodes, not HTTPS. {"start": 2} starts the third storage node again, which has been
killed. At the end of its input it stops every node.
"""

import argparse
import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

LOOPBACK = "127.0.0.1"
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
        s.bind((LOOPBACK, 0))
        return s.getsockname()[1]


class Node:
    """One node's directory and, while it runs, its process."""

    def __init__(self, venv, directory, namespace=None):
        self.venv = venv
        self.directory = directory
        self.prefix = ["nsenter", f"--net={namespace}"] if namespace else []
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
            return subprocess.Popen([*self.prefix, *command], stdin=stdin, stdout=log, stderr=subprocess.STDOUT)

    def stop(self):
        if self.process is None:
            return
        self.process.stdin.close()
        self.terminate()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def terminate(self):
        """Asks the process to end, also one that was stopped by a signal."""
        self.process.terminate()
        self.process.send_signal(signal.SIGCONT)

    def await_(self, what, condition, patience=PATIENCE):
        """Waits until condition() is true; it is tried several times a second."""
        deadline = time.monotonic() + patience
        while not condition():
            if self.process.poll() is not None:
                raise GridError(f"{self.directory.name} ended with {self.process.returncode}\n{self.tail()}")
            if time.monotonic() > deadline:
                raise GridError(f"{self.directory.name}: no {what} after {patience} s\n{self.tail()}")
            time.sleep(0.2)

    def tail(self):
        return self.log.read_text(errors="replace")[-4000:]


class Grid:
    """A running grid below a directory; a context manager that stops it."""

    def __init__(self, venv, directory, hosts=(LOOPBACK,) * (1 + STORAGE_NODES), far=None, foolscap=False):
        self.venv = Path(venv)
        self.directory = Path(directory)
        self.hosts = hosts
        self.introducer = Node(self.venv, self.directory / "introducer", far)
        self.servers = [Node(self.venv, self.directory / f"s{i}", far) for i in range(len(hosts) - 1)]
        self.client = Node(self.venv, self.directory / "client")
        self.foolscap = Node(self.venv, self.directory / "foolscap") if foolscap else None
        self.shape = dict(k=3, happy=1, n=10, segment=MIB, layout=1, foolscap=False)

    @property
    def clients(self):
        return [self.client, self.foolscap] if self.foolscap else [self.client]

    @property
    def nodes(self):
        return [*self.clients, *self.servers, self.introducer]

    @property
    def storage(self):
        return [s.directory / "storage" for s in self.servers]

    @property
    def node_url(self):
        return self.url_of(self.client)

    @staticmethod
    def url_of(client):
        return (client.directory / "node.url").read_text().strip()

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
                node.terminate()
        for node in self.nodes:
            node.stop()

    def _start(self):
        def listen(host):
            port = free_port()
            return ("--listen=tcp", f"--port=tcp:{port}:interface={host}", f"--location=tcp:{host}:{port}")

        creating = [(self.introducer, self.introducer.create("create-introducer", *listen(self.hosts[0])))]
        for server, host in zip(self.servers, self.hosts[1:]):
            creating.append((server, server.create(
                "create-node", *listen(host), "--webport=none", f"--nickname={server.directory.name}")))
        for client in self.clients:
            creating.append((client, client.create("create-client", f"--webport=tcp:0:interface={LOOPBACK}")))
        for node, process in creating:
            if process.wait() != 0:
                raise GridError(f"cannot create {node.directory.name}\n{node.tail()}")

        self.introducer.start()
        furl = self.introducer.directory / "private" / "introducer.furl"
        self.introducer.await_("introducer.furl", lambda: furl.exists() and furl.read_text().strip())
        # Who finds nobody listening tries again ever later.
        self.introducer.await_("running introducer", lambda: b"introducer running" in self.introducer.log.read_bytes())
        introducers = f"introducers:\n  grid:\n    furl: {furl.read_text().strip()}\n"
        for node in [*self.servers, *self.clients]:
            (node.directory / "private" / "introducers.yaml").write_text(introducers)
        for client in self.clients:
            (client.directory / "private" / "convergence").write_text(CONVERGENCE + "\n")
        for server in self.servers:
            server.start()
        self._start_client(self.client, self.shape)
        if self.foolscap:
            self._start_client(self.foolscap, self.shape | dict(foolscap=True))

    def configure(self, k, happy, n, segment=MIB, layout=1, foolscap=False):
        """Makes later uploads k-of-n on at least happy servers, with this
        maximum segment size in bytes and share layout (1 or 2). With foolscap
        the client does without HTTPS."""
        shape = dict(k=k, happy=happy, n=n, segment=segment, layout=layout, foolscap=foolscap)
        if shape != self.shape:
            self.client.stop()
            self.shape = shape
            self._start_client(self.client, shape)

    def start_server(self, number):
        """Starts a storage node that has been killed and waits until it listens."""
        server = self.servers[number]
        server.process.wait()
        server.process.stdin.close()
        before = server.log.stat().st_size
        server.start()
        server.await_("running node", lambda: b"client running" in server.log.read_bytes()[before:])

    def _start_client(self, client, shape):
        config = client.directory / "tahoe.cfg"
        wanted = {
            "shares.needed": shape["k"],
            "shares.happy": shape["happy"],
            "shares.total": shape["n"],
            "shares._max_immutable_segment_size_for_testing": shape["segment"],
            "force_foolscap": shape["foolscap"],
        }
        lines = []
        for line in config.read_text().splitlines():
            if line.lstrip("#").split("=")[0].strip() not in wanted:
                lines.append(line)
            if line.strip() == "[client]":
                lines.extend(f"{name} = {value}" for name, value in wanted.items())
        config.write_text("\n".join(lines) + "\n")

        url = client.directory / "node.url"
        url.unlink(missing_ok=True)
        for attempt in range(3):
            client.start(shape["layout"])
            try:
                client.await_(
                    "connection to every storage node",
                    lambda: url.exists() and self._connected(client) == len(self.servers),
                    PATIENCE / 2,
                )
                return
            except GridError:
                # A client may have lost a storage node for a long time that was not there yet when it looked.
                if attempt == 2:
                    raise
                client.stop()
                url.unlink(missing_ok=True)

    def _connected(self, client):
        try:
            with urllib.request.urlopen(f"{self.url_of(client)}?t=json", timeout=10) as answer:
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
        description = {
            "client": str(self.client.directory),
            "node_url": self.node_url,
            "client_pid": self.client.process.pid,
            "storage": [str(s) for s in self.storage],
            "pids": [s.process.pid for s in self.servers],
            "tahoe": str(self.venv / "bin" / "tahoe"),
        }
        if self.foolscap:
            description |= {"foolscap_url": self.url_of(self.foolscap), "foolscap_pid": self.foolscap.process.pid}
        return description


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("venv")
    parser.add_argument("directory")
    parser.add_argument("--hosts", default=",".join([LOOPBACK] * (1 + STORAGE_NODES)))
    parser.add_argument("--far")
    parser.add_argument("--foolscap", action="store_true")
    options = parser.parse_args()
    with Grid(options.venv, options.directory, options.hosts.split(","), options.far, options.foolscap) as grid:
        print(json.dumps(grid.describe()), flush=True)
        for line in sys.stdin:
            request = json.loads(line)
            if "start" in request:
                grid.start_server(request["start"])
            else:
                grid.configure(**request)
            print(json.dumps(grid.describe()), flush=True)


if __name__ == "__main__":
    main()
