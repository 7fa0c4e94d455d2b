// Join strings: `fedn1.` and base64url of a CRC-32 (4 bytes, big endian) and the JSON list [url, fingerprint, secret].

const PREFIX = 'fedn1.';

/** {url, fingerprint, secret}; an Error that says what is wrong with the text. */
export function parseJoinString(text) {
  const compact = text.replace(/\s+/g, '');
  if (!compact.startsWith(PREFIX)) throw new Error(`this is no join string: one starts with ${PREFIX}`);
  const raw = Buffer.from(compact.slice(PREFIX.length), 'base64url');
  const body = raw.subarray(4);
  if (raw.length < 5 || raw.readUInt32BE(0) !== crc32(body)) {
    throw new Error('the join string is damaged: part of it is missing or was changed in copying');
  }
  const [url, fingerprint, secret] = JSON.parse(body.toString());
  return { url, fingerprint, secret };
}

/** CRC-32 as in zlib (polynomial 0xEDB88320), which Node.js 18 has no function for. */
function crc32(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit += 1) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return (crc ^ 0xffffffff) >>> 0;
}
