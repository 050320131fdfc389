"""A `rekindle up` of one's own, for a load test or a comparison: a temporary home, a free loopback port, an end."""
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

# What of the environment a deployment sees. No model key: what runs here is not to cost anything by accident.
PASSED_ON = ("PATH", "HOME", "LANG", "DOCKER_HOST", "TMPDIR")
START_SEC = 60
END_SEC = 30


class Failed(Exception):
    """The deployment did not do what it has to; the text says what, with the end of its log."""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Deployment:
    """Starts when it is made, answers from the beginning of `with` on, and leaves nothing at its end.

    `binaries` is the folder of the programs, `backend` is `docker` or `process`, `settings` is TOML that is added to its
    settings file. `environment` adds to what is passed on.
    """

    def __init__(self, binaries, backend, image="rekindle/agent:latest", settings="", environment=None):
        self.backend = backend
        self.home = tempfile.mkdtemp(prefix=f"rk-load-{backend}-")
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.token = None
        config = f"{self.home}/rekindle.toml"
        with open(config, "w") as file:
            file.write(f'[runtime]\ndeployment = "load-{backend}-{os.getpid()}-{self.port}"\n')
            file.write(f'[profiles.default]\nimage = "{image}"\n{settings}')
        self.log = open(f"{self.home}/up.log", "w+")
        passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        self.up = subprocess.Popen(
            [f"{binaries}/rekindle", "up", "--backend", backend, "--listen", f"127.0.0.1:{self.port}",
             "--home", self.home, "--config", config],
            env=passed_on | {"REKINDLE_HOME": self.home} | (environment or {}),
            # A Ctrl-C at the terminal is ours: units are erased before it ends.
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=subprocess.STDOUT, start_new_session=True)

    def __enter__(self):
        try:
            self.wait_until_ready()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *_):
        self.end()

    def wait_until_ready(self):
        until = time.monotonic() + START_SEC
        while time.monotonic() < until and self.up.poll() is None:
            try:
                with open(f"{self.home}/run/client.json") as file:
                    self.token = json.load(file)["token"]
                if self.call("GET", "/readyz").status == 200:
                    return
            except (OSError, ValueError, KeyError, http.client.HTTPException):
                pass  # Not yet.
            time.sleep(0.05)
        raise Failed(f"the deployment did not come up:\n{self.log_tail()}")

    def log_tail(self, characters=4000):
        with open(self.log.name) as file:
            return file.read()[-characters:]

    def call(self, method, path, body=None, headers=None, timeout=60):
        """One request on a connection of its own; the answer is `http.client`'s, not read yet."""
        wire = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"} | (headers or {})
        wire.request(method, path, json.dumps(body) if body is not None else None, headers)
        return wire.getresponse()

    def erase_units(self):
        """Erases all units: workers outlive `rekindle up` on purpose, and nobody would end these."""
        while True:
            units = json.load(self.call("GET", "/v1/units?limit=200")).get("units", [])
            left = [unit for unit in units if not unit["erasing"]]
            if not left:
                return
            for unit in left:
                self.call("DELETE", f"/v1/units/{unit['full_name']}", headers={"Prefer": "wait=30"}).read()

    def end(self):
        if self.up.poll() is None:
            try:
                if self.token:
                    self.erase_units()
            except (OSError, ValueError, http.client.HTTPException) as error:
                print(f"units of {self.home} may be left: {error}")
            self.up.send_signal(signal.SIGTERM)
            try:
                self.up.wait(END_SEC)
            except subprocess.TimeoutExpired:
                self.up.kill()
                self.up.wait()
        self.log.close()
        shutil.rmtree(self.home, ignore_errors=True)
