// A person in front of a browser, and the makers of tokens that nobody should accept.
//   node person.mjs confirm URL NAME        open the device page URL (with its code), sign in as NAME, allow
//   node person.mjs refuse URL NAME         open it, and abort instead of signing in
//   node person.mjs browser URL NAME        the authorization page: sign in, allow, follow the redirect to the end
//   node person.mjs service ISSUER ID SECRET   a service account's JWT, from the provider's token endpoint
//   node person.mjs mint KEYS CLAIMS KIND   KIND: good | expired | none | hs256 | early; CLAIMS: JSON
//   node person.mjs openpubkey ISSUER NAME KEYS KEY KIND   a PK token (OpenPubkey) for the private key KEY (PEM): KIND: good,
//                                           of the provider's own flow; or expired | audience | nonce | gq, of its keys
// The CA of the provider comes by NODE_EXTRA_CA_CERTS. What is asked for is printed on the last line.
import { readFileSync } from 'node:fs';
import { createHash, createHmac, createPrivateKey, createPublicKey, randomBytes, sign as signature } from 'node:crypto';
import { importJWK, SignJWT } from 'jose';

const jar = new Map();

/** One request with the cookies so far; redirects are followed as a browser does, up to one that begins with `end`. */
async function visit(url, form, end) {
  for (let hops = 0; hops < 20; hops += 1) {
    if (end && url.startsWith(end)) return { url, status: 200, page: '' };
    const response = await fetch(url, {
      method: form ? 'POST' : 'GET',
      headers: { cookie: [...jar].map(([name, value]) => `${name}=${value}`).join('; ') },
      body: form ? new URLSearchParams(form) : undefined,
      redirect: 'manual',
    });
    for (const cookie of response.headers.getSetCookie()) {
      const [pair] = cookie.split(';');
      const at = pair.indexOf('=');
      if (pair.slice(at + 1) === '') jar.delete(pair.slice(0, at));
      else jar.set(pair.slice(0, at), pair.slice(at + 1));
    }
    const next = response.headers.get('location');
    if (!next || response.status < 300 || response.status > 399) {
      return { url, status: response.status, page: await response.text() };
    }
    url = new URL(next, url).href;
    form = undefined;
  }
  throw new Error('too many redirects');
}

function unescape(text) {
  return text.replaceAll('&amp;', '&').replaceAll('&quot;', '"').replaceAll('&#39;', "'").replaceAll('&#x2F;', '/');
}

/** The first form of a page: where it goes and its hidden fields. */
function form(page) {
  const action = /<form[^>]*action="([^"]*)"/.exec(page.page);
  if (!action) throw new Error(`no form on ${page.url} (${page.status}): ${page.page.replace(/<[^>]*>/g, ' ').slice(0, 400)}`);
  const fields = {};
  for (const [input] of page.page.matchAll(/<input[^>]*>/g)) {
    const name = /name="([^"]*)"/.exec(input)?.[1];
    if (name) fields[name] = unescape(/value="([^"]*)"/.exec(input)?.[1] ?? '');
  }
  return { to: new URL(unescape(action[1]), page.url).href, fields };
}

async function submit(page, extra, end) {
  const { to, fields } = form(page);
  return visit(to, { ...fields, ...extra }, end);
}

/** Login and consent pages, until there is no form any more. */
async function signIn(page, name, end) {
  for (let step = 0; step < 4 && /<form/.test(page.page); step += 1) {
    page = await submit(page, /name="login"/.test(page.page) ? { login: name, password: 'of the tour' } : {}, end);
  }
  return page;
}

async function confirm(url, name) {
  // complete URL: the page posts the code by itself (its form has no button); then "Continue".
  let page = await visit(url);
  page = await submit(page, {});
  page = await signIn(page, name);
  if (!/Success/i.test(page.page)) throw new Error(`not confirmed: ${page.page.replace(/<[^>]*>/g, ' ').slice(0, 400)}`);
  return `${name} has confirmed`;
}

async function refuse(url) {
  let page = await visit(url);
  page = await submit(page, {});
  const { to, fields } = form(page);
  delete fields.confirm;
  await visit(to, { ...fields, abort: 'yes' });
  return 'aborted';
}

async function browser(url, name) {
  const page = await signIn(await visit(url), name);
  return page.url;
}

