"""Part of a carried interpreter: finds the host's certificate authorities where OpenSSL would not look.

OpenSSL has the places of the system that it was built for compiled in, and every distribution has another. ``ssl`` of a
captured standard library calls this as its last statement. Valid from Python 3.6 on.
"""

import os

# as crypto/x509 of Go has them: Debian, Alpine; Fedora; openSUSE; RHEL 7 and later; OpenSSL's own
PLACES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


def find(paths):  # type: ignore[no-untyped-def]
    """Set SSL_CERT_FILE if neither the user nor the host has said it and OpenSSL's own places are empty here.

    :param paths: as ``_ssl.get_default_verify_paths()`` gives them: variable and path of a file, of a directory.
    """
    file_variable, file, directory_variable, directory = paths
    if os.environ.get(file_variable) or os.environ.get(directory_variable) or os.path.isfile(file):
        return
    try:
        if any(name.endswith(".0") for name in os.listdir(directory)):
            return
    except PermissionError:  # OpenSSL opens what is in it without a list
        return
    except OSError:
        pass
    for place in PLACES:
        if os.path.isfile(place):
            os.environ[file_variable] = place
            return
