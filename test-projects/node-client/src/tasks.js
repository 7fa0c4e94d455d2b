// The tasks of this client: one at a time, in order; each ends with a result in the spool, or with a reason.
import { decode, digest, encode } from './safetensors.js';
import { train, validate } from './work.js';

const TRAIN = 'TASK_KIND_TRAIN';
const VALIDATE = 'TASK_KIND_VALIDATE';
export const KINDS = [TRAIN, VALIDATE];

export class Tasks {
  /** @param post sends a control message, if a stream is open. offer: says that a result waits. */
  constructor({ client, examples, objects, spool, post, offer }) {
    Object.assign(this, { client, examples, objects, spool, post, offer });
    this.queue = [];
    this.current = null;
    this.stale = new Set(); // results that were wanted no more, when last heard of
  }

  /** A task is asked for: new, or again. */
  submit(task) {
    for (const id of this.stale) if (id !== task.task_id) this.spool.remove(id);
    this.stale.clear();
    const result = this.spool.get(task.task_id);
    if (result?.metadata.base_model_id === task.model_id) {
      result.metadata.round = task.round; // of this attempt
      this.offer(result, Number(task.upload_credit_bytes));
      return;
    }
    const known = [this.current, ...this.queue].find((other) => other?.task_id === task.task_id && !other.cancelled);
    if (known) Object.assign(known, task);
    else this.queue.push(task);
    this.next();
  }

  /** The result is not wanted any more, at least not for now. */
  cancel(taskId) {
    this.stale.add(taskId);
    this.queue = this.queue.filter((task) => task.task_id !== taskId);
    if (this.current?.task_id === taskId) this.current.cancelled = true;
  }

  /** The combiner has the result, or wants it never again. */
  settled(taskId) {
    this.spool.remove(taskId);
  }

  /** Starts the next task, if its model is here: called when either comes. */
  next() {
    if (this.current !== null || this.queue.length === 0 || !this.objects.get(this.queue[0].model_id)) return;
    const task = (this.current = this.queue.shift());
    this.run(task)
      .catch((error) => this.fail(task, error))
      .finally(() => {
        this.current = null;
        this.next();
      });
  }

  async run(task) {
    if (!KINDS.includes(task.kind)) throw new Error(`this client does not do ${task.kind}`);
    const started = performance.now();
    this.post({ task_accepted: { task_id: task.task_id } });
    const modelBytes = this.objects.get(task.model_id);
    const model = decode(modelBytes);
    const metadata = {
      task_id: task.task_id,
      client: this.client,
      base_model_id: task.model_id,
      form: 'model',
      model_bytes: modelBytes.length,
    };
    let bytes = Buffer.alloc(0);
    if (task.kind === TRAIN) {
      if (task.validate_incoming) this.validated(metadata, model, 'validation');
      const report = (fraction, loss) => this.progress(task, fraction, loss);
      const parameters = JSON.parse(task.parameters_json || '{}');
      Object.assign(metadata, await train(model, this.examples.train, parameters, task.step_budget, report));
      bytes = encode(model);
      metadata.decoded_bytes = bytes.length;
    } else {
      this.validated(metadata, model, 'metrics');
      metadata.num_examples = metadata.num_validation_examples;
    }
    if (task.cancelled) return;
    metadata.task_ms = performance.now() - started;
    metadata.round = task.round; // the last attempt that asked for it
    const objectId = bytes.length ? digest(bytes, task.model_id.split(':')[0]) : '';
    this.spool.put({ metadata, objectId, bytes });
    this.offer(this.spool.get(task.task_id), Number(task.upload_credit_bytes));
  }

  validated(metadata, model, field) {
    const { metrics, count } = validate(model, this.examples.held_out);
    metadata[field] = metrics;
    metadata.num_validation_examples = count;
  }

  progress(task, fraction, loss) {
    if (task.cancelled) throw new Error('the task was cancelled');
    this.post({ task_progress: { task_id: task.task_id, fraction, metrics: { train_loss: loss } } });
  }

  fail(task, error) {
    if (task.cancelled) return;
    console.error(`task ${task.task_id} failed: ${error.stack}`);
    const problem = { code: 'step_failed', message: String(error.message), fix: 'See the log of the client.' };
    this.post({ task_failed: { task_id: task.task_id, round: task.round, problem } });
  }
}
