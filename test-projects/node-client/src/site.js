// This site as the reducer knows it: its key, its enrolment, its tokens, and where to attach.
import { randomBytes, sign, X509Certificate } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { request } from 'node:https';
import { join as joinPath } from 'node:path';
import { fingerprint, newPrivateKey, signingRequest } from './certificates.js';

const TIMEOUT_MS = 20_000;
const MAX_ANSWER_BYTES = 1 << 20;
const ASSERTION_S = 60;
const NEW_CERTIFICATE_BEFORE_MS = 14 * 86_400_000;
const PEM_TYPE = 'application/x-pem-file';

/** What the reducer refused: `code` and `status` as docs/reference/errors.md has them. */
export class Refusal extends Error {
  constructor(status, problem) {
    super(`${problem.title ?? 'the reducer refused'} ${problem.fix ?? ''} [${problem.code ?? status}]`);
    this.status = status;
    this.code = problem.code;
    this.retryable = problem.retryable ?? status >= 500;
  }
}

export class Site {
  /**
   * @param join what parseJoinString gives; the reducer's address has to be https.
   * @param folder where key and enrolment are kept; made where it is missing.
   */
  constructor(join, folder, name) {
    if (!join.url.startsWith('https:')) throw new Error(`this client speaks TLS only, and ${join.url} is without`);
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    this.join = join;
    this.name = name;
    this.keyFile = joinPath(folder, 'site.key');
    this.recordFile = joinPath(folder, 'enrolment.json');
    this.trailFile = joinPath(folder, 'trail.json');
    if (!existsSync(this.keyFile)) writePrivately(this.keyFile, newPrivateKey());
    this.key = readFileSync(this.keyFile, 'utf8');
    this.record = existsSync(this.recordFile) ? JSON.parse(readFileSync(this.recordFile, 'utf8')) : null;
    this.token = '';
  }

  /** Enrols, unless it was enrolled before and its certificate lasts. */
  async enrol() {
    if (this.record !== null && !(this.join.secret && this.endsSoon())) return;
    const ca = await this.fetchAuthority();
    const reply = await this.call('POST', 'enrol', {
      body: { name: this.name, role: 'client', csr: signingRequest(this.key, this.name) },
      bearer: this.join.secret,
      ca,
    });
    // The authority is the one that the join string names, whatever the answer says.
    this.record = { ca, certificate: reply.certificate, federation: reply.federation };
    writePrivately(this.recordFile, JSON.stringify(this.record, null, 1));
    this.token = reply.token;
  }

  endsSoon() {
    return Date.parse(new X509Certificate(this.record.certificate).validTo) < Date.now() + NEW_CERTIFICATE_BEFORE_MS;
  }

  /** Where to attach, with a token; or {status: 'retry'} and for how long. */
  async assign(avoid) {
    const ask = () => this.call('POST', 'assignments', { body: { avoid } });
    if (!this.token) await this.renew();
    const answer = await ask().catch(async (error) => {
      if (error.status !== 401) throw error;
      await this.renew(); // expired
      return ask();
    });
    this.checkTrail(answer);
    if (answer.token) this.token = answer.token;
    return answer;
  }

  /** A trail of models only grows: for a reducer that shows an older one than before, nothing is trained. */
  checkTrail({ trail_head: head, trail_length: length }) {
    const seen = existsSync(this.trailFile) ? JSON.parse(readFileSync(this.trailFile, 'utf8')) : { head, length: 0 };
    if (length < seen.length || (length === seen.length && head !== seen.head)) {
      const why = `the reducer's trail has ${length} entries, and this client has seen ${seen.length}, up to ${seen.head}`;
      throw Object.assign(new Error(why), { final: true });
    }
    if (length > seen.length) writePrivately(this.trailFile, JSON.stringify({ head, length }));
  }

  /** A new token, for the proof that this site has its key: {token, expires_at}. */
  async renew() {
    const body = { grant: 'assertion', assertion: this.assertion() };
    const reply = await this.call('POST', 'token', { body, bearer: '' });
    this.token = reply.token;
    return reply;
  }

  /** A JSON web token (ES256) that this site makes for itself, good for a minute. */
  assertion() {
    const now = Math.floor(Date.now() / 1000);
    const claims = { iss: this.name, sub: this.name, aud: this.record.federation, iat: now, exp: now + ASSERTION_S };
    const encode = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
    const text = `${encode({ alg: 'ES256', typ: 'JWT' })}.${encode({ ...claims, jti: randomBytes(16).toString('hex') })}`;
    const signature = sign('sha256', Buffer.from(text), { key: this.key, dsaEncoding: 'ieee-p1363' });
    return `${text}.${signature.toString('base64url')}`;
  }

  /** The authority's certificate, believed only if it is what the join string names, and certifies the reducer. */
  async fetchAuthority() {
    const found = await this.call('GET', 'ca', { unverified: true });
    if (fingerprint(found) !== this.join.fingerprint) {
      const why = 'the reducer answers with another authority than the join string names: somebody is in between';
      throw Object.assign(new Error(why), { final: true });
    }
    await this.call('GET', 'ca', { ca: found });
    return found;
  }

  /** One call of the REST API; the answer's JSON value, or its PEM text. */
  call(method, path, { body, bearer = this.token, ca = this.record?.ca, unverified = false } = {}) {
    const text = body === undefined ? undefined : JSON.stringify(body);
    const options = {
      method,
      timeout: TIMEOUT_MS,
      headers: {
        ...(bearer ? { authorization: `Bearer ${bearer}` } : {}),
        ...(text === undefined ? {} : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) }),
      },
      ...(unverified ? { rejectUnauthorized: false } : { ca }),
      ...(this.record && !unverified ? { cert: this.record.certificate, key: this.key } : {}),
    };
    return new Promise((resolve, reject) => {
      const asked = request(`${this.join.url}/api/v1/${path}`, options, (answer) => {
        const parts = [];
        let size = 0;
        answer.on('data', (part) => {
          size += part.length;
          if (size > MAX_ANSWER_BYTES) asked.destroy(new Error('the answer is too long'));
          parts.push(part);
        });
        answer.on('error', reject);
        answer.on('end', () => {
          const content = Buffer.concat(parts).toString();
          if (answer.statusCode >= 300) reject(new Refusal(answer.statusCode, asObject(content)));
          else resolve((answer.headers['content-type'] ?? '').startsWith(PEM_TYPE) ? content : JSON.parse(content));
        });
      });
      asked.on('timeout', () => asked.destroy(new Error(`no answer within ${TIMEOUT_MS / 1000} s`)));
      asked.on('error', reject);
      asked.end(text);
    });
  }
}

function asObject(text) {
  try {
    return JSON.parse(text);
  } catch {
    return {};
  }
}

/** Whole or not at all, for this user alone. */
function writePrivately(path, text) {
  writeFileSync(`${path}.new`, text, { mode: 0o600, flush: true });
  renameSync(`${path}.new`, path);
}
