// What Node's crypto does not have: a signing request (PKCS #10, RFC 2986) for an ECDSA P-256 key, in DER by hand.
import { createPublicKey, generateKeyPairSync, sign, X509Certificate } from 'node:crypto';

const SEQUENCE = 0x30;
const SET = 0x31;
const COMMON_NAME = Buffer.from('0603550403', 'hex'); // 2.5.4.3
const ECDSA_WITH_SHA256 = Buffer.from('06082a8648ce3d040302', 'hex'); // 1.2.840.10045.4.3.2
const VERSION_0 = Buffer.from('020100', 'hex');
const NO_ATTRIBUTES = Buffer.from('a000', 'hex');
const MAX_COMMON_NAME_BYTES = 64;

/** A new private key, PEM (PKCS 8). It never leaves this machine. */
export function newPrivateKey() {
  return generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ type: 'pkcs8', format: 'pem' });
}

/** A signing request (PEM) for a private key (PEM). */
export function signingRequest(key, name) {
  const text = der(0x0c, Buffer.from(name).subarray(0, MAX_COMMON_NAME_BYTES));
  const subject = der(SEQUENCE, der(SET, der(SEQUENCE, COMMON_NAME, text)));
  const publicKey = createPublicKey(key).export({ type: 'spki', format: 'der' });
  const info = der(SEQUENCE, VERSION_0, subject, publicKey, NO_ATTRIBUTES);
  const signature = der(0x03, Buffer.of(0), sign('sha256', info, key));
  const request = der(SEQUENCE, info, der(SEQUENCE, ECDSA_WITH_SHA256), signature).toString('base64');
  const lines = request.match(/.{1,64}/g).join('\n');
  return `-----BEGIN CERTIFICATE REQUEST-----\n${lines}\n-----END CERTIFICATE REQUEST-----\n`;
}

/** `sha256:` of a certificate's DER form, as join strings have it. */
export function fingerprint(pem) {
  return 'sha256:' + new X509Certificate(pem).fingerprint256.replaceAll(':', '').toLowerCase();
}

/** One element: its tag, its length, and its contents. */
function der(tag, ...contents) {
  const content = Buffer.concat(contents);
  const length = [];
  for (let left = content.length; left > 0; left >>= 8) length.unshift(left & 0xff);
  const head = content.length < 0x80 ? [tag, content.length] : [tag, 0x80 | length.length, ...length];
  return Buffer.concat([Buffer.from(head), content]);
}
