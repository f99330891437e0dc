"""An identity provider: keys, tokens, and the set of public keys."""

from __future__ import annotations

import time
from typing import Any

import jwt
import orjson
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from tests.fakes.answers import json_answer
from tests.fakes.upstream import Step, Upstream, send

ISSUER, AUDIENCE = "https://id.example", "llm-gateway"


class Signer:
    """One private key. ``jwk``: its public half."""

    def __init__(self, kid: str, algorithm: str = "RS256") -> None:
        self.kid, self.algorithm = kid, algorithm
        self._private: Any
        if algorithm.startswith("ES"):
            self._private = ec.generate_private_key(ec.SECP256R1())
            public = ECAlgorithm.to_jwk(self._private.public_key(), as_dict=True)
        elif algorithm == "EdDSA":
            self._private = ed25519.Ed25519PrivateKey.generate()
            public = OKPAlgorithm.to_jwk(self._private.public_key(), as_dict=True)
        else:
            self._private = rsa.generate_private_key(65537, 2048)
            public = RSAAlgorithm.to_jwk(self._private.public_key(), as_dict=True)
        self.jwk: dict[str, Any] = {**public, "kid": kid, "use": "sig"}
        self.jwk.pop("key_ops", None)

    def token(self, *, kid: str | None = "", algorithm: str | None = None, **claims: Any) -> str:
        """``kid`` None: without one. A claim that is None is left out."""
        now_s = int(time.time())
        said = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "tenant": "acme", "exp": now_s + 300}
        said |= {"iat": now_s, **claims}
        held = {name: value for name, value in said.items() if value is not None}
        headers = {} if kid is None else {"kid": kid or self.kid}
        return jwt.encode(held, self._private, algorithm or self.algorithm, headers=headers)


def jwks(*signers: Signer) -> bytes:
    return orjson.dumps({"keys": [one.jwk for one in signers]})


class IdentityProvider(Upstream):
    """Answers every request with the keys of ``signers``, or with ``status``."""

    def __init__(self, *signers: Signer) -> None:
        super().__init__()
        self.signers = list(signers)
        self.status = "200 OK"

    async def __aenter__(self) -> IdentityProvider:
        await super().__aenter__()
        return self

    def script(self) -> tuple[Step, ...]:
        return (send(json_answer(orjson.loads(jwks(*self.signers)), status=self.status)),)

    @property
    def keys_url(self) -> str:
        return f"{self.url}/keys"
