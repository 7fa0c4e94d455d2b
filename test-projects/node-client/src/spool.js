// Results that wait to be acknowledged, in files: a client that is killed answers from here, without training again.
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join as joinPath } from 'node:path';

export class Spool {
  constructor(folder) {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    this.folder = folder;
    this.results = new Map(); // task id → {metadata, objectId, bytes}
    for (const name of readdirSync(folder).filter((file) => file.endsWith('.json'))) {
      const { metadata, objectId } = JSON.parse(readFileSync(joinPath(folder, name), 'utf8'));
      const bytes = readFileSync(joinPath(folder, name.replace(/json$/, 'bin')));
      this.results.set(metadata.task_id, { metadata, objectId, bytes });
    }
  }

  put(result) {
    const path = this.path(result.metadata.task_id);
    writeFileSync(`${path}.bin`, result.bytes, { flush: true });
    const text = JSON.stringify({ metadata: result.metadata, objectId: result.objectId });
    writeFileSync(`${path}.new`, text, { flush: true });
    renameSync(`${path}.new`, `${path}.json`); // this is what makes it a result
    this.results.set(result.metadata.task_id, result);
  }

  get(taskId) {
    return this.results.get(taskId);
  }

  remove(taskId) {
    if (!this.results.delete(taskId)) return;
    rmSync(`${this.path(taskId)}.json`, { force: true });
    rmSync(`${this.path(taskId)}.bin`, { force: true });
  }

  taskIds() {
    return [...this.results.keys()];
  }

  path(taskId) {
    return joinPath(this.folder, createHash('sha256').update(taskId).digest('hex'));
  }
}
