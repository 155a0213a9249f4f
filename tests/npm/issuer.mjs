// An OpenID provider for tests. Its settings are JSON in ISSUER_SETTINGS; it says "ready", and serves until its standard
// input ends. Clients register themselves, and whoever types a name signs in under it. Access tokens are JSON Web Tokens
// for the resource that a client asks for (RFC 8707); those for `brief` are over after a second.
import { createServer } from "node:https";
import { text } from "node:stream/consumers";

import { generateKeyPair, exportJWK } from "jose";
import Provider from "oidc-provider";

const settings = JSON.parse(process.env.ISSUER_SETTINGS);

async function signingKey() {
  const { privateKey } = await generateKeyPair("RS256", { extractable: true });
  return { ...(await exportJWK(privateKey)), use: "sig", alg: "RS256", kid: "tests" };
}

const provider = new Provider(settings.issuer, {
  jwks: { keys: [await signingKey()] },
  cookies: { keys: ["only-for-tests"] },
  scopes: ["openid", "offline_access", "skills:call"],
  findAccount: (_, id) => ({ accountId: id, claims: async () => ({ sub: id }) }),
  extraTokenClaims: async (_, token) => ({ groups: [settings.group], name: token.accountId }),
  pkce: { required: () => true },
  features: {
    clientCredentials: { enabled: true },
    registration: { enabled: true },
    devInteractions: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: async () => settings.resource,
      useGrantedResource: async () => true,
      getResourceServerInfo: async (_, resource) => ({
        scope: "openid skills:call",
        audience: resource === settings.brief ? settings.resource : resource,
        accessTokenTTL: resource === settings.brief ? 1 : 300,
        accessTokenFormat: "jwt",
        jwt: { sign: { alg: "RS256" } },
      }),
    },
  },
});
const server = createServer({ cert: settings.certificate, key: settings.key }, provider.callback());
server.listen(new URL(settings.issuer).port, settings.address, () => console.log("ready"));
await text(process.stdin);
process.exit(0);
