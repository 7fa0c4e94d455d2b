// One attachment to a combiner: the stream, from Hello to its end. What it sends and receives is proto/fedn/v1.
import grpc from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { KINDS } from './tasks.js';

const MAX_MESSAGE_BYTES = 8 << 20;
const CHUNK_BYTES = 1 << 20;
const HELLO_MS = 15_000;
const FAREWELL_MS = 1_000;
const FINAL = new Set(['replaced', 'name_taken', 'name_not_yours']);

/** The service in the .proto files of a folder. */
export function loadService(folder) {
  const options = { keepCase: true, longs: Number, enums: String, defaults: true, oneofs: true, includeDirs: [folder] };
  return grpc.loadPackageDefinition(loadSync('fedn/v1/client.proto', options)).fedn.v1.ClientService;
}

/** Why a stream ended. `final`: trying again cannot help. `sentAway`: the combiner has ended it on purpose. */
export class Ended extends Error {
  constructor(message, { combiner, welcomed, final = false, sentAway = false, retryAfterMs = 0 }) {
    super(message);
    Object.assign(this, { combiner, welcomed, final, sentAway, retryAfterMs });
  }
}

export class Attachment {
  /**
   * @param assignment what the reducer has answered.
   * @param site for trust, and for the certificate that it shows.
   * @param introduction {client, instance}.
   */
  constructor(Service, assignment, site, introduction, { objects, spool }) {
    Object.assign(this, { assignment, introduction, objects, spool });
    const { ca, certificate } = site.record;
    const credentials = grpc.credentials.createSsl(Buffer.from(ca), Buffer.from(site.key), Buffer.from(certificate));
    const host = assignment.host.includes(':') ? `[${assignment.host}]` : assignment.host;
    this.channel = new Service(`${host}:${assignment.port}`, credentials, {
      'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
      'grpc.max_send_message_length': MAX_MESSAGE_BYTES,
      'grpc.enable_retries': 0,
    });
    this.welcome = null;
    this.uploads = []; // {taskId, bytes, offset, saysEnd}: sent one after the other
    this.sending = false;
    this.announced = new Set(); // results that the combiner was told of on this stream, and has not settled
    this.heardAt = Date.now();
  }

  /** Serves the stream until it ends: always with an error, which says why. */
  async serve(tasks) {
    this.tasks = tasks;
    const metadata = new grpc.Metadata();
    metadata.set('authorization', `Bearer ${this.assignment.token}`);
    this.call = this.channel.Attach(metadata);
    try {
      await new Promise((_, reject) => {
        this.reject = reject;
        this.call.on('data', (frame) => {
          try {
            this.receive(frame);
          } catch (error) {
            reject(error);
          }
        });
        this.call.on('error', (error) => {
          reject(this.ended(error.message, { final: error.code === grpc.status.PERMISSION_DENIED }));
        });
        this.call.on('end', () => reject(this.ended('the combiner ended the stream')));
        this.post({ hello: this.hello() });
        this.watch(HELLO_MS);
      });
    } finally {
      clearTimeout(this.timer);
      this.objects.pause();
      this.call.cancel();
      this.channel.close();
    }
  }

  hello() {
    return {
      ...this.introduction,
      version: '0.1.0',
      kinds: KINDS,
      held_objects: [...this.objects.held.keys()],
      partial: this.objects.begun(),
      spooled_tasks: this.spool.taskIds(),
      bundles: false, // each frame comes in a message of its own
      codecs: [], // updates are wanted as they are
    };
  }

  /** Sends a control message. */
  post(frame) {
    this.call.write(frame);
  }

  /** Says that a result waits; its pieces follow at once where the task gave credit and nothing else is on its way. */
  offer({ metadata, objectId, bytes }, credit) {
    const taskId = metadata.task_id;
    const follows = bytes.length > 0 && bytes.length <= credit && this.announced.size === 0;
    this.uploads = this.uploads.filter((upload) => upload.taskId !== taskId);
    if (bytes.length > 0) this.announced.add(taskId);
    this.post({ ready: { metadata, object_id: objectId, size_bytes: bytes.length, follows } });
    if (follows) this.upload({ taskId, bytes, offset: 0, saysEnd: false });
  }

