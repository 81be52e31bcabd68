// Forward arithmetic: forward[kind](operation, unit) computes one output, as the kernel's equation says, from the arrays
// of the page.
//
// It returns {terms, result}, with the values in between under the letters or words of the equation, and
//   leading  the term that a path follows, where that is not the largest one
// forward_presentation.js says how these values are shown.
//
// Loaded after windows.js. Uses
//   arrays.js: NotEmbedded, tensors, operations, tensor, parameter, mapShape, unitValue, isInside, indicesBelow
//   terms.js: vectorUnit, unitName, inputTerm, sum, valuesOf, summed, fromLargest, leadingTerm
//   windows.js: tapsInside, averagedTaps, groupChannels, unitOfFlat
//   numbers.js (later): className

// Sums of products ---------------------------------------------------------------------------------------------------

// y = Σ x·w + bias over the taps of the window inside the map (padding adds 0) and the input channels of the group
function conv(operation, unit) {
  const [input] = operation.inputs;
  const filters = tensor(`${operation.name}/filters`);
  const { first, count } = groupChannels(operation, unit.channel);
  const products = [];
  for (const { i, j, row, column } of tapsInside(operation, unit)) {
    for (let c = 0; c < count; c++) {
      const w = filters.at(i, j, c, unit.channel);
      products.push(inputTerm(input, { row, column, channel: first + c }, { w }));
    }
  }
  return withBias(operation, unit, products);
}

// y = Σ x·w + bias over all units of the input
function dense(operation, unit) {
  const [input] = operation.inputs;
  const weights = tensor(`${operation.name}/weights`);
  const products = indicesBelow(weights.shape[0]).map((i) =>
    inputTerm(input, unitOfFlat(input, i), { w: weights.at(i, unit.channel) }));
  return withBias(operation, unit, products);
}

function withBias(operation, unit, terms) {
  const total = sum(valuesOf(terms));
  const bias = parameter(operation, "bias", [unit.channel], null);
  return { terms, total, bias, result: bias === null ? total : total + bias };
}

// Pools --------------------------------------------------------------------------------------------------------------

// y = the largest x of the window inside the map, of equal ones the first
function maxPool(operation, unit) {
  const [input] = operation.inputs;
  const terms = tapsInside(operation, unit).map(({ row, column }) =>
    inputTerm(input, { row, column, channel: unit.channel }));
  const [winner] = fromLargest(terms);
  return { terms, leading: winner, result: winner.value };
}

// y = Σ x / n over the window inside the map; n may count padding
function averagePool(operation, unit) {
  return average(operation, unit, tapsInside(operation, unit), averagedTaps(operation, unit).length);
}

// y = Σ x / (H·W)
function globalAveragePool(operation, unit) {
  const [height, width] = mapShape(operation.inputs[0]);
  const pixels = indicesBelow(height).flatMap((row) => indicesBelow(width).map((column) => ({ row, column })));
  return average(operation, unit, pixels, height * width);
}

function average(operation, { channel }, pixels, n) {
  const [input] = operation.inputs;
  const units = pixels.map(({ row, column }) => ({ row, column, channel }));
  const total = sum(units.map((unit) => unitValue(input, unit)));
  return { terms: units.map((unit) => inputTerm(input, unit, { "1/n": 1 / n })), total, n, result: total / n };
}

// Normalization ------------------------------------------------------------------------------------------------------

// y = γ·(x − μ)/√(σ² + ε) + β
function batchNorm(operation, unit) {
  const { mean, deviation, scale, offset } = batchNormNumbers(operation, unit.channel);
  const term = inputTerm(operation.inputs[0], unit);
  const normalized = (term.value - mean) / deviation;
  return { terms: [term], normalized, result: scale * normalized + offset };
}

// The numbers of a batch norm for a channel. A layer without γ or β has 1 or 0.
function batchNormNumbers(operation, channel) {
  const { epsilon } = operation.settings;
  const mean = parameter(operation, "mean", [channel], 0);
  const variance = parameter(operation, "variance", [channel], 1);
  const deviation = Math.sqrt(variance + epsilon);
  const scale = parameter(operation, "scale", [channel], 1);
  const offset = parameter(operation, "offset", [channel], 0);
  return { mean, variance, epsilon, deviation, scale, offset };
}

// y = x / s^β
function responseNormalization(operation, unit) {
  const { beta } = operation.settings;
  const { terms, total, s } = responseSum(operation, unit);
  const leading = inputTerm(operation.inputs[0], unit, { "s^(−β)": s ** -beta });
  const x = unitValue(operation.inputs[0], unit);
  return { terms, total, s, x, leading, result: x / s ** beta };
}

// s = k + α·Σ x² over the channels within the radius
function responseSum(operation, unit) {
  const [input] = operation.inputs;
  const terms = neighbors(operation, unit).map((near) => inputTerm(input, near, { x: unitValue(input, near) }));
  const total = sum(valuesOf(terms));
  return { terms, total, s: operation.settings.bias + operation.settings.alpha * total };
}

// The units of the channels within the radius of a unit's channel.
function neighbors(operation, unit) {
  const { radius } = operation.settings;
  return indicesBelow(operation.shape[2]).filter((channel) => Math.abs(channel - unit.channel) <= radius)
    .map((channel) => ({ ...unit, channel }));
}

// One unit in, one unit out ------------------------------------------------------------------------------------------

// y = f(x)
const elementwise = (f) => (operation, unit) => {
  const term = inputTerm(operation.inputs[0], unit);
  return { terms: [term], result: f(term.value) };
};

