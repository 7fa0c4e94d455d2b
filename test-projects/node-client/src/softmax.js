// Softmax regression: what is learned here. A model is {weight: (inputs, classes), bias: (classes)}, float32.

/** Numbers from 0 to 1 that follow from the seed (mulberry32). */
export function randomNumbers(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Mean loss and accuracy of a model on examples {inputs: [Float32Array …], labels: [n …]}. */
export function evaluate(model, { inputs, labels }) {
  let loss = 0;
  let right = 0;
  for (let row = 0; row < labels.length; row++) {
    const chances = predict(model, inputs[row]);
    loss -= Math.log(Math.max(chances[labels[row]], 1e-12));
    if (chances.indexOf(Math.max(...chances)) === labels[row]) right += 1;
  }
  return { loss: loss / labels.length, accuracy: right / labels.length };
}

/** One step of gradient descent on some examples, in place; returns their mean loss. */
export function step(model, inputs, labels, learningRate) {
  const classes = model.bias.values.length;
  const byWeight = new Float64Array(model.weight.values.length);
  const byBias = new Float64Array(classes);
  let loss = 0;
  inputs.forEach((input, row) => {
    const chances = predict(model, input);
    loss -= Math.log(Math.max(chances[labels[row]], 1e-12));
    chances[labels[row]] -= 1;
    for (let label = 0; label < classes; label++) {
      byBias[label] += chances[label];
      for (let place = 0; place < input.length; place++) byWeight[place * classes + label] += input[place] * chances[label];
    }
  });
  const rate = learningRate / labels.length;
  byWeight.forEach((value, place) => { model.weight.values[place] -= rate * value; });
  byBias.forEach((value, place) => { model.bias.values[place] -= rate * value; });
  return loss / labels.length;
}

/** The chance of each class, for one input. */
function predict(model, input) {
  const classes = model.bias.values.length;
  const logits = Array.from(model.bias.values);
  for (let place = 0; place < input.length; place++) {
    for (let label = 0; label < classes; label++) logits[label] += input[place] * model.weight.values[place * classes + label];
  }
  const largest = Math.max(...logits);
  const powers = logits.map((logit) => Math.exp(logit - largest));
  const total = powers.reduce((sum, power) => sum + power, 0);
  return powers.map((power) => power / total);
}
