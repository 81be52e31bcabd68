// The gradient to a unit of an input, ∂L/∂x, for each kind of operation: inputGradient[kind](operation, unit, source).

// Sums over the outputs that read a unit ----------------------------------------------------------------------------

function convToInput(operation, unit) {
  const filters = tensor(`${operation.name}/filters`);
  const { first, count, c } = readingChannels(operation, unit.channel);
  const readers = readersOf(operation, unit);
  const weight = ({ i, j }, o) => filters.at(i, j, c, o);
  const terms = [];
  for (const reader of readers) {
    for (let o = first; o < first + count; o++) {
      const output = { row: reader.row, column: reader.column, channel: o };
      terms.push({ ...gradientTerm(operation, output, { name: "w", value: weight(reader, o) }), reader });
    }
  }
  const largest = largestTerm(terms);
  const channel = largest ? largest.from.unit.channel : first;
  const g = ({ row, column }) => outputGradient(operation, { row, column, channel });
  const ofReader = (reader) => sum(terms.filter((term) => term.reader === reader).map((term) => term.value));
  const isGrouped = operation.settings.groups > 1;
  return {
    ...summed(`∂L/∂x[m, n, c] = Σ g[p, q, o] · w[i, j, ${isGrouped ? "c mod C/G" : "c"}, o] over the outputs with `
      + `p·s + i·d − top = m and q·s + j·d − left = n${isGrouped ? ", and o in the group of c" : ""}`, terms, "Σ g·w", `${readers.length} positions × ${count} channels`),
    readers: readersBoxes(operation, readers, channel),
    note: isGrouped ? `Input channel ${unit.channel} is c = ${c} of the filters of its group, which has output `
      + `channels ${first} to ${first + count - 1}.` : "",
    matrices: readers.length ? [
      readersMatrix(`g, output channel ${channel}`, readers, g),
      readersMatrix(`w, output channel ${channel}`, readers, (reader) => weight(reader, channel)),
      readersMatrix("g·w", readers, (reader) => g(reader) * weight(reader, channel)),
      ...(count > 1 ? [readersMatrix(`Σ g·w over ${count} channels`, readers, ofReader)] : []),
    ] : [],
  };
}

// The output channels that read an input channel of a convolution, those of its group: the first and how many; and c, the
// number of the input channel in its group.
function readingChannels(operation, channel) {
  const { groups } = operation.settings;
  const size = mapShape(operation.inputs[0])[2] / groups;
  const count = operation.shape[2] / groups;
  return { first: Math.floor(channel / size) * count, count, c: channel % size };
}

function denseToInput(operation, unit) {
  const weights = tensor(`${operation.name}/weights`);
  const n = flatIndex(operation.inputs[0], unit);
  const terms = [];
  for (let o = 0; o < operation.shape[2]; o++) {
    terms.push(gradientTerm(operation, vectorUnit(o), { name: "W", value: weights.at(n, o) }));
  }
  return summed(`∂L/∂x[i] = Σ g[o] · W[i, o] over o, here with i = ${n}`, terms, "Σ g·W", `${terms.length} outputs`);
}

// A map is flattened row by row: the number of a unit in the vector that a dense layer reads.
function flatIndex(source, { row, column, channel }) {
  const [, width, channels] = mapShape(source);
  return (row * width + column) * channels + channel;
}

const vectorUnit = (channel) => ({ row: 0, column: 0, channel });

function maxPoolToInput(operation, unit) {
  const readers = readersOf(operation, unit);
  const { channel } = unit;
  const isWinner = ({ row, column }) =>
    Number(winnerOf(operation, { row, column, channel }) === `${unit.row},${unit.column}`);
  const terms = readers.map(({ row, column }) =>
    gradientTerm(operation, { row, column, channel }, { name: "winner", value: isWinner({ row, column }) }));
  const wins = sum(readers.map(isWinner));
  return {
    ...summed("∂L/∂x = Σ g over the windows in which x is the maximum, of equal values the first", terms,
      "Σ g·[x is the winner]", `windows that read x: ${readers.length}; in which it is the maximum: ${wins}`),
    ...pooledReaders(operation, readers, channel, "[x is the winner]", isWinner),
  };
}

