"""Programs that end TLS in front of a ws:// server and pass WebSocket upgrades on: nginx and HAProxy."""

from procs import free_port
from waiting import wait_until
from peers import listens


def plain_server(lab, listen, *extra, token=None):
    """A server on ws://, which may connect to loopback; waits until it listens."""
    arguments = ["-l", listen, "-allow-target", "127.0.0.0/8:*"] + (["-token", token] if token else [])
    process = lab.run("plain-server", *arguments, *extra)
    process.wait_log(r"listening on ws://")
    return process


def start_nginx(lab, upstream, port=None):
    """`upstream`: 127.0.0.1:port or unix:/path. Returns the process and its TLS port."""
    port = port or free_port()
    folder = lab.path("nginx")
    folder.mkdir()
    # A Unix socket of ours is for its own user only, so the workers stay root where the tests are.
    (folder / "nginx.conf").write_text(f"""
        daemon off; user root; worker_processes 1; pid {folder}/pid; error_log stderr;
        events {{ worker_connections 1024; }}
        http {{
          access_log off; client_max_body_size 0;
          client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
          uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
          server {{
            listen 127.0.0.1:{port} ssl; ssl_certificate {lab.pki.cert}; ssl_certificate_key {lab.pki.key};
            ssl_protocols TLSv1.3;
            location /tunnel {{
              proxy_pass http://{upstream}{":" if upstream.startswith("unix:") else ""};
              proxy_http_version 1.1; proxy_set_header Host $host;
              proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";
              proxy_read_timeout 1h; proxy_send_timeout 1h;
            }}
          }}
        }}""")
    process = lab.start("nginx", "nginx", "-p", folder, "-e", "stderr", "-c", folder / "nginx.conf")
    wait_until(lambda: listens(port), what="nginx to listen")
    return process, port


def start_haproxy(lab, upstream, port=None):
    """As start_nginx."""
    port = port or free_port()
    folder = lab.path("haproxy")
    folder.mkdir()
    (folder / "both.pem").write_bytes(lab.pki.cert.read_bytes() + lab.pki.key.read_bytes())
    server = f"unix@{upstream.removeprefix('unix:')}" if upstream.startswith("unix:") else upstream
    (folder / "haproxy.cfg").write_text(f"""
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  timeout tunnel 1h
frontend front
  bind 127.0.0.1:{port} ssl crt {folder}/both.pem alpn http/1.1 ssl-min-ver TLSv1.3
  default_backend tunnel
backend tunnel
  server tunnel {server}
""")
    process = lab.start("haproxy", "haproxy", "-db", "-f", folder / "haproxy.cfg")
    wait_until(lambda: listens(port), what="haproxy to listen")
    return process, port


FRONTS = {"nginx": start_nginx, "haproxy": start_haproxy}
