// Models on their way to this client: received in pieces, checked by digest, the last few kept.
import { digest } from './safetensors.js';

const KEPT = 4;
const MAX_MODEL_BYTES = 1 << 30;

export class Objects {
  constructor() {
    this.held = new Map(); // digest → bytes, the oldest first
    this.partial = new Map(); // digest → {bytes, received, kind}
    this.current = null;
  }

  /** The pieces that follow belong to this object. */
  begin({ object_id: id, kind, size_bytes: size, offset }) {
    this.current = null;
    if (size > MAX_MODEL_BYTES) throw new Error(`the object ${id} has ${size} bytes`);
    if (this.held.has(id)) return;
    const known = this.partial.get(id);
    const item = known?.bytes.length === size ? known : { bytes: Buffer.alloc(size), received: 0, kind };
    if (offset !== 0 && offset !== item.received) throw new Error(`the object ${id} goes on at ${offset}`);
    item.received = offset;
    this.partial.set(id, item);
    this.current = id;
  }

  /** Takes a piece; the digest of the object that it completes, else null. */
  piece(offset, data) {
    const id = this.current;
    if (id === null) return null; // of an object that is here already
    const item = this.partial.get(id);
    if (offset !== item.received || offset + data.length > item.bytes.length) throw new Error('a piece does not fit');
    data.copy(item.bytes, offset);
    item.received += data.length;
    if (item.received < item.bytes.length) return null;
    this.partial.delete(id);
    this.current = null;
    if (digest(item.bytes, id.split(':')[0]) !== id) throw new Error(`the bytes that came are not those of ${id}`);
    this.held.set(id, item.bytes);
    while (this.held.size > KEPT) this.held.delete(this.held.keys().next().value);
    return id;
  }

  get(id) {
    return this.held.get(id);
  }

  /** The stream broke: what came stays. */
  pause() {
    this.current = null;
  }

  /** For the Hello: what is here in part, and how far. */
  begun() {
    return [...this.partial].map(([id, { received, kind }]) => ({ object_id: id, offset: received, kind }));
  }
}