// The place of the first largest value of an output's window, as "row,column".
function winnerOf(operation, output) {
  let best = null;
  for (const tap of taps(operation, output)) {
    if (!tap.inside) continue;
    const x = unitValue(operation.inputs[0], { row: tap.row, column: tap.column, channel: output.channel });
    if (best === null || x > best.x) best = { x, place: `${tap.row},${tap.column}` };
  }
  return best.place;
}

function averagePoolToInput(operation, unit) {
  const readers = readersOf(operation, unit);
  const share = (reader) => 1 / averagedPixels(operation, reader);
  const terms = readers.map(({ row, column }) =>
    gradientTerm(operation, { row, column, channel: unit.channel }, { name: "1/n", value: share({ row, column }) }));
  return {
    ...summed("∂L/∂x = Σ g/n over the windows that read x; n is the count that the window divided by", terms,
      "Σ g/n", `windows that read x: ${readers.length}`),
    ...pooledReaders(operation, readers, unit.channel, "1/n", share),
  };
}

// How many pixels the average of an output's window divides by.
function averagedPixels(operation, output) {
  const places = taps(operation, output);
  return operation.settings.count_padding ? places.length : places.filter((tap) => tap.inside).length;
}

// The readers of a unit of a pool, which acts on each channel alone.
function pooledReaders(operation, readers, channel, title, valueAt) {
  if (!readers.length) return { readers: null, matrices: [] };
  const g = ({ row, column }) => outputGradient(operation, { row, column, channel });
  return {
    readers: readersBoxes(operation, readers, channel),
    matrices: [readersMatrix("g", readers, g), readersMatrix(title, readers, valueAt)],
  };
}

function globalAveragePoolToInput(operation, unit) {
  const [height, width] = mapShape(operation.inputs[0]);
  const term = gradientTerm(operation, vectorUnit(unit.channel), { name: "1/(H·W)", value: 1 / (height * width) });
  return oneTerm("∂L/∂x[p, q, c] = g[c] / (H·W), equal at all positions", term, "g / (H·W)",
    `${shown(term.factors[0].value)} / ${height * width}`);
}

// One output --------------------------------------------------------------------------------------------------------

function batchNormToInput(operation, unit) {
  const { variance, scale, epsilon } = batchNormNumbers(operation, unit.channel);
  const inverse = 1 / Math.sqrt(variance + epsilon);
  const term = gradientTerm(operation, unit, { name: "γ", value: scale }, { name: "inv", value: inverse });
  return {
    ...oneTerm("∂L/∂x = γ·inv·g, inv = 1/√(σ² + ε), with the moving averages μ and σ² as constants", term,
      "γ·inv·g", `${shown(scale)} · ${inner(inverse)} · ${inner(term.factors[0].value)}`,
      { formula: "inv = 1/√(σ² + ε)", numbers: `1/√(${inner(variance)} + ${inner(epsilon)})`, value: inverse }),
    note: "In training μ and σ² are the batch’s own and depend on x: ∂L/∂x = γ·inv·(g − dβ/m − x̂·dγ/m) with m values "
      + "per channel.",
  };
}

