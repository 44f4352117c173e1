"""A fake of Kubernetes: an HTTP server that speaks the paths of its API which kubectl asks for, and runs pods as processes.

Objects are checked against their published definitions where those are at hand. What a controller would do with one is
imitated as far as a run sees it: pods with the labels and variables of their node, conditions, deletion. A container is
its command, started on this machine; like a kubelet it expands `$(NAME)` and `$$`. By hand:
`python tests/tools/fake_apiserver.py FOLDER` serves until it is interrupted, with the configuration for kubectl in FOLDER.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import crds

KINDS = {
    ("trainer.kubeflow.org/v1alpha1", "trainjobs"): "TrainJob",
    ("kubeflow.org/v1", "pytorchjobs"): "PyTorchJob",
    ("jobset.x-k8s.io/v1alpha2", "jobsets"): "JobSet",
}
CONDITIONS = {
    "TrainJob": ("Complete", "Failed"),
    "PyTorchJob": ("Succeeded", "Failed"),
    "JobSet": ("Completed", "Failed"),
}
SECRETS = {"keys": {"TOKEN": "it's a\nsecret"}}


class Pod:
    """One container of a pod, as a process of this machine."""

    def __init__(self, cluster, name, labels, container, env):
        self.name, self.labels, self.container = name, labels, container["name"]
        self.log = cluster.folder / f"{name}.log"
        values = {
            item["name"]: item["value"] if "value" in item else _secret(item) for item in container.get("env", ())
        }
        command = [expanded(word, {**env, **values}) for word in container["command"]]
        kept = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                env={**kept, **cluster.env, **env, **values},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def ended(self):
        return self.process.poll()

    def stop(self):
        """As a kubelet: ask, then end."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def described(self):
        code = self.ended
        state = {"running": {}} if code is None else {"terminated": {"exitCode": code if code >= 0 else 128 - code}}
        phase = "Running" if code is None else "Failed" if code else "Succeeded"
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": self.name, "namespace": "default", "labels": self.labels},
            "spec": {"containers": [{"name": self.container, "image": "none"}]},
            "status": {"phase": phase, "containerStatuses": [{"name": self.container, "state": state}]},
        }


def _secret(item):
    reference = item["valueFrom"]["secretKeyRef"]
    return SECRETS[reference["name"]][reference["key"]]


def expanded(word, env):
    """A word of a command as a kubelet starts it: variables that there are, and one `$` for two."""
    return re.sub(
        r"\$(?:(\$)|\(([^)]*)\))",
        lambda found: "$" if found[1] else env.get(found[2], found[0]),
        word,
        flags=re.DOTALL,
    )


