"""A fake of Amazon's services on a loopback address: it takes what an SDK sends and keeps it; nothing is carried out."""

from __future__ import annotations

import json
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

IDENTITY = """<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>
<Arn>arn:aws:iam::123456789012:user/one</Arn><UserId>one</UserId><Account>123456789012</Account>
</GetCallerIdentityResult><ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></GetCallerIdentityResponse>"""
BUCKETS = """<ListAllMyBucketsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Owner><ID>1</ID></Owner><Buckets>
<Bucket><Name>bucket</Name><CreationDate>2026-01-01T00:00:00.000Z</CreationDate></Bucket></Buckets></ListAllMyBucketsResult>"""


class FakeAws:
    """Answers as S3, STS and SageMaker do, far enough for a training job to be created. `created` are its requests."""

    def __init__(self) -> None:
        self.created: list[dict] = []
        self.objects: dict[str, bytes] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.fake = self
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def variables(self) -> dict[str, str]:
        """What sends an SDK here."""
        return {"AWS_ENDPOINT_URL": self.url, "AWS_DEFAULT_REGION": "us-east-1", "no_proxy": "*"}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_PUT(self) -> None:
        self.server.fake.objects[urllib.parse.unquote(self.path.partition("?")[0])] = self._body()
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer(BUCKETS if self.path == "/" else "<ListBucketResult></ListBucketResult>", "application/xml")

    def do_POST(self) -> None:
        body, target, fake = self._body(), self.headers.get("X-Amz-Target", ""), self.server.fake
        if target.endswith(".CreateTrainingJob"):
            fake.created.append(json.loads(body))
            name = fake.created[-1]["TrainingJobName"]
            self._answer(
                json.dumps({"TrainingJobArn": f"arn:aws:sagemaker:us-east-1:123456789012:training-job/{name}"})
            )
        elif target.endswith(".DescribeTrainingJob"):
            self._answer(json.dumps({**fake.created[-1], "TrainingJobStatus": "InProgress"}))
        elif b"Action=GetCallerIdentity" in body:
            self._answer(IDENTITY, "text/xml")
        else:
            self._answer(json.dumps({"__type": "UnknownOperation"}), code=400)

    def _answer(self, body: str = "", kind: str = "application/x-amz-json-1.1", code: int = 200) -> None:
        content = body.encode()
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", '"0"')
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _body(self) -> bytes:
        found = b""
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline().split(b";")[0], 16):
                found += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            found = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return _without_chunks(found) if "aws-chunked" in self.headers.get("Content-Encoding", "") else found


def _without_chunks(body: bytes) -> bytes:
    """What S3's own chunks hold, which carry a checksum behind them."""
    found = b""
    while body:
        head, _, body = body.partition(b"\r\n")
        size = int(head.split(b";")[0], 16)
        if not size:
            break
        found, body = found + body[:size], body[size + 2 :]
    return found