  receive(frame) {
    this.heardAt = Date.now();
    switch (frame.control) {
      case undefined:
        if (this.objects.piece(frame.offset, frame.data) !== null) this.tasks.next();
        break;
      case 'welcome':
        this.welcome = frame.welcome;
        console.log(`attached to the combiner ${frame.welcome.combiner}`);
        this.watch(1000 * frame.welcome.progress_s);
        break;
      case 'object':
        this.objects.begin(frame.object);
        break;
      case 'task':
        this.tasks.submit(frame.task);
        this.fetch(frame.task.model_id);
        break;
      case 'grant':
        this.granted(frame.grant);
        break;
      case 'ack':
        this.settled(frame.ack.task_id);
        break;
      case 'refused':
        this.refused(frame.refused);
        break;
      case 'cancelled':
        this.forget(frame.cancelled.task_id);
        this.tasks.cancel(frame.cancelled.task_id);
        break;
      case 'bye':
        throw this.bye(frame.bye);
      default: // a pong; what a later version may say; an object that is missing, whose task ends with its round
    }
  }

  /** Asks for a model that neither is here nor comes by itself. */
  fetch(id) {
    if (!id || this.objects.get(id) || this.objects.current === id) return;
    this.post({ fetch: { object_id: id, offset: this.objects.partial.get(id)?.received ?? 0, kind: 'OBJECT_KIND_MODEL' } });
  }

  granted({ task_id: taskId, offset }) {
    const result = this.spool.get(taskId);
    this.uploads = this.uploads.filter((upload) => upload.taskId !== taskId);
    if (result) this.upload({ taskId, bytes: result.bytes, offset, saysEnd: true });
  }

  refused({ task_id: taskId, problem }) {
    console.error(`the combiner refused the result of task ${taskId}: ${problem.message} ${problem.fix} [${problem.code}]`);
    if (problem.code === 'unknown_task') {
      this.forget(taskId); // it does not judge the result: a combiner that was restarted may ask for it yet
      this.tasks.cancel(taskId);
    } else {
      this.settled(taskId);
    }
  }

  settled(taskId) {
    this.forget(taskId);
    this.tasks.settled(taskId);
  }

  forget(taskId) {
    this.announced.delete(taskId);
    this.uploads = this.uploads.filter((upload) => upload.taskId !== taskId);
  }

  upload(upload) {
    this.uploads.push(upload);
    if (!this.sending) this.send().catch((error) => this.reject(error));
  }

  /** Sends what waits, as fast as the stream takes it. */
  async send() {
    this.sending = true;
    const size = Math.min(this.welcome.chunk_bytes || CHUNK_BYTES, CHUNK_BYTES);
    while (this.uploads.length > 0) {
      const upload = this.uploads[0];
      const data = upload.bytes.subarray(upload.offset, upload.offset + size);
      const frame = { offset: upload.offset, data };
      upload.offset += data.length;
      if (data.length > 0 && !this.call.write(frame)) await new Promise((resume) => this.call.once('drain', resume));
      if (this.uploads[0] !== upload || upload.offset < upload.bytes.length) continue;
      if (upload.saysEnd) this.post({ upload_end: { task_id: upload.taskId } });
      this.uploads.shift();
    }
    this.sending = false;
  }

  /** Pings a combiner of which nothing was heard for half of this time; gives it up after the other half. */
  watch(silenceMs) {
    clearTimeout(this.timer);
    const look = () => {
      const silent = Date.now() - this.heardAt;
      if (silent >= silenceMs) return this.reject(this.ended(`it was silent for ${silent / 1000} s`));
      if (silent >= silenceMs / 2 && this.welcome !== null) this.post({ ping: { nonce: 1 } });
      this.timer = setTimeout(look, silenceMs / 4);
    };
    this.timer = setTimeout(look, silenceMs / 4);
  }

  /** Says goodbye, on purpose. */
  async leave(reason) {
    this.post({ leave: { reason } });
    const gone = new Promise((resolve) => this.call.once('close', resolve).once('end', resolve));
    this.call.end();
    await Promise.race([gone, new Promise((resolve) => setTimeout(resolve, FAREWELL_MS).unref())]);
  }

  bye({ problem, retry_after_s: seconds }) {
    const final = FINAL.has(problem.code) || !(this.welcome || problem.retryable || problem.code === 'token_expired');
    const why = `${problem.message} ${problem.fix} [${problem.code}]`;
    return this.ended(why, { final, sentAway: true, retryAfterMs: 1000 * seconds });
  }

  ended(why, options = {}) {
    const message = `the stream to the combiner ${this.assignment.combiner} ended: ${why}`;
    return new Ended(message, { combiner: this.assignment.combiner, welcomed: this.welcome !== null, ...options });
  }
}
