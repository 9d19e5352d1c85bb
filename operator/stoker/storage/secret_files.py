"""Names of files that usually hold a key or a password, and are never sent unless a person asks for it.

A name is all that is looked at: it costs nothing, and a false alarm is one flag away.
"""

RULE = "never sent: may hold a secret"

#: Names of files, in lower case, with at most one star. A pattern with `/` is for the end of the whole path.
FILES = (
    # keys and certificates' private halves
    "id_rsa", "id_dsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk", "id_xmss",
    "*.pem", "*.key", "*.ppk", "*.p12", "*.pfx", "*.p8", "*.jks", "*.keystore", "*.kdbx", "*.ovpn",
    # settings that programs read passwords from
    ".env", ".env.*", "*.env", ".envrc", ".netrc", "_netrc", ".pgpass", ".my.cnf", ".git-credentials", ".htpasswd",
    ".npmrc", ".yarnrc", ".pypirc", ".dockercfg", ".docker/config.json", ".vault-token", ".terraformrc", ".s3cfg", ".boto",
    ".databrickscfg", ".huggingface/token", ".kaggle/kaggle.json", "kaggle.json", "*.tfvars",
    # cloud and cluster credentials
    "credentials", "credentials.json", "credentials.yaml", "credentials.yml", "application_default_credentials.json",
    "client_secret*.json", "service-account*.json", "service_account*.json", "kubeconfig", "kubeconfig.*", "*.kubeconfig",
    "accesstokens.json", "azureprofile.json", "secrets.json", "secrets.yaml", "secrets.yml", "secrets.toml",
)  # fmt: skip
#: Folders whose whole content is of that sort.
FOLDERS = (".aws", ".azure", ".gcloud", ".gnupg", ".kube", ".ssh")
#: Samples that people commit on purpose.
SAMPLES = (".env.example", ".env.sample", ".env.template", ".env.dist", ".env.defaults", "example.env", "sample.env")


_LITERAL = frozenset(one for one in FILES if "*" not in one and "/" not in one)
_SUFFIXES = tuple(one[1:] for one in FILES if one.startswith("*"))
_MIDDLE = tuple((one.partition("*")[0], one.partition("*")[2]) for one in FILES if "*" in one[1:])
_PREFIXES = tuple(prefix for prefix, _ in _MIDDLE)
_LAST_PARTS = {one.rpartition("/")[2]: one for one in FILES if "/" in one}


def which(path: str, is_dir: bool) -> str | None:
    """The pattern by which a path (relative, `/` between parts) is taken for a secret, None if it is not."""
    name = path.rpartition("/")[2].lower()
    if is_dir:
        return f"{name}/" if name in FOLDERS else None
    if name in SAMPLES:
        return None
    if name in _LITERAL:
        return name
    if name.endswith(_SUFFIXES):
        return next(f"*{suffix}" for suffix in _SUFFIXES if name.endswith(suffix))
    if name.startswith(_PREFIXES):
        for prefix, suffix in _MIDDLE:
            if name.startswith(prefix) and name.endswith(suffix) and len(name) > len(prefix) + len(suffix) - 1:
                return f"{prefix}*{suffix}"
    if name in _LAST_PARTS and f"/{path.lower()}".endswith("/" + _LAST_PARTS[name]):
        return _LAST_PARTS[name]
    return None
