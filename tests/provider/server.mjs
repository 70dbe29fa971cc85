// The identity provider of the end-to-end tests: node-oidc-provider as it is, configured from one JSON file.
//   node server.mjs SETTINGS
// SETTINGS: { issuer, port, key, certificate, keys, people: [{name, subject, full_name, email, groups}], services: [{id, secret, groups}] }
// `keys` is where the private signing keys are written, so that a test can also mint tokens that this provider never
// would. Listens on loopback and prints "ready" once it serves.
import { readFileSync, writeFileSync } from 'node:fs';
import https from 'node:https';
import { exportJWK, generateKeyPair } from 'jose';
import Provider from 'oidc-provider';

const settings = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const audience = 'sluice';

async function signingKey(alg, kid) {
  const { privateKey } = await generateKeyPair(alg, { extractable: true });
  return { ...(await exportJWK(privateKey)), alg, kid, use: 'sig' };
}
const jwks = { keys: [await signingKey('RS256', 'tour-rsa'), await signingKey('ES256', 'tour-ec')] };
writeFileSync(settings.keys, JSON.stringify(jwks), { mode: 0o600 });

// By subject, which is what people sign in with here: an opaque id and not a name, since Sluice must not depend on the
// two being alike. (This provider's tokens carry what was typed at its login page.)
const people = new Map(settings.people.map((person) => [person.subject, person]));
const services = new Map(settings.services.map((service) => [service.id, service]));

const clients = [
  {
    // What `sluice login` is: a public client with the device flow and the browser flow (PKCE is always asked for).
    client_id: 'sluice',
    client_name: 'Sluice',
    application_type: 'native',
    token_endpoint_auth_method: 'none',
    grant_types: ['authorization_code', 'refresh_token', 'urn:ietf:params:oauth:grant-type:device_code'],
    response_types: ['code'],
    redirect_uris: ['http://127.0.0.1/callback', 'http://localhost/callback'],
  },
  ...settings.services.map((service) => ({
    client_id: service.id,
    client_secret: service.secret,
    grant_types: ['client_credentials'],
    response_types: [],
    redirect_uris: [],
  })),
];

const provider = new Provider(settings.issuer, {
  clients,
  jwks,
  cookies: { keys: ['the tour signs its cookies with this'] },
  // Groups go into the ID token, as the companies' providers do it.
  conformIdTokenClaims: false,
  claims: {
    openid: ['sub'],
    profile: ['name', 'preferred_username'],
    email: ['email', 'email_verified'],
    groups: ['groups'],
  },
  scopes: ['openid', 'offline_access', 'profile', 'email', 'groups'],
  // Anybody may type any name on the login page; who is not in the list does not exist.
  async findAccount(_ctx, id) {
    const person = people.get(id);
    if (!person) return undefined;
    return {
      accountId: id,
      async claims() {
        return {
          sub: person.subject,
          name: person.full_name,
          preferred_username: person.name,
          email: person.email,
          email_verified: true,
          groups: person.groups,
        };
      },
    };
  },
  async extraTokenClaims(_ctx, token) {
    if (token.kind === 'ClientCredentials') return { groups: services.get(token.clientId)?.groups ?? [] };
    const person = people.get(token.accountId);
    return person
      ? { preferred_username: person.name, email: person.email, groups: person.groups }
      : undefined;
  },
  features: {
    devInteractions: { enabled: true },
    deviceFlow: { enabled: true },
    clientCredentials: { enabled: true },
    introspection: { enabled: true },
    revocation: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: (ctx) => (ctx.oidc.client?.grantTypes?.includes('client_credentials') ? `urn:${audience}` : undefined),
      useGrantedResource: () => true,
      getResourceServerInfo: () => ({ scope: '', audience, accessTokenFormat: 'jwt', accessTokenTTL: 3600 }),
    },
  },
  ttl: { AccessToken: 3600, ClientCredentials: 3600, DeviceCode: 600, Grant: 86400, IdToken: 3600, Interaction: 600, Session: 86400 },
});
provider.on('server_error', (_ctx, error) => console.error(error));

https
  .createServer({ key: readFileSync(settings.key), cert: readFileSync(settings.certificate) }, provider.callback())
  .listen(settings.port, '127.0.0.1', () => console.log('ready'));