function responseNormalizationToInput(operation, unit) {
  const [source] = operation.inputs;
  const { alpha, beta } = operation.settings;
  const x = unitValue(source, unit);
  const { s } = responseSum(operation, unit);
  const direct = gradientTerm(operation, unit, { name: "s^(−β)", value: s ** -beta });
  direct.name += " (direct)";
  const terms = [direct];
  const [first, last] = neighbors(operation, unit.channel);
  for (let channel = first; channel <= last; channel++) {
    const neighbor = { ...unit, channel };
    terms.push(gradientTerm(operation, neighbor,
      { name: "x", value: unitValue(source, neighbor) },
      { name: "s^(−β−1)", value: responseSum(operation, neighbor).s ** (-beta - 1) },
      { name: "−2αβ·x[c]", value: -2 * alpha * beta * x }));
  }
  const around = sum(terms.slice(1).map((term) => term.value));
  return {
    ...summed("∂L/∂x[c] = g[c]·s[c]^(−β) − 2αβ·x[c]·Σ g[i]·x[i]·s[i]^(−β−1) over the channels i from c − r to c + r, "
      + "s = k + α·Σ x²", terms, "direct + neighbors", `${shown(direct.value)} + ${inner(around)}`),
    matrices: [],
  };
}

function reluToInput(operation, unit) {
  const x = unitValue(operation.inputs[0], unit);
  const term = gradientTerm(operation, unit, { name: "[x > 0]", value: Number(x > 0) });
  return oneTerm("∂L/∂x = g where x > 0, else 0", term, "g·[x > 0]",
    `${shown(term.factors[0].value)} · ${Number(x > 0)}, because x = ${shown(x)}`);
}

function sigmoidToInput(operation, unit) {
  const y = unitValue(operation.name, unit);
  const term = gradientTerm(operation, unit, { name: "y", value: y }, { name: "1 − y", value: 1 - y });
  return oneTerm("∂L/∂x = g·y·(1 − y)", term, "g·y·(1 − y)",
    `${shown(term.factors[0].value)} · ${inner(y)} · ${inner(1 - y)}`);
}

const droppedToInput = (operation, unit) => ({
  ...passedBack("∂L/∂x = g at inference", operation, unit),
  note: "In training the mask of the forward pass multiplies g, too: 0 for what was dropped, 1/(1 − rate) for the "
    + "rest.",
});

const padToInput = (operation, unit) => {
  const [[top], [left]] = operation.settings.margins;
  return passedBack("∂L/∂x = g at the place that x was moved to; a pixel that was cut off gets 0", operation,
    { row: unit.row + top, column: unit.column + left, channel: unit.channel });
};

function zeroPaddedShortcutToInput(operation, unit) {
  const [reader] = readersOf(operation, unit); // none where the stride skips the pixel
  const channel = unit.channel + operation.settings.front;
  return passedBack("∂L/∂x[p·s, q·s, c] = g[p, q, c + front]; a pixel that the stride skips gets 0", operation,
    reader ? { row: reader.row, column: reader.column, channel } : null);
}

function concatenateToInput(operation, unit, source) {
  const before = sum(operation.inputs.slice(0, source).map((name) => mapShape(name)[2]));
  return passedBack(`∂L/∂x = the slice of g that this branch filled: channel c + ${before}`, operation,
    { ...unit, channel: unit.channel + before });
}

function residualSumToInput(operation, unit, source) {
  const { scale } = operation.settings;
  if (scale === undefined || source === 0) return passedBack("∂L/∂x = g for each summand", operation, unit);
  const term = gradientTerm(operation, unit, { name: "scale", value: scale });
  return oneTerm("∂L/∂residual = scale·g", term, "scale·g", `${shown(scale)} · ${inner(term.factors[0].value)}`);
}

// The gradient of a value that the forward pass handed on as it is; an output of null, or outside of the map, is
// none.
function passedBack(equation, operation, output) {
  if (output === null || !isInside(operation.name, output)) {
    return { ...nothing(), equation, steps: [{ formula: "0", numbers: "no output reads this pixel", value: 0 }] };
  }
  const term = gradientTerm(operation, output);
  return oneTerm(equation, term, "g", term.name);
}

const discretizeToInput = () => ({
  ...nothing(),
  equation: "∂L/∂x = 0",
  steps: [{ formula: "0", numbers: "a level changes nowhere but where a pixel crosses it", value: 0 }],
});

