// How the forward arithmetic is shown. explainUnit(operation, unit) adds an explanation to what forward[kind] computes:
//   symbols   what the letters of the kernel's equation are for this unit: [[letter, number or text]]
//   steps     the arithmetic after the terms: [{formula, numbers, value}]
//   summands  the numbers whose sum is the result, if it is a sum: the page says when they cancel
//   windows   the boxes that the unit reads: [{operation, rows: [start, stop], columns: [start, stop], channel}]
//   matrices  a window tap by tap: [{title, values: [[number | null]], winner: [i, j]}]; null is padding, and only a
//             maximum has a winner
//   note      a remark
//   isMaximum whether the terms are compared, not added
// The equation itself is `operation.equation`, which Python reads from the kernel's file.
//
// Loaded after numbers.js. Uses
//   arrays.js: tensor, mapShape, unitValue, indicesBelow
//   terms.js: sum, valuesOf, termsAt, largestTerm
//   windows.js: taps, groupChannels
//   forward.js: batchNormNumbers, softmaxOf, forward
//   numbers.js: shown, inner, step, written, sides, joined, className

function explainUnit(operation, unit) {
  const computed = forward[operation.kind](operation, unit);
  const presented = forwardPresentation[operation.kind](operation, unit, computed);
  return { symbols: [], note: "", windows: [], matrices: [], ...computed, ...presented };
}

// Windows ------------------------------------------------------------------------------------------------------------

// The box around the window of an output.
function windowBox(operation, unit, channel) {
  const all = taps(operation, unit);
  const [first, last] = [all[0], all[all.length - 1]];
  const [rows, columns] = [[first.row, last.row + 1], [first.column, last.column + 1]];
  return { operation: operation.inputs[0], rows, columns, channel };
}

// Values at the taps of an output's window, as rows of a matrix.
function tapMatrix(title, operation, unit, valueAt) {
  const [height, width] = operation.settings.size;
  const values = taps(operation, unit).map(valueAt);
  return { title, values: indicesBelow(height).map((i) => values.slice(i * width, (i + 1) * width)) };
}

// What a tap reads of an input channel; null is padding.
const readAt = (operation, channel) => ({ row, column, inside }) =>
  (inside ? unitValue(operation.inputs[0], { row, column, channel }) : null);

const marginSymbols = ({ settings: { pads } }) => [["top", pads[0][0]], ["left", pads[1][0]]];

function poolSymbols(operation, { row, column, channel }) {
  const { size: [kh, kw], stride: [sh, sw] } = operation.settings;
  const sizes = [["kh", kh], ["kw", kw], ["sh", sh], ["sw", sw]];
  return [["b", 0], ["p", row], ["q", column], ["c", channel], ...sizes, ...marginSymbols(operation)];
}

function convSymbols(operation, unit) {
  const { groups, stride, dilation } = operation.settings;
  return [
    ["b", 0], ["p", unit.row], ["q", unit.column], ["o", unit.channel], ["s", sides(stride)], ["d", sides(dilation)],
    ...marginSymbols(operation), ["C", mapShape(operation.inputs[0])[2]], ["G", groups],
    ["g", Math.floor((unit.channel * groups) / operation.shape[2])],
  ];
}

// The input channel that a convolution's windows show: that of the largest product.
function channelShown(operation, unit, terms) {
  return largestTerm(terms)?.from.unit.channel ?? groupChannels(operation, unit.channel).first;
}

function convMatrices(operation, unit, terms) {
  const channel = channelShown(operation, unit, terms);
  const { first, count } = groupChannels(operation, unit.channel);
  const filters = tensor(`${operation.name}/filters`);
  const x = readAt(operation, channel);
  const w = ({ i, j }) => filters.at(i, j, channel - first, unit.channel);
  return [
    tapMatrix(`x, channel ${channel}`, operation, unit, x),
    tapMatrix(`w, ${inputChannelText(operation, unit.channel, channel - first)}`, operation, unit, w),
    tapMatrix("x·w", operation, unit, (tap) => (tap.inside ? x(tap) * w(tap) : null)),
    ...(count > 1 ? [tapMatrix(`Σ x·w over ${count} channels`, operation, unit, (tap) =>
      (tap.inside ? sum(valuesOf(termsAt(terms, tap))) : null))] : []),
  ];
}

// A filter numbers its input channels from 0 in each group. This says which channels these are.
function groupNote(operation, channel) {
  const { groups } = operation.settings;
  if (groups === 1) return "";
  const { first, count } = groupChannels(operation, channel);
  return `Output channel ${channel} is in group ${first / count} of the groups 0 to ${groups - 1}. It reads input channels `
    + `${first} to ${first + count - 1}, which its filter numbers from 0: c of w is input channel c + ${first}.`;
}

// An input channel of an output channel's filter, with its number in the filter where that is another one.
function inputChannelText(operation, channel, c) {
  const { first } = groupChannels(operation, channel);
  return operation.settings.groups === 1 ? `channel ${c}` : `input channel ${first + c} (c = ${c})`;
}