class Cluster:
    """What the server knows: objects by resource and name, and the pods of each. `held` keeps new pods from starting."""

    def __init__(self, folder, env=None):
        self.folder, self.env = Path(folder), dict(env or {})
        self.objects, self.pods, self.lock = {}, {}, threading.RLock()
        self.held, self.deadlines = False, set()

    def create(self, resource, value):
        """Take an object, and start its pods."""
        with self.lock:
            name = value["metadata"]["name"]
            self.objects[resource, name] = value
            self.pods[resource, name] = []
            if not self.held:
                self.run(resource, name)

    def run(self, resource, name):
        """Start the pods of an object."""
        value = self.objects[resource, name]
        for pod, labels, container, env in self._nodes(value):
            self.pods[resource, name].append(Pod(self, pod, labels, container, env))

    def release(self):
        """Start the pods of all objects that have none."""
        with self.lock:
            self.held = False
            for resource, name in [key for key, pods in self.pods.items() if not pods]:
                self.run(resource, name)

    def _nodes(self, value):
        """Each pod of an object: its name, labels, container and what the controller adds to its variables."""
        spec, name = value["spec"], value["metadata"]["name"]
        if value["kind"] == "PyTorchJob":
            count = sum(replica["replicas"] for replica in spec["pytorchReplicaSpecs"].values())
            for rank in range(count):
                role = "Worker" if rank else "Master"
                template = spec["pytorchReplicaSpecs"][role]["template"]
                world = {
                    "RANK": str(rank),
                    "WORLD_SIZE": "77",
                    "MASTER_ADDR": "nowhere",
                    "MASTER_PORT": "1",
                    "PET_NNODES": "77",
                }
                yield (
                    f"{name}-{role.lower()}-{max(rank - 1, 0)}",
                    template["metadata"]["labels"],
                    template["spec"]["containers"][0],
                    world,
                )
            return
        if value["kind"] == "TrainJob":
            patch = spec["runtimePatches"][0]["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"][0]
            template, count = patch["template"]["spec"]["template"], spec["trainer"]["numNodes"]
            container = {**spec["trainer"], "name": "node"}
        else:
            job = spec["replicatedJobs"][0]["template"]["spec"]
            template, count = job["template"], job["completions"]
            container = template["spec"]["containers"][0]
        for index in range(count):
            injected = {"JOB_COMPLETION_INDEX": str(index), "PET_NNODES": "77", "PET_MASTER_ADDR": "nowhere"}
            yield f"{name}-node-0-{index}-x", template["metadata"]["labels"], container, injected

    def delete(self, resource, name):
        """End the pods of an object, and forget it."""
        with self.lock:
            pods = self.pods.get((resource, name), [])
        for pod in pods:
            pod.stop()
        with self.lock:
            self.pods.pop((resource, name), None)
            return self.objects.pop((resource, name), None)

    def described(self, resource, name):
        """An object with the status that its controller would give it."""
        value, pods = self.objects[resource, name], self.pods[resource, name]
        done, failed = CONDITIONS[value["kind"]]
        codes = [pod.ended for pod in pods]
        words = [("Created" if value["kind"] == "PyTorchJob" else "Suspended", value["kind"] == "PyTorchJob", "Made")]
        if value["kind"] == "PyTorchJob":
            words.append(("Running", None in codes and not any(codes), "Running"))
        if any(codes) or name in self.deadlines:
            words.append((failed, True, "DeadlineExceeded" if name in self.deadlines else "Failed"))
        elif pods and None not in codes:
            words.append((done, True, "Done"))
        ready = {"name": "node", "ready": int(bool(pods)), "active": 0, "failed": 0, "succeeded": 0, "suspended": 0}
        status = {"conditions": [{"type": word, "status": str(true), "reason": why} for word, true, why in words]}
        if value["kind"] == "TrainJob":
            status["jobsStatus"] = [ready]
        if value["kind"] == "JobSet":
            status["replicatedJobsStatus"] = [ready]
        return {**value, "status": status}

    def stop(self):
        """End everything that runs."""
        for resource, name in list(self.objects):
            self.delete(resource, name)