async function service(issuer, id, secret) {
  const discovery = await (await fetch(`${issuer}/.well-known/openid-configuration`)).json();
  const response = await fetch(discovery.token_endpoint, {
    method: 'POST',
    headers: { authorization: `Basic ${Buffer.from(`${id}:${secret}`).toString('base64')}` },
    body: new URLSearchParams({ grant_type: 'client_credentials', resource: 'urn:sluice' }),
  });
  const answer = await response.json();
  if (!answer.access_token) throw new Error(JSON.stringify(answer));
  return answer.access_token;
}

/** The authorization code flow with a nonce of ours: the ID token. */
async function idToken(issuer, name, nonce) {
  const discovery = await (await fetch(`${issuer}/.well-known/openid-configuration`)).json();
  const callback = 'http://127.0.0.1:9/callback';
  const verifier = randomBytes(32).toString('base64url');
  const asked = new URLSearchParams({
    client_id: 'sluice', response_type: 'code', redirect_uri: callback, scope: 'openid profile email groups', nonce,
    code_challenge: createHash('sha256').update(verifier).digest('base64url'), code_challenge_method: 'S256',
  });
  const page = await signIn(await visit(`${discovery.authorization_endpoint}?${asked}`, undefined, callback), name, callback);
  const code = new URL(page.url).searchParams.get('code');
  const response = await fetch(discovery.token_endpoint, {
    method: 'POST',
    body: new URLSearchParams({ grant_type: 'authorization_code', code, redirect_uri: callback, client_id: 'sluice', code_verifier: verifier }),
  });
  const answer = await response.json();
  if (!answer.id_token) throw new Error(JSON.stringify(answer));
  return answer.id_token;
}

/** As opkssh makes it: claims about the key, a nonce that commits to them, and the key's signature over the payload. */
async function openpubkey(issuer, name, keys, keyFile, kind) {
  const key = createPrivateKey(readFileSync(keyFile));
  const { crv, kty, x, y } = createPublicKey(key).export({ format: 'jwk' });
  const claims = { alg: 'ES256', rz: randomBytes(32).toString('hex'), typ: 'CIC', upk: { alg: 'ES256', crv, kty, x, y } };
  const nonce = createHash('sha3-256').update(JSON.stringify(claims)).digest('base64url');
  let token;
  if (kind === 'good') token = await idToken(issuer, name, nonce);
  else {
    const own = {
      iss: issuer, sub: name, aud: kind === 'audience' ? 'another' : 'sluice', groups: ['analysts'],
      nonce: kind === 'nonce' ? 'another' : nonce,
    };
    token = await mint(keys, JSON.stringify(own), kind);
  }
  let [head, payload, providers] = token.split('.');
  if (kind === 'gq') head = encode({ alg: 'GQ256', kid: head, typ: 'JWT' });
  const protectedHeader = encode(claims);
  const clients = signature('sha256', `${protectedHeader}.${payload}`, { key, dsaEncoding: 'ieee-p1363' });
  return [payload, head, providers, protectedHeader, clients.toString('base64url')].join(':');
}

const encode = (value) => Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url');

async function mint(keys, claims, kind) {
  const key = JSON.parse(readFileSync(keys, 'utf8')).keys[0];
  const now = Math.floor(Date.now() / 1000);
  const times = {
    expired: { iat: now - 7200, exp: now - 3600 },
    early: { iat: now, nbf: now + 3600, exp: now + 7200 },
  }[kind] ?? { iat: now, exp: now + 3600 };
  const payload = { ...JSON.parse(claims), ...times };
  if (kind === 'none') return `${encode({ alg: 'none', typ: 'JWT' })}.${encode(payload)}.`;
  if (kind === 'hs256') {
    // The old trick: the verifier's public key, as a PEM, taken for a shared secret.
    const pem = createPublicKey({ key, format: 'jwk' }).export({ type: 'spki', format: 'pem' });
    const head = `${encode({ alg: 'HS256', typ: 'JWT', kid: key.kid })}.${encode(payload)}`;
    return `${head}.${createHmac('sha256', pem).update(head).digest('base64url')}`;
  }
  return new SignJWT(payload)
    .setProtectedHeader({ alg: key.alg, kid: key.kid, typ: 'JWT' })
    .sign(await importJWK(key, key.alg));
}

const [act, ...rest] = process.argv.slice(2);
const acts = { confirm, refuse, browser, service, mint, openpubkey };
if (!acts[act]) {
  console.error(`unknown act ${act}; one of ${Object.keys(acts).join(', ')}`);
  process.exit(2);
}
console.log(await acts[act](...rest));
