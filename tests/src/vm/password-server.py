"""The virtual router's password server (CloudStack 4.22, systemvm/debian/opt/cloud/bin/passwd_server_ip.py), as far as an
instance without a password sees it: TCP 8080, what is asked is in a header."""

import http.server
import sys


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        asked = self.headers.get("DomU_Request")
        # Nobody has set a password for anybody.
        answer = {"send_my_password": b"saved_password", "saved_password": b"saved_password"}.get(asked, b"bad_request")
        self.send_response(200)
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format, *arguments):
        print(self.client_address[0], self.headers.get("DomU_Request"), flush=True)


http.server.ThreadingHTTPServer((sys.argv[1], 8080), Handler).serve_forever()
