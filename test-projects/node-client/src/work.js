// The work of a site: trains and validates a model on its own examples. Knows nothing of networks.
import { readFileSync } from 'node:fs';
import { setImmediate as breath } from 'node:timers/promises';
import { evaluate, randomNumbers, step } from './softmax.js';

/** The examples of a CSV file: in each line the set (`train` or `held_out`), the label, and the pixels from 0 to 1. */
export function readExamples(path) {
  const sets = { train: { inputs: [], labels: [] }, held_out: { inputs: [], labels: [] } };
  for (const line of readFileSync(path, 'utf8').split('\n')) {
    if (line === '') continue;
    const [name, label, ...pixels] = line.split(',');
    sets[name].labels.push(Number(label));
    sets[name].inputs.push(Float32Array.from(pixels, Number));
  }
  if (sets.train.labels.length === 0) throw new Error(`${path} has no examples to train on`);
  return sets;
}

/**
 * Trains a model in place.
 * @param budget optimizer steps at the most; 0: as many as the epochs have.
 * @param report told of the fraction that is done, and the loss; throws where the work is to end.
 */
export async function train(model, { inputs, labels }, { epochs = 2, batch_size = 16, learning_rate = 0.3 }, budget, report) {
  const size = Math.min(batch_size, labels.length);
  const each = Math.ceil(labels.length / size);
  const steps = Math.min(budget || Infinity, epochs * each);
  const random = randomNumbers(labels.length);
  const order = labels.map((_, place) => place);
  const started = performance.now();
  let loss = 0;
  for (let count = 0; count < steps; count++) {
    if (count % each === 0) {
      shuffle(order, random);
      report(count / steps, loss);
      await breath(); // the stream is served in between
    }
    const batch = order.slice((count % each) * size, (count % each) * size + size);
    loss = step(model, batch.map((place) => inputs[place]), batch.map((place) => labels[place]), learning_rate);
  }
  const milliseconds = performance.now() - started;
  return {
    num_examples: labels.length,
    num_steps: steps,
    ms_per_step: milliseconds / steps,
    ms_per_epoch: (milliseconds / steps) * each,
    metrics: { train_loss: loss },
  };
}

/** Metrics of a model on what nobody trains on, and how many examples that is. */
export function validate(model, examples) {
  return { metrics: evaluate(model, examples), count: examples.labels.length };
}

function shuffle(order, random) {
  for (let last = order.length - 1; last > 0; last--) {
    const other = Math.floor(random() * (last + 1));
    [order[last], order[other]] = [order[other], order[last]];
  }
}
