"""What the benchmark's policy says, once: the words that the drivers' configurations share."""

HOST = "web.bench.svc.cluster.local"
PORT = 80
SERVICE_ADDRESS = "127.96.77.1"  # loopback: what is not captured goes nowhere
API_PREFIX = "/api/"  # prefix match: rewritten, and a request header is set
API_REWRITE = "/"
RELEASE_HEADER = "x-release"
ADMIN_PREFIX = "/admin"  # denied
SLOW_REGEX = "/items/[0-9]+"  # a route that l7fp serves by its slow path

FAST_PATH = "/hello"
REWRITTEN_PATH = "/api/hello"
DENIED_PATH = "/admin/users"
SLOW_PATH = "/items/42"


def policy(server_address: str, server_port: int, client_cgroup: str, server_cgroup: str) -> str:
    """The Istio and Kubernetes objects that l7fp is given."""
    return f"""\
apiVersion: v1
kind: Service
metadata: {{name: web, namespace: bench}}
spec:
  clusterIP: {SERVICE_ADDRESS}
  selector: {{app: web}}
  ports: [{{name: http, port: {PORT}, targetPort: {server_port}}}]
---
apiVersion: v1
kind: Pod
metadata:
  name: web
  namespace: bench
  labels: {{app: web}}
  annotations: {{l7fp.io/cgroup: {server_cgroup}}}
status: {{podIP: {server_address}}}
---
apiVersion: v1
kind: Pod
metadata:
  name: client
  namespace: bench
  labels: {{app: client}}
  annotations: {{l7fp.io/cgroup: {client_cgroup}}}
status: {{podIP: 127.0.77.1}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: web, namespace: bench}}
spec:
  hosts: [web]
  http:
  - name: api
    match: [{{uri: {{prefix: {API_PREFIX}}}}}]
    rewrite: {{uri: {API_REWRITE}}}
    headers: {{request: {{set: {{{RELEASE_HEADER}: stable}}}}}}
    timeout: 15s
    route: [{{destination: {{host: web}}}}]
  - name: items
    match: [{{uri: {{regex: '{SLOW_REGEX}'}}}}]
    timeout: 15s
    route: [{{destination: {{host: web}}}}]
  - name: rest
    timeout: 15s
    route: [{{destination: {{host: web}}}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: deny-admin, namespace: bench}}
spec:
  selector: {{matchLabels: {{app: web}}}}
  action: DENY
  rules:
  - to: [{{operation: {{paths: ['{ADMIN_PREFIX}*']}}}}]
"""
