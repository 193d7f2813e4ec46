"""The service that fails over: whoever connects is told the name of the host that serves.

    serve.py PORT

systemd calls it active when the port is open, and not before (Type=notify).
"""

import os
import socket
import sys


def main(port: int) -> None:
    name = os.uname().nodename.encode()
    listener = socket.create_server(("", port), backlog=64)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
    while True:
        caller, _ = listener.accept()
        try:
            caller.sendall(name)
        except OSError:  # gone before it was answered
            continue
        finally:
            caller.close()


if __name__ == "__main__":
    main(int(sys.argv[1]))
