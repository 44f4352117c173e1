"""A fake of Google's APIs on loopback: what gcloud asks for machines with TPUs, and the metadata server of those machines.

There is no way to have the real ones here. It keeps what was created, says yes to everything well-formed, and remembers
the requests. Its machines are the addresses that it is given.
"""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_MADE = re.compile(
    r"/(?P<api>v\w+|compute/\w+)/projects/(?P<project>[^/]+)/(?P<where>(?:locations|zones|regions)/[^/]+|global)"
    r"/(?P<kind>\w+)(?:/(?P<name>[^/:]+))?(?:[/:](?P<verb>[\w-]+))?$"
)


class FakeGoogle:
    """The server; `requests` holds method, path and body of what changed something, `states` those of a queued resource
    yet to come."""

    def __init__(self, addresses):
        self.addresses, self.requests, self.things, self.states = addresses, [], {}, []
        self.keys, self.answers = {"kind": "compute#metadata"}, {}
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def env(self, folder):
        """What a gcloud needs to talk to this server alone; it keeps its files in a folder."""
        (folder / "token").write_text("fake")
        here = f"http://127.0.0.1:{self.port}/"
        return {
            "CLOUDSDK_CONFIG": str(folder / "gcloud"),
            "CLOUDSDK_AUTH_ACCESS_TOKEN_FILE": str(folder / "token"),
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_TPU": here,
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE": f"{here}compute/v1/",
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_OSLOGIN": here,
            "CLOUDSDK_CORE_PROJECT": "configured",
            "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
            "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "true",
            "CLOUDSDK_CORE_DISABLE_FILE_LOGGING": "1",
            "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "true",
            "CLOUDSDK_SURVEY_DISABLE_PROMPTS": "true",
        }

    def metadata_host(self, worker):
        """The metadata server of one machine, as `GCE_METADATA_HOST` names it."""
        return f"127.0.0.1:{self.port}/worker{worker}"

    def answer(self, method, path, query, body):
        """The response to a request, and its code."""
        if found := re.fullmatch(r"/worker(\d+)/computeMetadata/v1/instance/attributes/([\w-]+)", path):
            return self.attribute(int(found[1]), found[2])
        if found := re.fullmatch(r"/(compute/\w+)/projects/([^/]+)(/setCommonInstanceMetadata)?", path):
            if found[3]:
                self.keys = body
                return self.operation(found[1], (found[2], "global"), "set-on-project", {})
            return {"name": "project", "commonInstanceMetadata": self.keys}
        found = _MADE.fullmatch(path)
        if found is None:
            return None
        if method != "GET":
            self.requests.append((method, path, body))
        return self.about(found, method, query, body)

    def about(self, found, method, query, body):
        """The response to a request about something that is made, or was."""
        kind, name, where = found["kind"], found["name"], (found["project"], found["where"])
        if kind == "operations" and found["verb"] in (None, "wait"):
            return self.operation(found["api"], where, name, self.answers.get(name, {}))
        if found["verb"] is not None:
            return self.verb(found["api"], where, kind, name, found["verb"], query, body)
        if method == "GET":
            return self.thing(where, kind, name)
        name = self.change(kind, name, method, query, body)
        operation = f"{ {'POST': 'insert', 'DELETE': 'delete', 'PATCH': 'update'}[method] }-on-{kind}-{name}"
        self.answers[operation] = self.thing(where, kind, name) or {}
        return self.operation(found["api"], where, operation, self.answers[operation])

    def change(self, kind, name, method, query, body):
        """Make, change or remove something; its name."""
        if method == "POST":
            name = query.get("nodeId") or query.get("queuedResourceId") or body.get("name")
            self.things[(kind, name)] = {**body, "name": name}
            if kind == "queuedResources":
                node = body["tpu"]["nodeSpec"][0]
                self.things[("nodes", node["nodeId"])] = dict(node["node"])
        elif method == "PATCH":
            self.things[(kind, name)].update(body)
        else:
            self.things.pop((kind, name), None)
        return name

    def attribute(self, worker, name):
        """What a machine of a slice is told of itself, by Cloud TPU."""
        said = {
            "agent-worker-number": str(worker),
            "worker-network-endpoints": ",".join(f"unknown:unknown:{address}" for address in self.addresses),
        }
        return said.get(name)

    def operation(self, api, where, name, response):
        if api.startswith("compute"):
            at = f"http://127.0.0.1:{self.port}/{api}/projects/{'/'.join(where)}"
            verb, _, target = name.partition("-on-")
            return {"name": name, "status": "DONE", "progress": 100, "selfLink": f"{at}/operations/{name}",
                    "targetLink": f"{at}/{target.replace('-', '/', 1)}", "operationType": verb,
                    **{key: at for key in ("zone", "region") if f"/{key}s/" in at}}  # fmt: skip
        return {"name": f"projects/{'/'.join(where)}/operations/{name}", "done": True, "response": response or {}}

    def thing(self, where, kind, name):
        """What was made, as the API shows it; some things are always there."""
        full = f"projects/{'/'.join(where)}/{kind}/{name}"
        made = self.things.get((kind, name))
        if name is None:
            return {"items": []}
        if kind in ("acceleratorTypes", "machineTypes", "images"):
            return {"name": name if kind != "acceleratorTypes" else full, "type": name}
        if made is None:
            return None
        if kind == "nodes":
            ends = [{"ipAddress": one, "accessConfig": {"externalIp": one}, "port": 8470} for one in self.addresses]
            return {**made, "name": full, "id": "1", "state": "READY", "apiVersion": "V2", "networkEndpoints": ends}
        if kind == "queuedResources":
            state = self.states.pop(0) if self.states else "ACTIVE"
            return {**made, "name": full, "state": {"state": state}}
        at = f"http://127.0.0.1:{self.port}/compute/v1/{full}"
        if kind == "instances":
            address = self.addresses[int(name[-1]) if name[-2:-1] == "-" and name[-1].isdigit() else 0]
            access = {"name": "external-nat", "type": "ONE_TO_ONE_NAT", "natIP": address}
            card = {"networkIP": address, "accessConfigs": [access]}
            return {**made, "name": name, "id": "1", "status": "RUNNING", "selfLink": at, "networkInterfaces": [card]}
        if kind == "instanceGroupManagers":
            return {**made, "selfLink": at, "status": {"isStable": True}, "instanceGroup": at}
        return {**made, "selfLink": at}

    def verb(self, api, where, kind, name, verb, query, body):
        if kind == "images":  # images/family/NAME
            return {
                "name": name,
                "selfLink": f"http://127.0.0.1:{self.port}/compute/v1/projects/x/global/images/{name}",
            }
        if verb == "listManagedInstances":
            at = f"http://127.0.0.1:{self.port}/compute/v1/projects/{'/'.join(where)}/instances/{name}"
            names = [f"{at}-{index}" for index in range(len(self.addresses))]
            self.things |= {("instances", one.rpartition("/")[2]): {} for one in names}
            return {"managedInstances": [{"instance": one, "instanceStatus": "RUNNING"} for one in names]}
        if verb == "getGuestAttributes":
            return {"guestAttributes": []}
        return self.operation(api, where, f"{verb}-on-{kind}-{name}", {})


def _handler(google):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do(self):
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path, _, words = self.path.partition("?")
            query = dict(word.partition("=")[::2] for word in words.split("&") if word)
            found = google.answer(self.command, path, query, json.loads(raw) if raw else {})
            text = found if isinstance(found, str) else json.dumps(found or {"error": {"code": 404, "message": path}})
            self.send_response(404 if found is None else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        do_GET = do_POST = do_PATCH = do_DELETE = do  # noqa: N815 - http.server calls them so

        def log_message(self, *_):
            pass

    return Handler
