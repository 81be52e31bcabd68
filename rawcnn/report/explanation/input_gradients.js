// The gradient to a unit of an input, ∂L/∂x, for each kind of operation: inputGradient[kind](operation, unit, source)
// returns {terms, result}. y is the operation's output and g = ∂L/∂y. `source` is the number of the input, where an
// operation has several.
//
// Loaded after forward.js. Uses
//   arrays.js: tensor, mapShape, unitValue, isInside, indicesBelow
//   terms.js: vectorUnit, gradientTerm, sum, summed
//   windows.js: averagedTaps, readersOf, readingChannels, flatIndex
//   forward.js: maxPool, batchNormNumbers, responseSum, neighbors, softmaxOf

// Sums over the outputs that read a unit ----------------------------------------------------------------------------

// ∂L/∂x = Σ g·w over the outputs whose windows read the pixel, and the output channels of the group
function convToInput(operation, unit) {
  const filters = tensor(`${operation.name}/filters`);
  const { first, count, c } = readingChannels(operation, unit.channel);
  const products = [];
  for (const { i, j, row, column } of readersOf(operation, unit)) {
    for (let o = first; o < first + count; o++) {
      products.push(gradientTerm(operation, { row, column, channel: o }, { w: filters.at(i, j, c, o) }));
    }
  }
  return summed(products);
}

// ∂L/∂x[i] = Σ g[o]·W[i, o]
function denseToInput(operation, unit) {
  const weights = tensor(`${operation.name}/weights`);
  const i = flatIndex(operation.inputs[0], unit);
  return summed(indicesBelow(operation.shape[2]).map((o) =>
    gradientTerm(operation, vectorUnit(o), { W: weights.at(i, o) })));
}

// ∂L/∂x = Σ g over the windows in which x is the winner
function maxPoolToInput(operation, unit) {
  return summed(outputsThatRead(operation, unit).map((output) =>
    gradientTerm(operation, output, { winner: isWinner(operation, output, unit) })));
}

// 1 if a unit is the maximum of an output's window, of equal values the first; otherwise 0.
function isWinner(operation, output, { row, column }) {
  const winner = maxPool(operation, output).leading.from.unit;
  return Number(winner.row === row && winner.column === column);
}

// ∂L/∂x = Σ g/n over the windows that read x
function averagePoolToInput(operation, unit) {
  return summed(outputsThatRead(operation, unit).map((output) =>
    gradientTerm(operation, output, { "1/n": 1 / averagedTaps(operation, output).length })));
}

// The outputs of a pool, which acts on each channel alone, that read a unit.
const outputsThatRead = (operation, unit) =>
  readersOf(operation, unit).map(({ row, column }) => ({ row, column, channel: unit.channel }));

// ∂L/∂x = g/(H·W)
function globalAveragePoolToInput(operation, unit) {
  const [height, width] = mapShape(operation.inputs[0]);
  return summed([gradientTerm(operation, vectorUnit(unit.channel), { "1/(H·W)": 1 / (height * width) })]);
}

// One output --------------------------------------------------------------------------------------------------------

// ∂L/∂x = γ·inv·g, inv = 1/√(σ² + ε)
function batchNormToInput(operation, unit) {
  const { deviation, scale } = batchNormNumbers(operation, unit.channel);
  return summed([gradientTerm(operation, unit, { γ: scale, inv: 1 / deviation })]);
}

// ∂L/∂x[c] = g[c]·s[c]^(−β) − 2αβ·x[c]·Σ g[i]·x[i]·s[i]^(−β−1) over the channels i within the radius
function responseNormalizationToInput(operation, unit) {
  const [input] = operation.inputs;
  const { alpha, beta } = operation.settings;
  const x = unitValue(input, unit);
  const direct = gradientTerm(operation, unit, { "s^(−β)": responseSum(operation, unit).s ** -beta });
  const around = neighbors(operation, unit).map((near) => gradientTerm(operation, near, {
    x: unitValue(input, near),
    "s^(−β−1)": responseSum(operation, near).s ** (-beta - 1),
    "−2αβ·x[c]": -2 * alpha * beta * x,
  }));
  return { ...summed([direct, ...around]), direct, around };
}

// ∂L/∂x = g where x > 0, else 0
function reluToInput(operation, unit) {
  const x = unitValue(operation.inputs[0], unit);
  return summed([gradientTerm(operation, unit, { "[x > 0]": Number(x > 0) })]);
}

// ∂L/∂x = g·y·(1 − y)
function sigmoidToInput(operation, unit) {
  const y = unitValue(operation.name, unit);
  return summed([gradientTerm(operation, unit, { y, "1 − y": 1 - y })]);
}

// ∂L/∂x = g of the output that x was moved to; 0 if there is none
const movedBack = (operation, output) =>
  summed(output && isInside(operation.name, output) ? [gradientTerm(operation, output)] : []);

const droppedToInput = movedBack;

function padToInput(operation, { row, column, channel }) {
  const [[top], [left]] = operation.settings.margins;
  return movedBack(operation, { row: row + top, column: column + left, channel });
}

function zeroPaddedShortcutToInput(operation, unit) {
  const [reader] = readersOf(operation, unit); // none where the stride skips the pixel
  return movedBack(operation, reader && { ...reader, channel: unit.channel + operation.settings.front });
}

// A level changes only where a pixel crosses it.
const discretizeToInput = () => summed([]);

// Several inputs ----------------------------------------------------------------------------------------------------

const concatenateToInput = (operation, unit, source) =>
  movedBack(operation, { ...unit, channel: unit.channel + channelsBefore(operation, source) });

const channelsBefore = (operation, source) =>
  sum(operation.inputs.slice(0, source).map((input) => mapShape(input)[2]));

// ∂L/∂x = g; ∂L/∂r = a·g for a scaled residual
function residualSumToInput(operation, unit, source) {
  const { scale } = operation.settings;
  return summed([gradientTerm(operation, unit, scale === undefined || source === 0 ? {} : { a: scale })]);
}

// ∂L/∂x = g·s[c]; ∂L/∂s[c] = Σ g·x over all positions
function scaleChannelsToInput(operation, unit, source) {
  const [input, gates] = operation.inputs;
  if (source === 0) {
    return summed([gradientTerm(operation, unit, { s: unitValue(gates, vectorUnit(unit.channel)) })]);
  }
  return summed(positionsOf(operation, unit.channel).map((output) =>
    gradientTerm(operation, output, { x: unitValue(input, output) })));
}

// All units of an output channel, row by row.
function positionsOf(operation, channel) {
  const [height, width] = operation.shape;
  return indicesBelow(height).flatMap((row) => indicesBelow(width).map((column) => ({ row, column, channel })));
}

// The ends of the network -------------------------------------------------------------------------------------------

// ∂L/∂z[k] = p[k] − q[k], p = softmax(z)
function crossEntropyToInput(operation, unit) {
  const { probability, target } = softmaxOf(operation)[unit.channel];
  return { terms: [], result: probability - target };
}

// ∂L/∂x = g·scale/deviation of the channel that reads x
function preprocessingToInput(operation, unit) {
  const { channels, scale, deviation } = operation.settings;
  const c = channels.indexOf(unit.channel);
  return summed([gradientTerm(operation, { ...unit, channel: c }, { scale: scale[c], "1/deviation": 1 / deviation[c] })]);
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