const relu = elementwise((x) => Math.max(x, 0));
const sigmoid = elementwise((x) => 1 / (1 + Math.exp(-x)));
const dropped = elementwise((x) => x); // dropout and drop-path: the mask is for training

// y = x, the unit of an input that was moved here; 0 outside of the input
const moved = (input, unit) => summed(isInside(input, unit) ? [inputTerm(input, unit)] : []);

function pad(operation, { row, column, channel }) {
  const [[top], [left]] = operation.settings.margins;
  return moved(operation.inputs[0], { row: row - top, column: column - left, channel });
}

function zeroPaddedShortcut(operation, { row, column, channel }) {
  const { stride, front } = operation.settings;
  return moved(operation.inputs[0], { row: row * stride[0], column: column * stride[1], channel: channel - front });
}

// l = ⌊L·x⌋, at most L − 1; y = 1 if k = l (one-hot code) or k ≤ l (thermometer code), otherwise 0
function discretize(operation, unit) {
  const { levels, code } = operation.settings;
  const term = inputTerm(operation.inputs[0], { ...unit, channel: Math.floor(unit.channel / levels) });
  const k = unit.channel % levels;
  const l = Math.min(Math.max(Math.floor(Math.fround(levels * term.value)), 0), levels - 1); // the network has float32
  return { terms: [term], k, l, result: Number(code === "onehot" ? k === l : k <= l) };
}

// y = (scale·x − mean)/deviation of the pixel x of the image, where a path ends
function preprocessing(operation, unit) {
  const { channels, scale, mean, deviation } = operation.settings;
  const c = unit.channel;
  const images = tensors.has("images") ? "images" : "preprocessed"; // the page holds equal arrays once
  const term = inputTerm(images, { ...unit, channel: channels[c] });
  return { terms: [{ ...term, from: null }], result: (scale[c] * term.value - mean[c]) / deviation[c] };
}

// Several inputs -----------------------------------------------------------------------------------------------------

// y = x of the branch that fills this channel
function concatenate(operation, unit) {
  const branch = branchOf(operation, unit);
  return { ...moved(branch.input, branch.unit), branch };
}

// The branch of a concatenation that an output channel comes from.
function branchOf(operation, unit) {
  let { channel } = unit;
  for (const input of operation.inputs) {
    const count = mapShape(input)[2];
    if (channel < count) return { input, unit: { ...unit, channel } };
    channel -= count;
  }
  throw new RangeError(`${operation.name} has no channel ${unit.channel}`);
}

// y = x + s, or x + a·r
function residualSum(operation, unit) {
  const [first, second] = operation.inputs;
  const { scale } = operation.settings;
  const other = scale === undefined ? inputTerm(second, unit, {}, "s") : inputTerm(second, unit, { a: scale }, "r");
  return summed([inputTerm(first, unit), other]);
}

// y = x·s[c]
function scaleChannels(operation, unit) {
  const [input, gates] = operation.inputs;
  return summed([inputTerm(input, unit, { s: unitValue(gates, vectorUnit(unit.channel)) })]);
}

// The loss -----------------------------------------------------------------------------------------------------------

// L = Σ −q[k]·log p[k] over the classes, of which the page names those with q[k] > 0
function crossEntropy(operation) {
  const [input] = operation.inputs;
  const { label } = operation.settings;
  const terms = softmaxOf(operation).map(({ log, target }, k) => ({
    name: className(k),
    factors: [{ name: "−q", value: -target }, { name: "log p", value: log }],
    value: target === 0 ? 0 : -target * log,
    from: { operation: input, unit: vectorUnit(k) },
  }));
  const used = terms.filter((term, k) => term.value !== 0 || k === label);
  return { ...summed(used), leading: terms[label] };
}

// For all classes: the logit z, log p of p = softmax(z), p itself, and the target q.
function softmaxOf(operation) {
  const logits = tensor(operation.inputs[0]);
  const { label, smoothing } = operation.settings;
  const [classes] = logits.shape;
  const z = indicesBelow(classes).map((k) => logits.at(k));
  const highest = z.reduce((a, b) => Math.max(a, b));
  const total = sum(z.map((logit) => Math.exp(logit - highest)));
  return z.map((logit, k) => ({
    logit,
    highest,
    total,
    log: logit - highest - Math.log(total),
    probability: Math.exp(logit - highest) / total,
    target: (k === label ? 1 - smoothing : 0) + smoothing / classes,
  }));
}

const forward = {
  preprocessing,
  conv,
  dense,
  max_pool: maxPool,
  average_pool: averagePool,
  global_average_pool: globalAveragePool,
  batch_norm: batchNorm,
  lrn: responseNormalization,
  relu,
  sigmoid,
  dropout: dropped,
  drop_path: dropped,
  pad,
  zero_padded_shortcut: zeroPaddedShortcut,
  discretize,
  concatenate,
  residual_sum: residualSum,
  scale_channels: scaleChannels,
  cross_entropy: crossEntropy,
};

// The path of the largest contribution: from a unit to the input of its leading term, and so on, to the image.
// Returns {path: [{operation, unit, value, term}], ended}; `ended` says why, if not at the image.
function pathToImage(operation, unit) {
  const path = [];
  let at = { operation: operation.name, unit };
  while (at) {
    const current = operations.get(at.operation);
    let computed;
    try {
      computed = forward[current.kind](current, at.unit);
    } catch (error) {
      if (!(error instanceof NotEmbedded)) throw error;
      return { path, ended: `The arrays of ${unitName(at.operation, at.unit)} are not in this page.` };
    }
    const term = leadingTerm(computed);
    path.push({ ...at, value: computed.result, term });
    at = term && term.from;
  }
  return { path, ended: "" };
}
