// How the backward arithmetic is shown. explainGradient(operation, target) adds an explanation to what gradientOf computes:
// steps, summands, matrices and note as in forward_presentation.js, and
//   equation  for one element; the page links to the kernel's section "Gradient by hand", the same for whole tensors
//   readers   the outputs that read the unit: {channel, boxes: [{rows: [start, stop], columns: [start, stop]}]}
//   map       the terms of a sum over positions: {title, values: [[number]]}; null where a window reads padding
//
// Loaded after forward_presentation.js. Uses
//   arrays.js: tensor, mapShape, unitValue, indicesBelow
//   terms.js: outputGradient, sum, valuesOf, termsAt, largestTerm
//   windows.js: averagedTaps, readersOf, groupChannels, readingChannels, flatIndex
//   forward.js: batchNormNumbers, softmaxOf
//   input_gradients.js: isWinner, channelsBefore
//   backward.js: gradientOf
//   numbers.js: shown, inner, step
//   forward_presentation.js: groupNote

function explainGradient(operation, target) {
  const computed = gradientOf(operation, target);
  const presented = target.what === "input"
    ? inputPresentation[operation.kind](operation, target.unit, computed, target.source)
    : parameterPresentation[operation.kind](operation, target.index, computed, target.leaf);
  return { matrices: [], readers: null, map: null, note: "", ...computed, ...presented };
}

// Sums and single terms ---------------------------------------------------------------------------------------------

// The result is a sum of terms.
const shownSum = (equation, { terms, result }, formula, numbers) =>
  ({ equation, summands: valuesOf(terms), steps: [step(formula, numbers, result)] });

// The result is one term, the product of its factors.
function shownProduct(equation, { terms: [term], result }, formula) {
  const [first, ...others] = term.factors.map((factor) => factor.value);
  return { equation, steps: [step(formula, [shown(first), ...others.map(inner)].join(" · "), result)] };
}

// The result is g of one output, or 0 if no output reads the unit.
const shownMove = (equation, { terms: [term] }) =>
  ({ equation, steps: [term ? step("g", term.name, term.value) : step("0", "no output reads this pixel", 0)] });

// Windows, seen from the input --------------------------------------------------------------------------------------

// Boxes around the outputs that read a pixel, for the map of g: one, or one for each where dilation leaves gaps.
function readersBoxes(operation, readers, channel) {
  const box = (first, last) => ({ rows: [first.row, last.row + 1], columns: [first.column, last.column + 1] });
  const isDilated = operation.settings.dilation.some((gap) => gap > 1);
  const boxes = isDilated ? readers.map((one) => box(one, one)) : [box(readers[0], readers[readers.length - 1])];
  return { boxes, channel };
}

// Values at the outputs that read a pixel, as rows of a matrix.
function readersMatrix(title, readers, valueAt) {
  const rows = [...new Set(readers.map((reader) => reader.row))];
  return { title, values: rows.map((row) => readers.filter((reader) => reader.row === row).map(valueAt)) };
}

// The windows of one channel that read a pixel, and [title, valueAt] of what the matrices show for each.
function shownReaders(operation, readers, channel, ...matrices) {
  if (!readers.length) return {};
  return {
    readers: readersBoxes(operation, readers, channel),
    matrices: matrices.map(([title, valueAt]) => readersMatrix(title, readers, valueAt)),
  };
}

// g at the outputs of one channel.
const gradientsOf = (operation, channel) => ({ row, column }) => outputGradient(operation, { row, column, channel });

function convReaders(operation, unit, terms) {
  const { first, count, c } = readingChannels(operation, unit.channel);
  const channel = largestTerm(terms)?.from.unit.channel ?? first;
  const filters = tensor(`${operation.name}/filters`);
  const w = ({ i, j }) => filters.at(i, j, c, channel);
  const g = gradientsOf(operation, channel);
  const overChannels = (reader) => sum(valuesOf(termsAt(terms, reader)));
  return shownReaders(operation, readersOf(operation, unit), channel,
    [`g, output channel ${channel}`, g],
    [`w, output channel ${channel}`, w],
    ["g·w", (reader) => g(reader) * w(reader)],
    ...(count > 1 ? [[`Σ g·w over ${count} channels`, overChannels]] : []));
}

// Inputs ------------------------------------------------------------------------------------------------------------