function scaleChannelsToInput(operation, unit, source) {
  if (source === 1) return toGate(operation, unit.channel);
  const gate = unitValue(operation.inputs[1], vectorUnit(unit.channel));
  const term = gradientTerm(operation, unit, { name: "s", value: gate });
  return oneTerm("∂L/∂x[p, q, c] = g[p, q, c] · s[c]", term, "g·s",
    `${shown(term.factors[0].value)} · ${inner(gate)}`);
}

function toGate(operation, channel) {
  const { terms, values } = positionProducts(operation, channel, "x", (unit) => unitValue(operation.inputs[0], unit));
  return {
    ...summed("∂L/∂s[c] = Σ g[p, q, c] · x[p, q, c] over all positions", terms, "Σ g·x", `${terms.length} positions`),
    map: { title: `g·x at each position, channel ${channel}`, values },
  };
}

// The ends of the network -------------------------------------------------------------------------------------------

function crossEntropyToInput(operation, unit) {
  const { label, smoothing } = operation.settings;
  const { logit, highest, total, probability, target } = softmaxOf(operation)[unit.channel];
  const targets = smoothing ? "1 − ε + ε/K for the label and ε/K for the other classes" : "1 for the label, else 0";
  const result = probability - target;
  const exponent = `${shown(logit)} − ${inner(highest)}`;
  return {
    equation: `∂L/∂z[k] = softmax(z)[k] − q[k]; q is ${targets}`,
    terms: [],
    steps: [
      { formula: "softmax(z)[k]", numbers: `exp(${exponent}) / ${shown(total)}`, value: probability },
      { formula: "q[k]", numbers: unit.channel === label ? "the label" : "not the label", value: target },
      { formula: "softmax − target", numbers: `${shown(probability)} − ${shown(target)}`, value: result },
    ],
    summands: [probability, -target],
    result,
    matrices: [],
  };
}

function preprocessingToInput(operation, unit) {
  const { rule } = operation.settings;
  const channel = rule === "caffe" ? 2 - unit.channel : unit.channel; // caffe's order is blue, green, red
  const scale = { none: 1, centered: 2, torch: 1 / IMAGENET_DEVIATION[channel], caffe: 255 }[rule];
  const term = gradientTerm(operation, { ...unit, channel }, { name: "scale", value: scale });
  const formula = { none: "g", centered: "2·g", torch: "g/deviation", caffe: "255·g" }[rule];
  return oneTerm(`∂L/∂pixel = ${formula}${rule === "caffe" ? "; red and blue change places" : ""}`, term, formula,
    `${shown(scale)} · ${inner(term.factors[0].value)}`);
}

// Explanations ------------------------------------------------------------------------------------------------------

// The result is a sum of terms.
function summed(equation, terms, formula, numbers) {
  const summands = valuesOf(terms);
  const result = sum(summands);
  return { equation, terms, summands, steps: [{ formula, numbers, value: result }], result, matrices: [] };
}

// The result is one term; some steps may come before it.
function oneTerm(equation, term, formula, numbers, ...before) {
  const steps = [...before, { formula, numbers, value: term.value }];
  return { equation, terms: [term], steps, result: term.value, matrices: [] };
}

const inputGradient = {
  preprocessing: preprocessingToInput,
  conv: convToInput,
  dense: denseToInput,
  max_pool: maxPoolToInput,
  average_pool: averagePoolToInput,
  global_average_pool: globalAveragePoolToInput,
  batch_norm: batchNormToInput,
  lrn: responseNormalizationToInput,
  relu: reluToInput,
  sigmoid: sigmoidToInput,
  dropout: droppedToInput,
  drop_path: droppedToInput,
  pad: padToInput,
  zero_padded_shortcut: zeroPaddedShortcutToInput,
  discretize: discretizeToInput,
  concatenate: concatenateToInput,
  residual_sum: residualSumToInput,
  scale_channels: scaleChannelsToInput,
  cross_entropy: crossEntropyToInput,
};