class Handler(BaseHTTPRequestHandler):
    """The paths of the API."""

    protocol_version = "HTTP/1.1"
    cluster: Cluster

    def log_message(self, *_):
        """Nothing is printed."""

    def _answer(self, value, code=200):
        raw = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def _refuse(self, code, reason, message):
        status = {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "reason": reason,
            "message": message,
            "code": code,
        }
        self._answer(status, code)

    def do_GET(self):
        url = urlsplit(self.path)
        asked = {key: values[-1] for key, values in parse_qs(url.query).items()}
        if (found := DISCOVERY.get(url.path)) is not None:
            self._answer(found)
        elif (log := re.fullmatch(r"/api/v1/namespaces/[^/]+/pods/([^/]+)/log", url.path)) is not None:
            self._log(log[1], follow=asked.get("follow") == "true")
        elif url.path.endswith("/pods") or _resource(url.path) is not None:
            self._list(url.path, asked.get("labelSelector", ""))
        else:
            self._refuse(404, "NotFound", f"the server could not find {url.path}")

    def _list(self, path, selector):
        cluster, key, value = self.cluster, *selector.split("=")
        with cluster.lock:
            if path.endswith("/pods"):
                items = [pod.described() for pods in cluster.pods.values() for pod in pods]
                kind, version = "Pod", "v1"
            else:
                version, resource, _name = _resource(path)
                kind = KINDS[version, resource]
                items = [cluster.described(*known) for known in cluster.objects if known[0] == resource]
        items = [item for item in items if item["metadata"]["labels"].get(key) == value]
        self._answer({"kind": f"{kind}List", "apiVersion": version, "metadata": {}, "items": items})

    def _log(self, name, *, follow):
        pod = next(pod for pods in self.cluster.pods.values() for pod in pods if pod.name == name)
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Connection", "close")
        self.end_headers()
        with pod.log.open("rb") as log:
            while True:
                going_on = follow and pod.ended is None
                self.wfile.write(log.read())
                if not going_on:
                    break
                time.sleep(0.05)
        self.close_connection = True

    def do_POST(self):
        url = urlsplit(self.path)
        value = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        version, resource, _ = _resource(url.path)
        faults = crds.faults(value) if crds.FOLDER.is_dir() else []
        name = value["metadata"]["name"]
        if faults:
            self._refuse(
                400, "BadRequest", f"{value['kind']} in version {version} cannot be handled: {'; '.join(faults)}"
            )
        elif (resource, name) in self.cluster.objects:
            self._refuse(409, "AlreadyExists", f'{resource} "{name}" already exists')
        else:
            if "dryRun" not in parse_qs(url.query):
                self.cluster.create(resource, value)
            self._answer(value, 201)

    def do_DELETE(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        _, resource, name = _resource(urlsplit(self.path).path)
        if (resource, name) not in self.cluster.objects:
            self._refuse(404, "NotFound", f'{resource} "{name}" not found')
            return
        threading.Thread(target=self.cluster.delete, args=(resource, name)).start()
        self._answer({"kind": "Status", "apiVersion": "v1", "status": "Success"})


def _resource(path):
    """The version, resource and name that a path speaks of."""
    found = re.fullmatch(r"/apis/([^/]+/[^/]+)/namespaces/[^/]+/([^/]+)(?:/([^/]+))?", path)
    return (found[1], found[2], found[3]) if found is not None and (found[1], found[2]) in KINDS else None


def _discovery():
    """What kubectl asks before anything else: groups, resources, and that fields are checked and trials possible."""
    verbs = ["create", "delete", "get", "list", "patch", "watch"]
    groups, found = [], {}
    for (version, resource), kind in KINDS.items():
        group, _, word = version.partition("/")
        served = {"groupVersion": version, "version": word}
        groups.append({"name": group, "versions": [served], "preferredVersion": served})
        item = {"name": resource, "singularName": kind.lower(), "namespaced": True, "kind": kind, "verbs": verbs}
        found[f"/apis/{version}"] = {
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": version,
            "resources": [item],
        }
        named = {"group": group, "version": word, "kind": kind}
        options = [
            {"name": name, "in": "query", "schema": {"type": "string"}} for name in ("dryRun", "fieldValidation")
        ]
        patch = {"x-kubernetes-group-version-kind": named, "parameters": options, "responses": {}}
        described = {
            "openapi": "3.0.0",
            "info": {"title": "fake", "version": "1"},
            "paths": {f"/apis/{version}/{resource}": {"patch": patch}},
        }
        found[f"/openapi/v3/apis/{version}"] = described
    pods = {"name": "pods", "singularName": "pod", "namespaced": True, "kind": "Pod", "verbs": verbs}
    found["/api"] = {"kind": "APIVersions", "versions": ["v1"]}
    found["/api/v1"] = {"kind": "APIResourceList", "groupVersion": "v1", "resources": [pods]}
    found["/apis"] = {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
    found["/version"] = {"major": "1", "minor": "32", "gitVersion": "v1.32.0"}
    paths = {f"apis/{version}": {"serverRelativeURL": f"/openapi/v3/apis/{version}"} for version, _ in KINDS}
    found["/openapi/v3"] = {"paths": paths}
    found["/openapi/v2"] = b""
    return found


DISCOVERY = _discovery()


class FakeServer:
    """The server on a free port, and the configuration with which kubectl finds it."""

    def __init__(self, folder, env=None):
        self.cluster = Cluster(folder, env)
        handler = type("Served", (Handler,), {"cluster": self.cluster})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.kubeconfig = Path(folder) / "kubeconfig"
        self.kubeconfig.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "fake",
                    "clusters": [
                        {"name": "fake", "cluster": {"server": f"http://127.0.0.1:{self.server.server_port}"}}
                    ],
                    "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake"}}],
                    "users": [{"name": "fake", "user": {}}],
                }
            )
        )
        self._thread = threading.Thread(target=self.server.serve_forever)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()
        self.cluster.stop()


if __name__ == "__main__":
    with FakeServer(Path(sys.argv[1])) as served:
        print(f"export KUBECONFIG={served.kubeconfig}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()
