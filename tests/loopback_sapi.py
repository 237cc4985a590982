"""A local server that speaks D-Wave's solver API, for driving the real clients end to end; it answers with solutions.

What a request or an answer looks like is read off `dwave.cloud` 0.14: paths, media types, the `qp` coding of Ising
problems, multipart upload of models, polling, and the `bq` and `binary-ref` codings of hybrid answers.
"""

import base64
import hashlib
import io
import itertools
import json
import math
import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dimod
import dwave.graphs
import numpy as np
import pytest
from dwave.cloud.testing import mocks
from dwave.optimization import Model
from dwave.samplers import SimulatedAnnealingSampler
from dwave.system.coupling_groups import coupling_groups

MEDIA = "application/vnd.dwave.sapi.{}+json; version=3.0.0"
TIMING = {"qpu_access_time": 45_000.0, "qpu_programming_time": 34_000.0}


def qpu_solver(shape: tuple[int, int] = (3, 4)) -> dict[str, Any]:
    """A QPU of Advantage2's kind, as the service describes it."""
    parameters = {name: "" for name in ("num_reads", "answer_mode", "auto_scale", "annealing_time", "label")}
    solver = mocks.qpu_zephyr_solver_data(
        *shape, h_range=[-4.0, 4.0], j_range=[-1.0, 1.0], extended_j_range=[-2.0, 1.0],
        per_qubit_coupling_range=[-18.0, 15.0], per_group_coupling_range=[-9.0, 6.0], parameters=parameters,
        chip_id="loopback_zephyr",
    )  # fmt: skip
    solver["properties"]["problem_timing_data"] = mocks.qpu_problem_timing_data()
    return solver


def hybrid_solvers() -> list[dict[str, Any]]:
    """Leap's hybrid solvers, as the service describes them."""
    return [mocks.hybrid_cqm_solver_data(minimum_time_limit_s=5), mocks.hybrid_nl_solver_data()]


class Service:
    """What the server knows: its solvers, what was uploaded, what was asked."""

    def __init__(self, solvers: list[dict[str, Any]]) -> None:
        self.solvers = solvers
        self.parts: dict[str, bytes] = {}
        self.done: dict[str, dict[str, Any]] = {}
        self.blobs: dict[str, bytes] = {}
        self.asked: list[dict[str, Any]] = []
        self.tokens: set[str | None] = set()
        self.url = ""
        self.numbers = itertools.count(1)
        self.answers = math.inf  # how many problems are answered before the service falls silent
        self.silence = threading.Event()

    def submit(self, job: dict[str, Any]) -> dict[str, Any]:
        """Solves at once; QPU answers come with the reply, hybrid ones have to be polled and fetched."""
        if len(self.asked) >= self.answers:
            self.silence.wait(20)
        self.asked.append(job)
        name = f"problem-{next(self.numbers)}"
        message = {"id": name, "type": job["type"], "solver": job["solver"], "status": "COMPLETED"}
        if job["type"] == "ising":
            return {**message, "answer": self.anneal(job)}
        data = self.parts[job["data"]["data"]]
        answer = constrained(data) if job["type"] == "cqm" else self.nonlinear(name, data)
        self.done[name] = {**message, "answer": answer}
        return {**message, "status": "PENDING"}

    def anneal(self, job: dict[str, Any]) -> dict[str, Any]:
        """The qp coding, solved by simulated annealing on the qubits, within the ranges a QPU has."""
        (solver,) = [s for s in self.solvers if s["identity"]["name"] == job["solver"]["name"]]
        properties = solver["properties"]
        h = np.frombuffer(base64.b64decode(job["data"]["lin"]))
        active = np.flatnonzero(~np.isnan(h))
        qubits = np.array(properties["qubits"])
        on = set(qubits[active].tolist())
        couplers = [c for c in properties["couplers"] if c[0] in on and c[1] in on]
        J = np.frombuffer(base64.b64decode(job["data"]["quad"]))
        assert np.abs(h[active]).max() <= 4 + 1e-9
        assert J.min() >= -2 - 1e-9
        assert J.max() <= 1 + 1e-9
        total = np.zeros(properties["num_qubits"])
        for end in (0, 1):
            np.add.at(total, [c[end] for c in couplers], J)
        assert total.min() >= -18 - 1e-9
        assert total.max() <= 15 + 1e-9
        graph = dwave.graphs.zephyr_graph(*properties["topology"]["shape"])
        strength = {frozenset(c): j for c, j in zip(couplers, J, strict=True)}
        sums = [sum(strength.get(frozenset(c), 0.0) for c in group) for group in coupling_groups(graph)]
        assert min(sums) >= -9 - 1e-9
        assert max(sums) <= 6 + 1e-9
        bqm = dimod.BQM.from_ising(dict(zip(qubits[active].tolist(), h[active], strict=True)), {})
        bqm.add_quadratic_from((p, q, j) for (p, q), j in zip(couplers, J, strict=True))
        reads = job["params"]["num_reads"]
        found = SimulatedAnnealingSampler().sample(bqm, num_reads=reads, num_sweeps=200, beta_range=[0.5, 50], seed=1)
        order = [found.variables.index(q) for q in qubits[active].tolist()]
        bits = found.record.sample[:, order] > 0
        return {
            "format": "qp",
            "solutions": coded(np.packbits(bits, axis=1).tobytes()),
            "energies": coded(found.record.energy.astype("<f8").tobytes()),
            "active_variables": coded(qubits[active].astype("<i4").tobytes()),
            "num_occurrences": coded(struct.pack(f"<{reads}i", *[1] * reads)),
            "num_variables": properties["num_qubits"],
            "timing": TIMING,
        }

    def nonlinear(self, name: str, data: bytes) -> dict[str, Any]:
        """The state file of a nonlinear model, found by trying everything."""
        model = Model.from_file(io.BytesIO(data))
        model.lock()
        model.states.resize(1)
        (choice,) = model.iter_decisions()
        best, best_state = np.inf, None
        upper = np.broadcast_to(choice.upper_bound(), choice.size()).astype(int).tolist()
        for state in itertools.product(*(range(u + 1) for u in upper)):
            choice.set_state(0, state)
            if all(row.state(0) for row in model.iter_constraints()) and model.objective.state(0) < best:
                best, best_state = float(model.objective.state(0)), state
        choice.set_state(0, best_state)
        self.blobs[name] = model.states.to_file().read()
        url = f"{self.url}answers/{name}"
        return {"format": "binary-ref", "auth_method": "sapi-token", "url": url, "timing": {"run_time": 5e6}}


