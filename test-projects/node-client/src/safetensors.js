// Models: safetensors with float32 tensors. {name: {shape: [n, …], values: Float32Array}}, in the header's order.
import { blake3 } from '@noble/hashes/blake3.js';
import { createHash } from 'node:crypto';

const ALIGNMENT = 64;

/** The tensors in the bytes of a model. An Error where they are no model of float32. */
export function decode(bytes) {
  const headerBytes = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.subarray(8, 8 + headerBytes).toString());
  const tensors = {};
  for (const [name, { dtype, shape, data_offsets: [start, end] }] of Object.entries(header)) {
    if (name === '__metadata__') continue;
    const size = shape.reduce((product, length) => product * length, 1);
    if (dtype !== 'F32') throw new Error(`the tensor ${name} is ${dtype}; this client reads F32`);
    if (end - start !== 4 * size || 8 + headerBytes + end > bytes.length) throw new Error(`the tensor ${name} does not fit`);
    const at = bytes.byteOffset + 8 + headerBytes + start;
    tensors[name] = { shape, values: new Float32Array(bytes.buffer.slice(at, at + 4 * size)) };
  }
  return tensors;
}

/** The bytes of tensors: the same for the same tensors. */
export function encode(tensors) {
  const header = {};
  let end = 0;
  for (const [name, { shape, values }] of Object.entries(tensors)) {
    header[name] = { dtype: 'F32', shape, data_offsets: [end, (end += values.byteLength)] };
  }
  const text = JSON.stringify(header);
  const length = Math.ceil((8 + Buffer.byteLength(text)) / ALIGNMENT) * ALIGNMENT - 8;
  const bytes = Buffer.alloc(8 + length + end, ' ');
  bytes.writeBigUInt64LE(BigInt(length), 0);
  bytes.write(text, 8);
  let at = 8 + length;
  for (const { values } of Object.values(tensors)) {
    bytes.set(Buffer.from(values.buffer, values.byteOffset, values.byteLength), at);
    at += values.byteLength;
  }
  return bytes;
}

/** The name of an object: algorithm and digest of its bytes, as `blake3:…` or `sha256:…`. */
export function digest(bytes, algorithm = 'blake3') {
  if (algorithm === 'blake3') return `blake3:${Buffer.from(blake3(bytes)).toString('hex')}`;
  if (algorithm === 'sha256') return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
  throw new Error(`there is no digest ${algorithm}`);
}