// Sums ---------------------------------------------------------------------------------------------------------------

function biasedSum({ terms, total, bias, result }) {
  const products = step("Σ x·w", written(terms, "products"), total);
  if (bias === null) return { summands: valuesOf(terms), steps: [products] };
  return {
    summands: [...valuesOf(terms), bias],
    steps: [products, step("Σ x·w + bias", `${shown(total)} + ${inner(bias)}`, result)],
  };
}

const averageSteps = ({ total, n, result }, numbers, divisor) => [
  step("Σ x", numbers, total),
  step(`Σ x / ${divisor}`, `${shown(total)} / ${n}`, result),
];

// One term ------------------------------------------------------------------------------------------------------------

// The steps of an output that is a unit of the input as it is, or 0.
const movedSteps = ({ terms: [term] }) => [term ? step("x", term.name, term.value) : step("0", "no input", 0)];

const symbolOfX = ({ terms: [term] }) => [["x", term.value]];

function dropoutPresentation(operation, unit, computed) {
  return {
    symbols: [...symbolOfX(computed), ["rate", operation.settings.rate], ["mask", 1]],
    note: "At inference the mask is 1, so y = x.",
    steps: movedSteps(computed),
  };
}

const forwardPresentation = {
  preprocessing(operation, unit, { terms: [term], result }) {
    const { channels, scale, mean, deviation } = operation.settings;
    const x = term.value;
    const c = unit.channel;
    return {
      symbols: [["images", x]],
      note: `x is channel ${channels[c]} of the pixel, in [0,1]. It becomes channel ${c}.`,
      steps: [step("(scale·x − mean)/deviation", `(${scale[c]} · ${inner(x)} − ${mean[c]}) / ${deviation[c]}`, result)],
    };
  },

  conv(operation, unit, computed) {
    const { terms, bias } = computed;
    return {
      ...biasedSum(computed),
      symbols: convSymbols(operation, unit),
      note: joined(groupNote(operation, unit.channel), bias === null ? "" : "The layer adds its bias to the kernel’s sum."),
      windows: [windowBox(operation, unit, channelShown(operation, unit, terms))],
      matrices: convMatrices(operation, unit, terms),
    };
  },

  dense(operation, unit, computed) {
    return {
      ...biasedSum(computed),
      symbols: [["I", computed.terms.length], ["O", operation.shape[2]]],
      note: `This is output ${unit.channel}: the sum of x times column ${unit.channel} of W.`,
    };
  },

  max_pool(operation, unit, { terms, leading, result }) {
    const { row, column } = leading.from.unit;
    const { i, j } = taps(operation, unit).find((tap) => tap.row === row && tap.column === column);
    const title = `x, channel ${unit.channel}; the winner is outlined`;
    const values = tapMatrix(title, operation, unit, readAt(operation, unit.channel));
    return {
      symbols: poolSymbols(operation, unit),
      terms: terms.map((term) => (term === leading ? { ...term, name: `${term.name} (the winner)` } : term)),
      isMaximum: true,
      steps: [step("maximum", `of ${terms.length} values inside the map`, result)],
      windows: [windowBox(operation, unit, unit.channel)],
      matrices: [{ ...values, winner: [i, j] }],
    };
  },

  average_pool(operation, unit, computed) {
    const { terms, n } = computed;
    const counted = operation.settings.count_padding ? "all pixels of the window, with padding" : "the pixels inside the map";
    return {
      symbols: [...poolSymbols(operation, unit), ["n", n]],
      note: `n counts ${counted}.`,
      summands: valuesOf(terms),
      steps: averageSteps(computed, `${terms.length} of ${taps(operation, unit).length} pixels are inside the map`, "n"),
      windows: [windowBox(operation, unit, unit.channel)],
      matrices: [tapMatrix(`x, channel ${unit.channel}`, operation, unit, readAt(operation, unit.channel))],
    };
  },

  global_average_pool(operation, unit, computed) {
    const [input] = operation.inputs;
    const [height, width] = mapShape(input);
    return {
      symbols: [["b", 0], ["c", unit.channel], ["HW", computed.n]],
      summands: valuesOf(computed.terms),
      steps: averageSteps(computed, `${computed.n} values`, "(H·W)"),
      windows: [{ operation: input, rows: [0, height], columns: [0, width], channel: unit.channel }],
    };
  },

  batch_norm(operation, unit, { terms: [term], normalized, result }) {
    const { mean, variance, epsilon, deviation, scale, offset } = batchNormNumbers(operation, unit.channel);
    const x = term.value;
    return {
      symbols: [["x", x], ["μ", mean], ["σ²", variance], ["γ", scale], ["β", offset], ["ε", epsilon]],
      note: "μ and σ² are the moving averages of training.",
      summands: [(scale * x) / deviation, (-scale * mean) / deviation, offset],
      steps: [
        step("μ (mean)", "", mean),
        step("σ² (variance)", "", variance),
        step("γ (scale)", "", scale),
        step("β (offset)", "", offset),
        step("√(σ² + ε)", `√(${shown(variance)} + ${shown(epsilon)})`, deviation),
        step("x̂ = (x − μ)/√(σ² + ε)", `(${shown(x)} − ${inner(mean)}) / ${shown(deviation)}`, normalized),
        step("y = γ·x̂ + β", `${shown(scale)} · ${inner(normalized)} + ${inner(offset)}`, result),
      ],
    };
  },

  lrn(operation, unit, { terms, total, s, x, result }) {
    const { bias, alpha, beta, radius } = operation.settings;
    return {
      symbols: [["i", unit.channel], ["k", bias], ["α", alpha], ["β", beta], ["r", radius]],
      steps: [
        step("x_i", "", x),
        step("Σ x²", `${terms.length} channels`, total),
        step("s = k + α·Σ x²", `${shown(bias)} + ${shown(alpha)} · ${shown(total)}`, s),
        step("y = x / s^β", `${shown(x)} / ${shown(s)}^${shown(beta)}`, result),
      ],
    };
  },

  relu(operation, unit, computed) {
    const [[, x]] = symbolOfX(computed);
    return { symbols: symbolOfX(computed), steps: [step("max(x, 0)", `max(${shown(x)}, 0)`, computed.result)] };
  },

  sigmoid(operation, unit, computed) {
    const [[, x]] = symbolOfX(computed);
    return {
      symbols: symbolOfX(computed),
      steps: [step("1/(1 + exp(−x))", `1 / (1 + ${shown(Math.exp(-x))})`, computed.result)],
    };
  },

  dropout: dropoutPresentation,
  drop_path: dropoutPresentation,

  pad(operation, unit, computed) {
    const [[top, bottom], [left, right]] = operation.settings.margins;
    return { symbols: [["top", top], ["bottom", bottom], ["left", left], ["right", right]], steps: movedSteps(computed) };
  },

  zero_padded_shortcut(operation, unit, computed) {
    const { stride: [sh, sw], front } = operation.settings;
    const symbols = [["b", 0], ["i", unit.row], ["j", unit.column], ["sh", sh], ["sw", sw], ["front", front]];
    const [term] = computed.terms;
    return { symbols: term ? [...symbols, ["c", term.from.unit.channel]] : symbols, steps: movedSteps(computed) };
  },

  discretize(operation, unit, { terms: [{ value: x }], k, l, result }) {
    const { levels, code } = operation.settings;
    const sign = code === "onehot" ? "=" : "≤";
    return {
      symbols: [["x", x], ["L", levels], ["k", k], ["l", l]],
      steps: [step("l", `⌊${levels} · ${shown(x)}⌋`, l), step(`[k ${sign} l]`, `[${k} ${sign} ${l}]`, result)],
    };
  },

  concatenate(operation, unit, computed) {
    const { branch } = computed;
    const widths = operation.inputs.map((input) => `${input} (${mapShape(input)[2]} channels)`);
    return {
      note: `The branches are ${widths.join(", ")}. Channel ${unit.channel} is channel ${branch.unit.channel} of `
        + `${branch.input}.`,
      steps: movedSteps(computed),
    };
  },

  residual_sum(operation, unit, { terms, result }) {
    const [x, other] = terms.map((term) => term.factors[0].value);
    const { scale } = operation.settings;
    const isScaled = scale !== undefined;
    return {
      symbols: isScaled ? [["x", x], ["a", scale], ["r", other]] : [["x", x], ["s", other]],
      summands: valuesOf(terms),
      steps: [isScaled
        ? step("x + a·r", `${shown(x)} + ${inner(scale)} · ${inner(other)}`, result)
        : step("x + s", `${shown(x)} + ${inner(other)}`, result)],
    };
  },

  scale_channels(operation, unit, { terms: [term], result }) {
    const [x, gate] = term.factors.map((factor) => factor.value);
    return {
      symbols: [["b", 0], ["i", unit.row], ["j", unit.column], ["c", unit.channel]],
      steps: [
        step("s[c] (gate)", `${operation.inputs[1]}[${unit.channel}]`, gate),
        step("x·s", `${shown(x)} · ${inner(gate)}`, result),
      ],
    };
  },

  cross_entropy(operation, unit, { result }) {
    const { label, smoothing } = operation.settings;
    const classes = softmaxOf(operation);
    const { logit, highest, total, log, probability } = classes[label];
    return {
      symbols: [["label", label], ["K", classes.length], ["ε", smoothing]],
      steps: [
        step("z[label]", className(label), logit),
        step("max z", "", highest),
        step("Σ exp(z − max z)", `${classes.length} classes`, total),
        step("softmax(z)[label]", `exp(${shown(logit)} − ${inner(highest)}) / ${shown(total)}`, probability),
        step("log softmax(z)[label]", `${shown(logit)} − ${inner(highest)} − log ${shown(total)}`, log),
        step("L", smoothing ? `label smoothing ε = ${shown(smoothing)}` : `−${inner(log)}`, result),
      ],
    };
  },
};
