"""A stand-in for the Kubernetes API, for one namespace.

It serves what the run launcher of dagster-k8s and `kubectl apply --server-side` ask for. Every object is checked
against the schemas of Kubernetes. What becomes of the pods of Jobs is left to a `PodRunner`.
"""

import json
import re
import ssl
import threading
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

import yaml

from sync_pipeline_tests.deploy.chart import NAMESPACE, Manifest, validate

# Of a ConfigMap and of a Secret: Kubernetes' own limit.
LIMIT_BYTES = 1024 * 1024
RESOURCES = {"configmaps": "ConfigMap", "secrets": "Secret", "jobs": "Job", "pods": "Pod", "events": "Event"}
GROUPS = {"batch": ["jobs"], "": ["configmaps", "secrets", "pods", "events"]}
VERBS = {"GET": "get", "POST": "create", "PATCH": "patch", "DELETE": "delete"}
FIELD_MANAGER = "fieldManager"


@dataclass(frozen=True)
class PodStatus:
    """Whether a pod has ended, and how."""

    running: bool
    exit_code: int | None = None


class PodRunner(Protocol):
    """Starts and stops the pods of Jobs, by the Job's name."""

    def start(self, name: str, template: Manifest) -> None: ...
    def stop(self, name: str) -> None: ...
    def status(self, name: str) -> PodStatus: ...
    def log(self, name: str) -> str: ...


@dataclass
class Recorder:
    """Starts no pods: those of all Jobs are taken to be running."""

    started: dict[str, Manifest] = field(default_factory=dict)

    def start(self, name: str, template: Manifest) -> None:
        self.started[name] = template

    def stop(self, name: str) -> None:
        del self.started[name]

    def status(self, name: str) -> PodStatus:
        return PodStatus(running=name in self.started)

    def log(self, name: str) -> str:
        return f"{name} has printed nothing"