def constrained(data: bytes) -> dict[str, Any]:
    """The answer to a constrained quadratic model, found by trying everything."""
    found = dimod.ExactCQMSolver().sample_cqm(dimod.CQM.from_file(io.BytesIO(data)))
    best = found.filter(lambda row: row.is_feasible).truncate(5)
    best.info.update(charge_time=5e6, run_time=5e6, qpu_access_time=70_000.0)
    return {"format": "bq", "data": best.to_serializable()}


def coded(data: bytes) -> str:
    return base64.b64encode(data).decode()


class Handler(BaseHTTPRequestHandler):
    service: Service

    def log_message(self, *_: Any) -> None:
        """Quiet."""

    def reply(self, body: Any, media: str = "", status: int = 200) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", MEDIA.format(media) if media else "application/octet-stream")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def body(self) -> bytes:
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        return zlib.decompress(data) if self.headers.get("Content-Encoding") == "deflate" else data

    def do_GET(self) -> None:
        service, (path, _, query) = self.service, self.path.partition("?")
        service.tokens.add(self.headers.get("X-Auth-Token"))
        parts = path.strip("/").split("/")[2:]  # sapi/v2
        if self.headers.get("X-Auth-Token") == "refused":
            self.reply({"error_msg": "Invalid token", "error_code": 401}, status=401)
        elif parts == ["solvers", "remote"]:
            self.reply(service.solvers, "solver-definition-list")
        elif parts[:2] == ["solvers", "remote"]:
            named = [solver for solver in service.solvers if solver["identity"]["name"] == parts[2]]
            self.reply(named[0] if named else {}, "solver-definition", 200 if named else 404)
        elif parts == ["problems"]:
            ids = query.split("&")[0].removeprefix("id=").split(",")
            states = [{k: v for k, v in service.done[name].items() if k != "answer"} for name in ids]
            self.reply(states, "problems")
        elif parts[0] == "problems":
            self.reply(service.done[parts[1]], "problem")
        elif parts[0] == "answers":
            self.reply(service.blobs[parts[1]])
        else:  # bqm/multipart/ID/status
            checksum = hashlib.md5(service.parts[parts[2]]).hexdigest() if parts[2] in service.parts else None
            uploaded = [{"part_number": 1, "checksum": checksum}] if checksum else []
            self.reply({"status": "UPLOAD_IN_PROGRESS", "parts": uploaded})

    def do_POST(self) -> None:
        parts, body = self.path.strip("/").split("/")[2:], json.loads(self.body())
        if parts == ["problems"]:
            self.reply([self.service.submit(job) for job in body], "problems")
        elif parts == ["bqm", "multipart"]:
            self.reply({"id": f"upload-{next(self.service.numbers)}"})
        else:  # bqm/multipart/ID/combine
            self.reply({})

    def do_PUT(self) -> None:
        self.service.parts[self.path.strip("/").split("/")[4]] = self.body()
        self.reply({})


@contextmanager
def serving(*solvers: dict[str, Any]) -> Iterator[Service]:
    """The server on a free port of this machine; `service.url` is its endpoint."""
    service = Service(list(solvers))
    handler = type("Bound", (Handler,), {"service": service})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    service.url = f"http://127.0.0.1:{server.server_port}/sapi/v2/"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield service
    finally:
        service.silence.set()
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No configuration of the machine's user, no proxy, no cache outside the test."""
    for name in ("DWAVE_API_TOKEN", "DWAVE_API_ENDPOINT", "DWAVE_API_SOLVER", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    config = tmp_path / "dwave.conf"
    config.write_text("[defaults]\n")
    monkeypatch.setenv("DWAVE_CONFIG_FILE", str(config))
    monkeypatch.setenv("DWAVE_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return config


def connected(config: Path, url: str, token: str = "loopback") -> None:
    config.write_text(f"[defaults]\nendpoint = {url}\ntoken = {token}\n")
