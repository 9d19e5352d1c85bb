"""Signing in to a cloud's registry with a workload's identity, against endpoints that speak the clouds' protocols."""

import base64
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from stoker.images import connections
from stoker.images.auth import Credential, Keyring
from stoker.images.client import MANIFEST_TYPES, RegistryClient
from stoker.images.cloud import CloudIdentity
from stoker.images.connections import Connections
from stoker.images.errors import RegistryUnreachable, Unauthorized

ECR = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
GOOGLE = "europe-docker.pkg.dev"
AZURE = "team.azurecr.io"
ROLE = "arn:aws:iam::123456789012:role/stoker"
PROJECTED = "eyJ-projected-token"


def basic(username: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


class Cloud:
    """Three clouds at one address: STS, ECR's API, Google's metadata server, Entra ID, and a registry of each.

    accepted: the Authorization that the registries take; lives: seconds that what is given lasts; later: how far the client's clock is ahead; broken: status that
    those who vouch for identities answer with."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.accepted = ""
        self.given = 0
        self.lives = 3600
        self.later = 0.0
        self.broken = 0
        self.address = ""

    async def start(self) -> web.AppRunner:
        app = web.Application()
        app.router.add_get("/v2/{name:.*}/manifests/{target}", self._manifest)
        app.router.add_post("/", self._aws)
        app.router.add_get("/computeMetadata/v1/instance/service-accounts/default/token", self._google)
        app.router.add_post("/tenant-1/oauth2/v2.0/token", self._entra)
        app.router.add_post("/oauth2/exchange", self._exchange)
        app.router.add_post("/oauth2/token", self._azure_token)
        app.router.add_get("/oauth2/token", self._token)
        app.router.add_get("/token", self._token)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.address = f"127.0.0.1:{runner.addresses[0][1]}"
        return runner

    async def _manifest(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") == self.accepted:
            return web.Response(body=b'{"config":{}}', content_type=MANIFEST_TYPES[0])
        challenges = {
            ECR: f'Basic realm="https://{ECR}/",service="ecr.amazonaws.com"',
            GOOGLE: f'Bearer realm="http://{self.address}/token",service="{GOOGLE}"',
            AZURE: f'Bearer realm="http://{self.address}/oauth2/token",service="{AZURE}"',
        }
        place = request.match_info["name"].partition("/")[0]
        named = {"aws": ECR, "google": GOOGLE, "azure": AZURE}[place]
        return web.Response(status=401, headers={"Www-Authenticate": challenges[named]})

    async def _aws(self, request: web.Request) -> web.Response:
        if self.broken:
            return web.Response(status=self.broken, text="{}")
        if target := request.headers.get("X-Amz-Target"):
            self.asked.append(target)
            assert "/eu-west-1/ecr/aws4_request" in request.headers["Authorization"]
            assert request.headers["X-Amz-Security-Token"] == "session"
            self.given += 1
            password = f"ecr-{self.given}"
            self.accepted = basic("AWS", password)
            token = base64.b64encode(f"AWS:{password}".encode()).decode()
            data = [
                {"authorizationToken": token, "expiresAt": time.time() + self.later + self.lives, "proxyEndpoint": "x"}
            ]
            return web.json_response({"authorizationData": data}, content_type="application/x-amz-json-1.1")
        form = await request.post()
        self.asked.append(str(form["Action"]))
        if (form["WebIdentityToken"], form["RoleArn"]) != (PROJECTED, ROLE):
            return web.Response(
                status=400, text="<ErrorResponse><Error><Code>InvalidIdentityToken</Code></Error></ErrorResponse>"
            )
        until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
        return web.Response(
            content_type="text/xml",
            text=f"""<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
            <AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>ASIA1</AccessKeyId><SecretAccessKey>s</SecretAccessKey>
            <SessionToken>session</SessionToken><Expiration>{until}</Expiration></Credentials><AssumedRoleUser>
            <Arn>a</Arn><AssumedRoleId>b</AssumedRoleId></AssumedRoleUser></AssumeRoleWithWebIdentityResult>
            </AssumeRoleWithWebIdentityResponse>""",
        )

    async def _google(self, request: web.Request) -> web.Response:
        self.asked.append("metadata")
        if self.broken:
            return web.Response(status=self.broken)
        assert request.headers["Metadata-Flavor"] == "Google"
        return web.json_response({"access_token": "ya29", "expires_in": self.lives, "token_type": "Bearer"})

    async def _token(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != basic("oauth2accesstoken", "ya29"):
            return web.Response(status=401)
        self.accepted = "Bearer google"
        return web.json_response({"token": "google", "expires_in": 300})

    async def _entra(self, request: web.Request) -> web.Response:
        self.asked.append("entra")
        if self.broken:
            return web.Response(status=self.broken, text='{"error":"invalid_client"}')
        form = await request.post()
        assert (form["client_id"], form["client_assertion"]) == ("client-1", PROJECTED)
        assert form["scope"] == "https://containerregistry.azure.net/.default"
        return web.json_response({"access_token": "aad", "expires_in": 3600})

    async def _exchange(self, request: web.Request) -> web.Response:
        self.asked.append("exchange")
        form = dict(await request.post())
        assert form == {"grant_type": "access_token", "service": AZURE, "tenant": "tenant-1", "access_token": "aad"}
        return web.json_response({"refresh_token": "refresh"})

    async def _azure_token(self, request: web.Request) -> web.Response:
        form = dict(await request.post())
        if (form["grant_type"], form["refresh_token"]) != ("refresh_token", "refresh"):
            return web.Response(status=401)
        self.accepted = "Bearer azure"
        return web.json_response({"access_token": "azure"})


@pytest.fixture
async def cloud(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Cloud]:
    monkeypatch.setattr(connections, "BACKOFF_SECONDS", 0.001)
    found = Cloud()
    runner = await found.start()
    (tmp_path / "token").write_text(PROJECTED)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_ROLE_ARN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    yield found
    await runner.cleanup()


@pytest.fixture
async def client(cloud: Cloud) -> AsyncIterator[RegistryClient]:
    places = {ECR, GOOGLE, AZURE}

    def clock() -> float:
        return time.time() + cloud.later

    sockets = Connections(
        user_agent="test",
        insecure=frozenset(places),
        addresses=dict.fromkeys(places, cloud.address),
        identity=CloudIdentity(clock=clock),
        clock=clock,
    )
    yield RegistryClient(sockets)
    await sockets.close()


@pytest.fixture
def on_aws(monkeypatch: pytest.MonkeyPatch, cloud: Cloud, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_ROLE_ARN", ROLE)
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"http://{cloud.address}")
    monkeypatch.setenv("AWS_ENDPOINT_URL_ECR", f"http://{cloud.address}")


@pytest.fixture
def on_google(monkeypatch: pytest.MonkeyPatch, cloud: Cloud) -> None:
    monkeypatch.setenv("GCE_METADATA_HOST", cloud.address)


@pytest.fixture
def on_azure(monkeypatch: pytest.MonkeyPatch, cloud: Cloud, tmp_path: Path) -> None:
    monkeypatch.setenv("AZURE_CLIENT_ID", "client-1")
    monkeypatch.setenv("AZURE_TENANT_ID", "tenant-1")
    monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("AZURE_AUTHORITY_HOST", f"http://{cloud.address}/")


async def has(client: RegistryClient, place: str) -> bool:
    return await client.get_manifest(place, "1") is not None


@pytest.mark.usefixtures("on_aws")
async def test_ecr_is_signed_in_to_with_the_web_identity(cloud: Cloud, client: RegistryClient) -> None:
    assert await has(client, f"{ECR}/aws/train")
    assert await has(client, f"{ECR}/aws/other")

    # Once for both repositories.
    asked = ["AssumeRoleWithWebIdentity", "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken"]
    assert asked == cloud.asked


@pytest.mark.usefixtures("on_aws")
async def test_ecr_s_password_is_renewed_before_it_ends(cloud: Cloud, client: RegistryClient) -> None:
    await has(client, f"{ECR}/aws/train")
    cloud.later = cloud.lives - 5

    assert await has(client, f"{ECR}/aws/train")
    assert 2 == cloud.given


@pytest.mark.usefixtures("on_aws")
async def test_a_password_that_is_refused_is_asked_for_anew(cloud: Cloud, client: RegistryClient) -> None:
    await has(client, f"{ECR}/aws/train")
    cloud.accepted = "revoked"

    assert await has(client, f"{ECR}/aws/train")


@pytest.mark.usefixtures("on_aws")
async def test_a_role_that_trusts_another_account_is_told(
    client: RegistryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ROLE_ARN", ROLE + "-other")
    with pytest.raises(Unauthorized, match="InvalidIdentityToken") as told:
        await has(client, f"{ECR}/aws/train")

    assert "ServiceAccount" in told.value.fix


@pytest.mark.usefixtures("on_google")
async def test_google_s_metadata_server_gives_the_token(cloud: Cloud, client: RegistryClient) -> None:
    assert await has(client, f"{GOOGLE}/google/train")
    assert ["metadata"] == cloud.asked


@pytest.mark.usefixtures("on_azure")
async def test_azure_s_federated_token_is_exchanged_twice(cloud: Cloud, client: RegistryClient) -> None:
    assert await has(client, f"{AZURE}/azure/train")
    assert ["entra", "exchange"] == cloud.asked


@pytest.mark.usefixtures("on_aws", "on_google", "on_azure")
@pytest.mark.parametrize("place", [f"{ECR}/aws/x", f"{GOOGLE}/google/x", f"{AZURE}/azure/x"])
async def test_an_identity_that_cannot_be_had_now_is_no_refusal(
    cloud: Cloud, client: RegistryClient, place: str
) -> None:
    cloud.broken = 503
    with pytest.raises(RegistryUnreachable, match="needs a cloud identity"):
        await has(client, place)


@pytest.mark.parametrize("place", [f"{ECR}/aws/x", f"{AZURE}/azure/x"])
async def test_without_an_identity_the_fix_is_a_secret(client: RegistryClient, place: str) -> None:
    with pytest.raises(Unauthorized, match="without credentials") as told:
        await has(client, place)

    assert "name a pull secret" in told.value.fix


@pytest.mark.usefixtures("on_aws")
async def test_a_secret_goes_before_the_identity(cloud: Cloud, client: RegistryClient) -> None:
    cloud.accepted = basic("me", "secret")
    keyring = Keyring(((ECR, Credential("me", "secret")),))

    assert await has(client.with_keyring(keyring), f"{ECR}/aws/train")
    assert [] == cloud.asked