class RefusedError(Exception):
    """A request that the API does not grant."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason


class KubernetesApi:
    """The API on an address, as a context manager.

    `tokens` are those of service accounts, by token; `rules` what each account may do. Without tokens anybody may do
    anything.
    """

    def __init__(
        self,
        pods: PodRunner,
        *,
        address: str = "127.0.0.1",
        tls: ssl.SSLContext | None = None,
        tokens: Mapping[str, str] | None = None,
        rules: Mapping[str, list[Manifest]] | None = None,
    ) -> None:
        self.pods = pods
        self.tokens = tokens
        self.rules = rules or {}
        self.objects: dict[tuple[str, str], Manifest] = {}
        # Requests that were refused, with the reason.
        self.refused: list[str] = []
        self._lock = threading.RLock()
        self._server = ThreadingHTTPServer((address, 0), _handler(self))
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.url = f"{'https' if tls else 'http'}://{address}:{self.port}"

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def __enter__(self) -> "KubernetesApi":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def of_kind(self, kind: str) -> dict[str, Manifest]:
        """Objects of a kind by name."""
        with self._lock:
            return {name: manifest for (found, name), manifest in self.objects.items() if found == kind}

    def data(self, kind: str, name: str) -> dict[str, bytes]:
        """The files of a ConfigMap or Secret. Raises KeyError where there is none of this name."""
        with self._lock:
            manifest = self.objects[kind, name]
        texts = {key: value.encode() for key, value in ((manifest.get("data") or {}).items()) if kind == "ConfigMap"}
        encoded = {**(manifest.get("binaryData") or {}), **((manifest.get("data") or {}) if kind == "Secret" else {})}
        plain = {key: value.encode() for key, value in (manifest.get("stringData") or {}).items()}
        return {**texts, **{key: b64decode(value) for key, value in encoded.items()}, **plain}

    def put(self, manifest: Manifest) -> Manifest:
        """Create or replace an object. Raises `RefusedError`."""
        try:
            validate(manifest)
        except AssertionError as error:
            raise RefusedError(422, "Invalid", str(error)) from None
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        with self._lock:
            before = self.objects.get((kind, name))
            self.objects[kind, name] = manifest
            if kind in ("ConfigMap", "Secret") and sum(map(len, self.data(kind, name).values())) > LIMIT_BYTES:
                if before is None:
                    del self.objects[kind, name]
                else:
                    self.objects[kind, name] = before
                message = f"{kind} {name} is invalid: data: Too long: may not be more than {LIMIT_BYTES} bytes"
                raise RefusedError(422, "Invalid", message)
        return manifest

    def answer(self, method: str, target: str, body: Any, token: str) -> tuple[int, Any]:
        """Answer a request with a status and a document, or a text."""
        url = urlsplit(target)
        query = {key: values[-1] for key, values in parse_qs(url.query).items()}
        discovered = _discovery(url.path)
        if method == "GET" and discovered is not None:
            return 200, discovered
        path = re.fullmatch(
            r"(?:/api|/apis/(?P<group>[^/]+))/v1/namespaces/(?P<namespace>[^/]+)/(?P<resource>\w+)"
            r"(?:/(?P<name>[^/]+)(?:/(?P<part>\w+))?)?",
            url.path,
        )
        if path is None or path["resource"] not in RESOURCES or path["namespace"] != NAMESPACE:
            raise RefusedError(404, "NotFound", f"the stand-in does not serve {url.path}")
        verb = "list" if method == "GET" and path["name"] is None else VERBS[method]
        self._authorize(token, verb, path["group"] or "", "/".join(filter(None, (path["resource"], path["part"]))))
        kind, name = RESOURCES[path["resource"]], path["name"]
        if method == "POST":
            return 201, self._create(kind, body)
        if method == "PATCH":
            if FIELD_MANAGER not in query:
                raise RefusedError(415, "UnsupportedMediaType", "only server-side apply is served")
            return 200, self.put(body)
        if verb == "list":
            return 200, {"kind": f"{kind}List", "apiVersion": "v1", "metadata": {}, "items": self._list(kind, query)}
        found = self._find(kind, name)
        if method == "DELETE":
            self._delete(kind, name)
            return 200, found
        return 200, self.pods.log(name) if path["part"] == "log" else found

    def _authorize(self, token: str, verb: str, group: str, resource: str) -> None:
        if self.tokens is None:
            return
        account = self.tokens.get(token)
        if account is None:
            raise RefusedError(401, "Unauthorized", "no service account has this token")
        for rule in self.rules.get(account, []):
            if group in rule["apiGroups"] and resource in rule["resources"] and verb in rule["verbs"]:
                return
        raise RefusedError(403, "Forbidden", f"{account} cannot {verb} resource {resource} in API group '{group}'")

    def _create(self, kind: str, manifest: Manifest) -> Manifest:
        if (kind, manifest["metadata"]["name"]) in self.objects:
            raise RefusedError(409, "AlreadyExists", f"{kind} {manifest['metadata']['name']} already exists")
        created = self.put(manifest)
        if kind == "Job":
            self.pods.start(created["metadata"]["name"], created["spec"]["template"])
        return created

    def _find(self, kind: str, name: str) -> Manifest:
        # A pod of a Job has the Job's name here.
        stored = self.of_kind("Job" if kind == "Pod" else kind)
        if name not in stored:
            raise RefusedError(404, "NotFound", f"{kind} {name} not found")
        return self._pod(name, stored[name]) if kind == "Pod" else self._with_status(stored[name])

    def _list(self, kind: str, query: Mapping[str, str]) -> list[Manifest]:
        found = [self._find(kind, name) for name in self.of_kind("Job" if kind == "Pod" else kind)]
        wanted = dict(term.split("=", 1) for term in query.get("labelSelector", "").split(",") if term)
        fields = dict(term.split("=", 1) for term in query.get("fieldSelector", "").split(",") if term)
        return [
            one
            for one in found
            if wanted.items() <= (one["metadata"].get("labels") or {}).items()
            and fields.get("metadata.name", one["metadata"]["name"]) == one["metadata"]["name"]
        ]

    def _delete(self, kind: str, name: str) -> None:
        if kind in ("Job", "Pod"):
            self.pods.stop(name)
        with self._lock:
            self.objects.pop((kind, name), None)

    def _with_status(self, manifest: Manifest) -> Manifest:
        if manifest["kind"] != "Job":
            return manifest
        status = self.pods.status(manifest["metadata"]["name"])
        succeeded = not status.running and status.exit_code == 0
        counts = {"active": int(status.running), "succeeded": int(succeeded)}
        return {**manifest, "status": {**counts, "failed": int(not status.running and not succeeded)}}

    def _pod(self, name: str, job: Manifest) -> Manifest:
        template = job["spec"]["template"]
        status = self.pods.status(name)
        phase = "Running" if status.running else "Succeeded" if status.exit_code == 0 else "Failed"
        labels = {**(template["metadata"].get("labels") or {}), "job-name": name}
        return {
            "kind": "Pod",
            "apiVersion": "v1",
            "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels},
            "spec": template["spec"],
            "status": {"phase": phase, "containerStatuses": []},
        }


def _discovery(path: str) -> Manifest | None:
    """What clients ask first: which groups, versions and resources there are."""
    group_version = re.fullmatch(r"(?:/api|/apis/(?P<group>[^/]+))/v1", path)
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/apis":
        version = {"groupVersion": "batch/v1", "version": "v1"}
        group = {"name": "batch", "versions": [version], "preferredVersion": version}
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [group]}
    if group_version is None:
        return None
    group_name = group_version["group"] or ""
    listed = [
        {"name": name, "singularName": "", "namespaced": True, "kind": RESOURCES[name], "verbs": [*VERBS.values()]}
        for name in GROUPS.get(group_name, [])
    ]
    called = f"{group_name}/v1" if group_name else "v1"
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": called, "resources": listed}


def _handler(api: KubernetesApi) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            # Clients write the scheme in upper or lower case.
            _, _, token = (self.headers.get("Authorization") or "").partition(" ")
            try:
                code, document = api.answer(self.command, self.path, yaml.safe_load(body) if body else None, token)
            except RefusedError as error:
                api.refused.append(f"{self.command} {self.path}: {error}")
                told = {"status": "Failure", "message": str(error), "reason": error.reason, "code": error.code}
                code, document = error.code, {"kind": "Status", "apiVersion": "v1", "metadata": {}, **told}
            except Exception as error:  # noqa: BLE001 (a fault of the stand-in, which the test shall show)
                api.refused.append(f"{self.command} {self.path}: {type(error).__name__}: {error}")
                told = {"status": "Failure", "message": str(error), "reason": "InternalError", "code": 500}
                code, document = 500, {"kind": "Status", "apiVersion": "v1", "metadata": {}, **told}
            text = document if isinstance(document, str) else json.dumps(document)
            self.send_response(code)
            self.send_header("Content-Type", "text/plain" if isinstance(document, str) else "application/json")
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        do_GET = do_POST = do_PATCH = do_DELETE = _serve  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing: what is of interest is in `refused`."""

    return Handler