const inputPresentation = {
  preprocessing(operation, unit, { terms: [{ factors: [g] }], result }) {
    const { channels, scale, deviation } = operation.settings;
    const c = channels.indexOf(unit.channel);
    const numbers = `${shown(g.value)} · ${scale[c]} / ${deviation[c]}`;
    return { equation: "∂L/∂x = g · scale/deviation", steps: [step("g·scale/deviation", numbers, result)] };
  },

  conv(operation, unit, computed) {
    const { first, count, c } = readingChannels(operation, unit.channel);
    const isGrouped = operation.settings.groups > 1;
    const equation = `∂L/∂x[m, n, c] = Σ g[p, q, o] · w[i, j, ${isGrouped ? "c mod C/G" : "c"}, o] over the outputs with `
      + `p·s + i·d − top = m and q·s + j·d − left = n${isGrouped ? ", and o in the group of c" : ""}`;
    return {
      ...shownSum(equation, computed, "Σ g·w", `${readersOf(operation, unit).length} positions × ${count} channels`),
      ...convReaders(operation, unit, computed.terms),
      note: isGrouped ? `Input channel ${unit.channel} is c = ${c} of the filters of its group, which has output `
        + `channels ${first} to ${first + count - 1}.` : "",
    };
  },

  dense(operation, unit, computed) {
    const i = flatIndex(operation.inputs[0], unit);
    return shownSum(`∂L/∂x[i] = Σ g[o] · W[i, o] over o, here with i = ${i}`, computed, "Σ g·W",
      `${computed.terms.length} outputs`);
  },

  max_pool(operation, unit, computed) {
    const readers = readersOf(operation, unit);
    const wins = ({ row, column }) => isWinner(operation, { row, column, channel: unit.channel }, unit);
    return {
      ...shownSum("∂L/∂x = Σ g over the windows in which x is the maximum, of equal values the first", computed,
        "Σ g·[x is the winner]", `${readers.length} windows read x; it is the maximum of ${sum(readers.map(wins))}`),
      ...shownReaders(operation, readers, unit.channel, ["g", gradientsOf(operation, unit.channel)],
        ["[x is the winner]", wins]),
    };
  },

  average_pool(operation, unit, computed) {
    const readers = readersOf(operation, unit);
    return {
      ...shownSum("∂L/∂x = Σ g/n over the windows that read x; n is the count that the window divided by", computed,
        "Σ g/n", `${readers.length} windows read x`),
      ...shownReaders(operation, readers, unit.channel, ["g", gradientsOf(operation, unit.channel)],
        ["1/n", (reader) => 1 / averagedTaps(operation, reader).length]),
    };
  },

  global_average_pool(operation, unit, { terms: [{ factors: [g] }], result }) {
    const [height, width] = mapShape(operation.inputs[0]);
    return {
      equation: "∂L/∂x[p, q, c] = g[c] / (H·W), equal at all positions",
      steps: [step("g / (H·W)", `${shown(g.value)} / ${height * width}`, result)],
    };
  },

  batch_norm(operation, unit, { terms: [{ factors: [g] }], result }) {
    const { variance, epsilon, deviation, scale } = batchNormNumbers(operation, unit.channel);
    return {
      equation: "∂L/∂x = γ·inv·g, inv = 1/√(σ² + ε), with the moving averages μ and σ² as constants",
      steps: [
        step("inv = 1/√(σ² + ε)", `1/√(${inner(variance)} + ${inner(epsilon)})`, 1 / deviation),
        step("γ·inv·g", `${shown(scale)} · ${inner(1 / deviation)} · ${inner(g.value)}`, result),
      ],
      note: "In training, μ and σ² are computed from the batch and depend on x: ∂L/∂x = γ·inv·(g − dβ/m − x̂·dγ/m) with "
        + "dβ = Σ g and dγ = Σ g·x̂ over the m values of the channel.",
    };
  },

  lrn(operation, unit, computed) {
    const { direct, around } = computed;
    return shownSum("∂L/∂x[c] = g[c]·s[c]^(−β) − 2αβ·x[c]·Σ g[i]·x[i]·s[i]^(−β−1) over the channels i from c − r to "
      + "c + r, s = k + α·Σ x²", computed, "direct + neighbors", `${shown(direct.value)} + ${inner(sum(valuesOf(around)))}`);
  },

  relu(operation, unit, { terms: [{ factors: [g, isPositive] }], result }) {
    const x = unitValue(operation.inputs[0], unit);
    const numbers = `${shown(g.value)} · ${isPositive.value}, because x = ${shown(x)}`;
    return { equation: "∂L/∂x = g where x > 0, else 0", steps: [step("g·[x > 0]", numbers, result)] };
  },

  sigmoid: (operation, unit, computed) => shownProduct("∂L/∂x = g·y·(1 − y)", computed, "g·y·(1 − y)"),

  dropout: shownDropout,
  drop_path: shownDropout,

  pad: (operation, unit, computed) =>
    shownMove("∂L/∂x = g at the place that x was moved to; a pixel that was cut off gets 0", computed),

  zero_padded_shortcut: (operation, unit, computed) =>
    shownMove("∂L/∂x[p·s, q·s, c] = g[p, q, c + front]; a pixel that the stride skips gets 0", computed),

  discretize: () => ({
    equation: "∂L/∂x = 0",
    steps: [step("0", "a level changes only where a pixel crosses it", 0)],
  }),

  concatenate(operation, unit, computed, source) {
    const before = channelsBefore(operation, source);
    return shownMove(`∂L/∂x = the slice of g that this branch filled: channel c + ${before}`, computed);
  },

  residual_sum(operation, unit, computed, source) {
    if (operation.settings.scale === undefined || source === 0) return shownMove("∂L/∂x = g for each summand", computed);
    return shownProduct("∂L/∂r = a·g", computed, "g·a");
  },

  scale_channels(operation, unit, computed, source) {
    if (source === 0) return shownProduct("∂L/∂x[p, q, c] = g[p, q, c] · s[c]", computed, "g·s");
    return {
      ...shownSum("∂L/∂s[c] = Σ g[p, q, c] · x[p, q, c] over all positions", computed, "Σ g·x",
        `${computed.terms.length} positions`),
      map: productsMap(operation, `g·x at each position, channel ${unit.channel}`, computed),
    };
  },

  cross_entropy(operation, unit, { result }) {
    const { label, smoothing } = operation.settings;
    const { logit, highest, total, probability, target } = softmaxOf(operation)[unit.channel];
    const targets = smoothing ? "1 − ε + ε/K for the label and ε/K for the other classes" : "1 for the label, else 0";
    return {
      equation: `∂L/∂z[k] = softmax(z)[k] − q[k]; q is ${targets}`,
      steps: [
        step("softmax(z)[k]", `exp(${shown(logit)} − ${inner(highest)}) / ${shown(total)}`, probability),
        step("q[k]", unit.channel === label ? "the label" : "not the label", target),
        step("softmax − target", `${shown(probability)} − ${shown(target)}`, result),
      ],
      summands: [probability, -target],
    };
  },
};

