#!/usr/bin/env node
// A client of a fedn federation: enrols, is assigned to a combiner, attaches, trains, and comes back whatever breaks.
import { randomUUID } from 'node:crypto';
import { dirname, join as joinPath } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Attachment, loadService } from './attachment.js';
import { parseJoinString } from './join.js';
import { Objects } from './objects.js';
import { Refusal, Site } from './site.js';
import { Spool } from './spool.js';
import { Tasks } from './tasks.js';
import { readExamples } from './work.js';

const FIRST_WAIT_MS = 200;
const MOST_WAIT_MS = 30_000;
const STABLE_AFTER_MS = 5_000;
const USAGE = `usage: fedn-node-client --name NAME --data FILE.csv --data-dir FOLDER [--join STRING] [--proto FOLDER]
  --join      what \`fedn token create\` prints; or the variable FEDN_JOIN. Needed once
  --name      of this client
  --data      the site's examples, see README.md
  --data-dir  where its key, its enrolment and unsent results are kept
  --proto     the folder proto of fedn's repository`;

class Client {
  constructor({ name, data, dataDir, join, proto }) {
    this.Service = loadService(proto);
    this.site = new Site(parseJoinString(join), dataDir, name);
    this.objects = new Objects();
    this.spool = new Spool(joinPath(dataDir, 'spool'));
    this.introduction = { client: name, instance: randomUUID().replaceAll('-', '') };
    this.attachment = null;
    this.stopping = new AbortController();
    this.tasks = new Tasks({
      client: name,
      examples: readExamples(data),
      objects: this.objects,
      spool: this.spool,
      post: (frame) => this.attachment?.post(frame),
      offer: (result, credit) => this.attachment?.offer(result, credit),
    });
  }

  /** Until it is stopped, or cannot go on: then the error that says why. */
  async run() {
    let assignment = null;
    let avoid = [];
    let waitMs = FIRST_WAIT_MS;
    while (!this.stopping.signal.aborted) {
      const started = Date.now();
      try {
        await this.site.enrol();
        assignment ??= await this.assigned(avoid);
        await this.attach(assignment);
      } catch (error) {
        if (this.stopping.signal.aborted) return;
        if (error.final || (error instanceof Refusal && !error.retryable)) throw error;
        console.error(error.message);
        if (error.welcomed && Date.now() - started > STABLE_AFTER_MS) waitMs = FIRST_WAIT_MS;
        await this.rest(Math.max(waitMs * (0.5 + Math.random()), error.retryAfterMs ?? 0));
        waitMs = Math.min(2 * waitMs, MOST_WAIT_MS);
        // Most cuts are short: the same combiner once more, unless it has sent us away or did not take us.
        avoid = error.combiner && !error.welcomed ? [error.combiner] : [];
        if (!error.welcomed || error.sentAway) assignment = null;
      }
    }
  }

  /** Asks until there is a combiner for us. */
  async assigned(avoid) {
    for (;;) {
      const answer = await this.site.assign(avoid);
      if (answer.status === 'assigned') return answer;
      console.log(`no assignment yet: ${answer.reason} [${answer.code}]`);
      await this.rest(1000 * answer.retry_after_s);
      this.stopping.signal.throwIfAborted();
    }
  }

  async attach(assignment) {
    const { objects, spool } = this;
    const attachment = new Attachment(this.Service, assignment, this.site, this.introduction, { objects, spool });
    this.attachment = attachment;
    const ended = new AbortController();
    this.keepToken(assignment, ended.signal).catch(() => {}); // it ends with the stream
    try {
      await attachment.serve(this.tasks);
    } finally {
      this.attachment = null;
      ended.abort();
    }
  }

  /** Renews the token on the open stream, each time when two thirds of its life are over. */
  async keepToken(assignment, signal) {
    for (;;) {
      await sleep(Math.max((1000 * assignment.expires_at - Date.now()) * (2 / 3), 1000), undefined, { signal });
      try {
        const { token, expires_at } = await this.site.renew();
        Object.assign(assignment, { token, expires_at });
        this.attachment?.post({ token: { token } });
      } catch (error) {
        console.error(`the token was not renewed: ${error.message}`);
      }
    }
  }

  async stop(signal) {
    this.stopping.abort();
    await this.attachment?.leave(`the client got ${signal}`);
    process.exit(0);
  }

  async rest(milliseconds) {
    await sleep(milliseconds, undefined, { signal: this.stopping.signal }).catch(() => {}); // woken to stop
  }
}

function options() {
  const strings = ['name', 'data', 'data-dir', 'join', 'proto'];
  const { values } = parseArgs({ options: Object.fromEntries(strings.map((key) => [key, { type: 'string' }])) });
  const here = dirname(fileURLToPath(import.meta.url));
  const { name, data, 'data-dir': dataDir, join = process.env.FEDN_JOIN, proto = joinPath(here, '../../../proto') } = values;
  if (!name || !data || !dataDir || !join) throw new Error(USAGE);
  return { name, data, dataDir, join, proto };
}

try {
  const client = new Client(options());
  for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => client.stop(signal));
  await client.run();
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}