function shownDropout(operation, unit, computed) {
  return {
    ...shownMove("∂L/∂x = g at inference", computed),
    note: "In training, g is also multiplied by the mask of the forward pass: 0 where x was dropped, 1/(1 − rate) "
      + "elsewhere.",
  };
}

// Parameters --------------------------------------------------------------------------------------------------------

const parameterPresentation = {
  conv(operation, [i, j, c, channel], computed, leaf) {
    if (leaf === "bias") return shownBias("∂L/∂bias[o]", operation, computed);
    const { first } = groupChannels(operation, channel);
    const read = operation.settings.groups > 1 ? `c + ${first}` : "c";
    const equation = `∂L/∂w[i, j, c, o] = Σ x[p·s + i·d − top, q·s + j·d − left, ${read}] · g[p, q, o] over all `
      + "positions p, q";
    const title = `x·g at each position of the output: tap (${i}, ${j}), channel ${first + c} → ${channel}`;
    return {
      ...shownSum(equation, computed, "Σ x·g", `${computed.terms.length} positions`),
      note: groupNote(operation, channel),
      map: productsMap(operation, title, computed),
    };
  },

  dense(operation, index, computed, leaf) {
    if (leaf === "bias") return shownMove("∂L/∂b[o] = g[o]", computed);
    const { terms: [{ factors: [g, x] }], result } = computed;
    const numbers = `${shown(x.value)} · ${inner(g.value)}`;
    return { equation: "∂L/∂W[i, o] = x[i] · g[o]", steps: [step("x·g", numbers, result)] };
  },

  batch_norm(operation, [channel], computed, leaf) {
    if (leaf === "offset") return shownBias("∂L/∂β", operation, computed);
    return {
      ...shownSum("∂L/∂γ = Σ g·x̂ over all positions of the channel, x̂ = (x − μ)/√(σ² + ε)", computed, "Σ g·x̂",
        `${computed.terms.length} positions`),
      map: productsMap(operation, `g·x̂ at each position, channel ${channel}`, computed),
    };
  },
};

function shownBias(name, operation, computed) {
  const { terms } = computed;
  return {
    ...shownSum(`${name} = Σ g over all positions of the channel`, computed, "Σ g", `${terms.length} positions`),
    map: productsMap(operation, `g at each position, channel ${terms[0].from.unit.channel}`, computed),
  };
}

// The terms of a sum over positions as a map of the output; null where there is none.
function productsMap(operation, title, { terms }) {
  const [height, width] = operation.shape;
  const values = indicesBelow(height).map(() => Array(width).fill(null));
  for (const { from: { unit }, value } of terms) values[unit.row][unit.column] = value;
  return { title, values };
}
