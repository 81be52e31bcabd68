// Forward arithmetic: forward[kind](operation, unit) computes one output from the arrays of the page.
//
// A unit is {row, column, channel}. The result is an explanation:
//   symbols    what the letters of the kernel's equation are for this unit: [[letter, text]]
//   terms      what is added, or compared: [{name, factors: [{name, value}], value, from: {operation, unit} | null}]
//   terms are named from the operations that they read; `from` is null for padding and constants
//   isMaximum  whether the terms are compared, not added
//   summands   the numbers whose sum is the result, if it is a sum: the page says when they cancel
//   steps      the arithmetic after the terms: [{formula, numbers, value}]
//   result     the output
//   windows    the boxes that the unit reads: [{operation, rows: [start, stop], columns: [start, stop], channel}]
//   matrices   what a window shows tap by tap: [{title, values: [[number | null]], winner: [i, j]}]; null is padding,
//              and only a maximum has a winner
//   note       a remark
//   leading    the term that a path follows; by default the largest one, see largestTerm
// The equation itself is `operation.equation`, which Python reads from the kernel's file.

const shown = (value) => number(value, 5);

// A number within a product or a sum: a negative one in brackets.
const inner = (x) => (x < 0 ? `(${shown(x)})` : shown(x));

// A number with some significant digits, and a true minus sign.
function number(value, digits = 7) {
  if (!Number.isFinite(value)) return String(value);
  const text = Math.abs(value) >= 1e7 || (value !== 0 && Math.abs(value) < 1e-4)
    ? value.toExponential(digits - 1)
    : String(Number(value.toPrecision(digits)));
  return text.replace(/-/g, "−");
}

const sum = (values) => values.reduce((total, value) => total + value, 0);

// The largest terms of a sum with their numbers: "2·0.5 + (−3)·0.1 + … (9 products, the largest first)".
function written(terms, what) {
  const first = inOrder(terms).slice(0, 3).map((term) => term.factors.map((factor) => inner(factor.value)).join("·"));
  const isPart = terms.length > first.length;
  return `${first.join(" + ")}${isPart ? " + …" : ""} (${terms.length} ${what}${isPart ? ", the largest first" : ""})`;
}

// The terms by absolute value, the largest first.
const inOrder = (terms) => [...terms].sort((a, b) => Math.abs(b.value) - Math.abs(a.value));

// Values that are compared, the largest first; of equal ones the order of the window remains.
const fromLargest = (terms) => [...terms].sort((a, b) => b.value - a.value);

const valuesOf = (terms) => terms.map((term) => term.value);

// The largest term is the one with the largest absolute value, of equal ones the first; null if there is none. Tables,
// windows and paths all mean this, and so does rawcnn/explain/paths.py.
function largestTerm(terms) {
  const isLarger = (term, best) => best === null || Math.abs(term.value) > Math.abs(best.value);
  return terms.reduce((best, term) => (isLarger(term, best) ? term : best), null);
}

// The term that a path follows from a unit. A maximum follows its winner, whatever the other values are.
const leadingTerm = (explanation) => explanation.leading ?? largestTerm(explanation.terms);

// A parameter of an operation; the fallback if the layer has none.
function parameter(operation, leaf, index, fallback) {
  const name = `${operation.name}/${leaf}`;
  return tensors.has(name) ? tensor(name).at(...index) : fallback;
}

function unitName(name, unit) {
  const [height, width] = mapShape(name);
  return height === 1 && width === 1 ? `${name}[${unit.channel}]` : `${name}[${unit.row}, ${unit.column}, ${unit.channel}]`;
}

// A term that takes a unit of an input as it is.
function take(source, unit) {
  const value = unitValue(source, unit);
  return { name: unitName(source, unit), factors: [{ name: "x", value }], value, from: { operation: source, unit } };
}

// A term that is a unit of an input times a weight.
function product(source, unit, weightName, weight) {
  const x = unitValue(source, unit);
  return {
    name: unitName(source, unit),
    factors: [{ name: "x", value: x }, { name: weightName, value: weight }],
    value: x * weight,
    from: { operation: source, unit },
  };
}

// Windows ------------------------------------------------------------------------------------------------------------

// The taps of a window in order: [{i, j, row, column, inside}], where the window of an output lies on its input.
function taps(operation, { row, column }) {
  const { size, stride, pads, dilation } = operation.settings;
  const [height, width] = mapShape(operation.inputs[0]);
  const found = [];
  for (let i = 0; i < size[0]; i++) {
    for (let j = 0; j < size[1]; j++) {
      const inputRow = row * stride[0] + i * dilation[0] - pads[0][0];
      const inputColumn = column * stride[1] + j * dilation[1] - pads[1][0];
      const inside = inputRow >= 0 && inputRow < height && inputColumn >= 0 && inputColumn < width;
      found.push({ i, j, row: inputRow, column: inputColumn, inside });
    }
  }
  return found;
}

function windowOf(operation, places, channel) {
  const [first, last] = [places[0], places[places.length - 1]];
  return {
    operation: operation.inputs[0],
    rows: [first.row, last.row + 1],
    columns: [first.column, last.column + 1],
    channel,
  };
}

// Values at the taps as rows of a matrix.
function matrix(title, operation, places, valueAt) {
  const width = operation.settings.size[1];
  const values = [];
  places.forEach((tap, k) => {
    if (k % width === 0) values.push([]);
    values[values.length - 1].push(tap.inside ? valueAt(tap) : null);
  });
  return { title, values };
}

// The input channels that an output channel of a convolution reads, those of its group: the first and how many.
function groupChannels(operation, channel) {
  const count = mapShape(operation.inputs[0])[2] / operation.settings.groups;
  const group = Math.floor((channel * operation.settings.groups) / operation.shape[2]);
  return { first: group * count, count };
}

// A filter numbers its input channels from 0 in each group: what that means for an output channel.
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

function conv(operation, unit) {
  const [source] = operation.inputs;
  const filters = tensor(`${operation.name}/filters`);
  const { first, count } = groupChannels(operation, unit.channel);
  const places = taps(operation, unit);
  const weight = (tap, c) => filters.at(tap.i, tap.j, c, unit.channel);
  const terms = [];
  for (const tap of places) {
    if (!tap.inside) continue; // padding adds 0
    for (let c = 0; c < count; c++) {
      const input = { row: tap.row, column: tap.column, channel: first + c };
      terms.push({ ...product(source, input, "w", weight(tap, c)), tap, c });
    }
  }
  const bias = parameter(operation, "bias", [unit.channel], null);
  const total = sum(terms.map((term) => term.value));
  const steps = [{ formula: "Σ x·w", numbers: written(terms, "products"), value: total }];
  if (bias !== null) steps.push({ formula: "Σ x·w + bias", numbers: `${shown(total)} + ${inner(bias)}`, value: total + bias });
  const best = largestTerm(terms);
  const channel = best ? best.from.unit.channel : first;
  const read = (tap) => unitValue(source, { row: tap.row, column: tap.column, channel });
  const at = (tap) => weight(tap, channel - first);
  return {
    symbols: convSymbols(operation, unit),
    note: joined(groupNote(operation, unit.channel), bias === null ? "" : "The layer adds its bias to the kernel’s sum."),
    terms,
    summands: [...valuesOf(terms), bias ?? 0],
    steps,
    result: total + (bias ?? 0),
    windows: [windowOf(operation, places, channel)],
    matrices: [
      matrix(`x, channel ${channel}`, operation, places, read),
      matrix(`w, ${inputChannelText(operation, unit.channel, channel - first)}`, operation, places.map((tap) => ({ ...tap, inside: true })), at),
      matrix("x·w", operation, places, (tap) => read(tap) * at(tap)),
      ...(count > 1 ? [matrix(`Σ x·w over ${count} channels`, operation, places, (tap) =>
        sum(terms.filter((term) => term.tap === tap).map((term) => term.value)))] : []),
    ],
  };
}

function convSymbols(operation, unit) {
  const { groups, dilation } = operation.settings;
  const channels = mapShape(operation.inputs[0])[2];
  return [
    ["p", unit.row], ["q", unit.column], ["o", unit.channel],
    ["s", sides(operation.settings.stride)], ["d", sides(dilation)], ...marginSymbols(operation),
    ["C", channels], ["G", groups], ["g", Math.floor((unit.channel * groups) / operation.shape[2])],
  ];
}

// A vertical and a horizontal number; one of them where both are equal.
const sides = ([vertical, horizontal]) => (vertical === horizontal ? String(vertical) : `${vertical} and ${horizontal}`);

const marginSymbols = ({ settings: { pads } }) => [["top", pads[0][0]], ["left", pads[1][0]]];

const joined = (...sentences) => sentences.filter((sentence) => sentence).join(" ");

function dense(operation, unit) {
  const [source] = operation.inputs;
  const [height, width, channels] = mapShape(source);
  const weights = tensor(`${operation.name}/weights`);
  const terms = [];
  for (let n = 0; n < height * width * channels; n++) {
    // a map is flattened row by row: input n is (row, column, channel)
    const input = { row: Math.floor(n / (width * channels)), column: Math.floor(n / channels) % width, channel: n % channels };
    terms.push(product(source, input, "w", weights.at(n, unit.channel)));
  }
  const bias = parameter(operation, "bias", [unit.channel], null);
  const total = sum(terms.map((term) => term.value));
  const steps = [{ formula: "Σ x·w", numbers: written(terms, "products"), value: total }];
  if (bias !== null) steps.push({ formula: "Σ x·w + bias", numbers: `${shown(total)} + ${inner(bias)}`, value: total + bias });
  return {
    symbols: [["I", terms.length], ["O", operation.shape[2]]],
    note: `This is output ${unit.channel}: the sum of x times column ${unit.channel} of W.`,
    terms,
    summands: [...valuesOf(terms), bias ?? 0],
    steps,
    result: total + (bias ?? 0),
    windows: [],
    matrices: [],
  };
}

function maxPool(operation, unit) {
  const [source] = operation.inputs;
  const places = taps(operation, unit);
  const terms = places
    .filter((tap) => tap.inside)
    .map((tap) => take(source, { row: tap.row, column: tap.column, channel: unit.channel }));
  const [winner] = fromLargest(terms);
  winner.name += " (the winner)";
  const { row, column } = winner.from.unit;
  const { i, j } = places.find((tap) => tap.row === row && tap.column === column);
  const read = (tap) => unitValue(source, { row: tap.row, column: tap.column, channel: unit.channel });
  return {
    symbols: poolSymbols(operation, unit),
    terms,
    isMaximum: true,
    leading: winner,
    steps: [{ formula: "maximum", numbers: `of ${terms.length} values inside the map`, value: winner.value }],
    result: winner.value,
    windows: [windowOf(operation, places, unit.channel)],
    matrices: [{ ...matrix(`x, channel ${unit.channel}; the winner is outlined`, operation, places, read), winner: [i, j] }],
  };
}

function poolSymbols(operation, { row, column, channel }) {
  const { size: [kh, kw], stride: [sh, sw] } = operation.settings;
  return [["p", row], ["q", column], ["c", channel], ["kh", kh], ["kw", kw], ["sh", sh], ["sw", sw], ...marginSymbols(operation)];
}

function averagePool(operation, unit) {
  const [source] = operation.inputs;
  const places = taps(operation, unit);
  const inside = places.filter((tap) => tap.inside);
  const count = operation.settings.count_padding ? places.length : inside.length;
  const terms = inside.map((tap) =>
    product(source, { row: tap.row, column: tap.column, channel: unit.channel }, "1/n", 1 / count));
  const total = sum(inside.map((tap) => unitValue(source, { row: tap.row, column: tap.column, channel: unit.channel })));
  const read = (tap) => unitValue(source, { row: tap.row, column: tap.column, channel: unit.channel });
  const counted = operation.settings.count_padding ? "all pixels of the window, padding included" : "the pixels inside the map";
  return {
    symbols: [...poolSymbols(operation, unit), ["n", count]],
    note: `n counts ${counted}.`,
    terms,
    summands: valuesOf(terms),
    steps: [
      { formula: "Σ x", numbers: `${inside.length} of ${places.length} pixels are inside the map`, value: total },
      { formula: "Σ x / n", numbers: `${shown(total)} / ${count}`, value: total / count },
    ],
    result: total / count,
    windows: [windowOf(operation, places, unit.channel)],
    matrices: [matrix(`x, channel ${unit.channel}`, operation, places, read)],
  };
}

function globalAveragePool(operation, unit) {
  const [source] = operation.inputs;
  const [height, width] = mapShape(source);
  const count = height * width;
  const terms = [];
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      terms.push(product(source, { row, column, channel: unit.channel }, "1/n", 1 / count));
    }
  }
  const total = sum(terms.map((term) => term.factors[0].value));
  return {
    symbols: [["c", unit.channel], ["HW", count]],
    terms,
    summands: valuesOf(terms),
    steps: [
      { formula: "Σ x", numbers: `${count} values`, value: total },
      { formula: "Σ x / (H·W)", numbers: `${shown(total)} / ${count}`, value: total / count },
    ],
    result: total / count,
    windows: [{ operation: source, rows: [0, height], columns: [0, width], channel: unit.channel }],
    matrices: [],
  };
}

// Normalization ------------------------------------------------------------------------------------------------------

// What a batch norm knows of a channel: its four numbers. A layer without γ or β has 1 or 0.
function batchNormNumbers(operation, channel) {
  return {
    mean: parameter(operation, "mean", [channel], 0),
    variance: parameter(operation, "variance", [channel], 1),
    scale: parameter(operation, "scale", [channel], 1),
    offset: parameter(operation, "offset", [channel], 0),
    epsilon: operation.settings.epsilon,
  };
}

function batchNorm(operation, unit) {
  const term = take(operation.inputs[0], unit);
  const { mean, variance, scale, offset, epsilon } = batchNormNumbers(operation, unit.channel);
  const deviation = Math.sqrt(variance + epsilon);
  const normalized = (term.value - mean) / deviation;
  const result = scale * normalized + offset;
  return {
    symbols: [["x", term.value], ["μ", mean], ["σ²", variance], ["γ", scale], ["β", offset], ["ε", epsilon]],
    note: "μ and σ² are the moving averages of training.",
    terms: [term],
    summands: [(scale * term.value) / deviation, (-scale * mean) / deviation, offset],
    steps: [
      { formula: "μ (mean)", numbers: "", value: mean },
      { formula: "σ² (variance)", numbers: "", value: variance },
      { formula: "γ (scale)", numbers: "", value: scale },
      { formula: "β (offset)", numbers: "", value: offset },
      { formula: "√(σ² + ε)", numbers: `√(${shown(variance)} + ${shown(epsilon)})`, value: deviation },
      { formula: "x̂ = (x − μ)/√(σ² + ε)", numbers: `(${shown(term.value)} − ${inner(mean)}) / ${shown(deviation)}`, value: normalized },
      { formula: "y = γ·x̂ + β", numbers: `${shown(scale)} · ${inner(normalized)} + ${inner(offset)}`, value: result },
    ],
    result,
    windows: [],
    matrices: [],
  };
}

// The channels whose squares a response normalization adds: [first, last].
function neighbors(operation, channel) {
  const { radius } = operation.settings;
  return [Math.max(channel - radius, 0), Math.min(channel + radius, operation.shape[2] - 1)];
}

// s = k + α·Σ x², which divides a unit of a response normalization.
function responseSum(operation, unit) {
  const [first, last] = neighbors(operation, unit.channel);
  const terms = [];
  for (let channel = first; channel <= last; channel++) {
    const term = take(operation.inputs[0], { ...unit, channel });
    terms.push({ ...term, factors: [{ name: "x", value: term.value }, { name: "x", value: term.value }], value: term.value ** 2 });
  }
  const total = sum(terms.map((term) => term.value));
  return { terms, total, s: operation.settings.bias + operation.settings.alpha * total };
}

function responseNormalization(operation, unit) {
  const { bias, alpha, beta } = operation.settings;
  const x = unitValue(operation.inputs[0], unit);
  const { terms, total, s } = responseSum(operation, unit);
  const result = x / s ** beta;
  return {
    symbols: [["i", unit.channel], ["k", bias], ["α", alpha], ["β", beta], ["r", operation.settings.radius]],
    terms,
    steps: [
      { formula: "x_i", numbers: "", value: x },
      { formula: "Σ x²", numbers: `${terms.length} channels`, value: total },
      { formula: "s = k + α·Σ x²", numbers: `${shown(bias)} + ${shown(alpha)} · ${shown(total)}`, value: s },
      { formula: "y = x / s^β", numbers: `${shown(x)} / ${shown(s)}^${shown(beta)}`, value: result },
    ],
    result,
    windows: [],
    matrices: [],
    leading: product(operation.inputs[0], unit, "s^(−β)", s ** -beta),
  };
}

// One unit in, one unit out ------------------------------------------------------------------------------------------

function elementwise(formula, compute, explain) {
  return (operation, unit) => {
    const term = take(operation.inputs[0], unit);
    const result = compute(term.value);
    const steps = [{ formula, numbers: explain(term.value), value: result }];
    return { symbols: [["x", term.value]], terms: [term], steps, result, windows: [], matrices: [] };
  };
}

const relu = elementwise("max(x, 0)", (x) => Math.max(x, 0), (x) => `max(${shown(x)}, 0)`);
const sigmoid = elementwise(
  "1/(1 + exp(−x))", (x) => 1 / (1 + Math.exp(-x)), (x) => `1 / (1 + ${shown(Math.exp(-x))})`);

// Dropout and drop-path: the mask is for training.
function dropped(operation, unit) {
  const term = take(operation.inputs[0], unit);
  return {
    ...passOn(term),
    symbols: [["x", term.value], ["rate", operation.settings.rate], ["mask", 1]],
    note: "At inference the mask is 1, so y = x.",
  };
}

const nothing = () => ({
  terms: [], steps: [{ formula: "0", numbers: "no input", value: 0 }], result: 0, windows: [], matrices: [],
});

function pad(operation, unit) {
  const [[top, bottom], [left, right]] = operation.settings.margins;
  const symbols = [["top", top], ["bottom", bottom], ["left", left], ["right", right]];
  const input = { row: unit.row - top, column: unit.column - left, channel: unit.channel };
  if (!isInside(operation.inputs[0], input)) return { ...nothing(), symbols };
  return { ...passOn(take(operation.inputs[0], input)), symbols };
}

function zeroPaddedShortcut(operation, unit) {
  const { stride, front } = operation.settings;
  const input = { row: unit.row * stride[0], column: unit.column * stride[1], channel: unit.channel - front };
  const symbols = [["i", unit.row], ["j", unit.column], ["sh", stride[0]], ["sw", stride[1]], ["front", front]];
  if (!isInside(operation.inputs[0], input)) return { ...nothing(), symbols };
  return { ...passOn(take(operation.inputs[0], input)), symbols: [...symbols, ["c", input.channel]] };
}

function passOn(term) {
  const steps = [{ formula: "x", numbers: term.name, value: term.value }];
  return { symbols: [], terms: [term], steps, result: term.value, windows: [], matrices: [] };
}

function discretize(operation, unit) {
  const { levels, code } = operation.settings;
  const k = unit.channel % levels;
  const term = take(operation.inputs[0], { ...unit, channel: Math.floor(unit.channel / levels) });
  // the network multiplies in float32
  const level = Math.min(Math.max(Math.floor(Math.fround(levels * term.value)), 0), levels - 1);
  const result = Number(code === "onehot" ? k === level : k <= level);
  return {
    symbols: [["x", term.value], ["L", levels], ["k", k], ["l", level]],
    terms: [term],
    steps: [
      { formula: "l", numbers: `⌊${levels} · ${shown(term.value)}⌋`, value: level },
      { formula: code === "onehot" ? "[k = l]" : "[k ≤ l]", numbers: `[${k} ${code === "onehot" ? "=" : "≤"} ${level}]`, value: result },
    ],
    result,
    windows: [],
    matrices: [],
  };
}

const IMAGENET_MEAN = [0.485, 0.456, 0.406];
const IMAGENET_DEVIATION = [0.229, 0.224, 0.225];
const CAFFE_MEAN = [103.939, 116.779, 123.68]; // blue, green, red, in 0..255

function preprocessing(operation, unit) {
  const rule = operation.settings.rule;
  const source = rule === "none" ? "images" : "pixels"; // the page holds equal arrays once
  const channel = rule === "caffe" ? 2 - unit.channel : unit.channel;
  const term = take(source, { ...unit, channel });
  term.from = null; // the image is where a path ends
  const x = term.value;
  const [formula, numbers, result] = {
    none: ["x", shown(x), x],
    centered: ["2·x − 1", `2 · ${inner(x)} − 1`, 2 * x - 1],
    torch: ["(x − mean)/deviation", `(${shown(x)} − ${IMAGENET_MEAN[channel]}) / ${IMAGENET_DEVIATION[channel]}`,
      (x - IMAGENET_MEAN[channel]) / IMAGENET_DEVIATION[channel]],
    caffe: ["255·x − mean", `255 · ${inner(x)} − ${CAFFE_MEAN[unit.channel]}`, 255 * x - CAFFE_MEAN[unit.channel]],
  }[rule];
  return {
    symbols: [["images", x]],
    note: `x is a pixel of the image in [0,1]${rule === "caffe" ? "; red and blue change places" : ""}.`,
    terms: [term], steps: [{ formula, numbers, value: result }], result, windows: [], matrices: [],
  };
}

// Several inputs -----------------------------------------------------------------------------------------------------

// The branch of a concatenation that an output channel comes from: {source, unit}.
function branchOf(operation, unit) {
  let channel = unit.channel;
  for (const source of operation.inputs) {
    const count = mapShape(source)[2];
    if (channel < count) return { source, unit: { ...unit, channel } };
    channel -= count;
  }
  throw new RangeError(`${operation.name} has no channel ${unit.channel}`);
}

function concatenate(operation, unit) {
  const branch = branchOf(operation, unit);
  const widths = operation.inputs.map((source) => `${source} (${mapShape(source)[2]} channels)`);
  return {
    ...passOn(take(branch.source, branch.unit)),
    note: `The branches are ${widths.join(", ")}. Channel ${unit.channel} is channel ${branch.unit.channel} of ${branch.source}.`,
  };
}

function residualSum(operation, unit) {
  const [first, second] = operation.inputs;
  const scale = operation.settings.scale;
  const terms = scale === undefined
    ? [take(first, unit), take(second, unit)]
    : [take(first, unit), product(second, unit, "a", scale)];
  const result = terms[0].value + terms[1].value;
  const isScaled = scale !== undefined;
  const [x, other] = terms.map((term) => term.factors[0].value);
  return {
    symbols: isScaled ? [["x", x], ["a", scale], ["r", other]] : [["x", x], ["s", other]],
    terms,
    summands: valuesOf(terms),
    steps: [{
      formula: isScaled ? "x + a·r" : "x + s",
      numbers: `${shown(x)} + ${isScaled ? `${inner(scale)} · ` : ""}${inner(other)}`,
      value: result,
    }],
    result,
    windows: [],
    matrices: [],
  };
}

function scaleChannels(operation, unit) {
  const [source, gates] = operation.inputs;
  const gate = unitValue(gates, { row: 0, column: 0, channel: unit.channel });
  const term = product(source, unit, "s", gate);
  return {
    symbols: [["i", unit.row], ["j", unit.column], ["c", unit.channel]],
    terms: [term],
    steps: [
      { formula: "s[c] (gate)", numbers: `${gates}[${unit.channel}]`, value: gate },
      { formula: "x·s", numbers: `${shown(term.factors[0].value)} · ${inner(gate)}`, value: term.value },
    ],
    result: term.value,
    windows: [],
    matrices: [],
  };
}

// The loss -----------------------------------------------------------------------------------------------------------

// The logits, their softmax and the targets of all classes.
function softmaxOf(operation) {
  const logits = tensor(operation.inputs[0]);
  const { label, smoothing } = operation.settings;
  const classes = logits.shape[0];
  const z = Array.from({ length: classes }, (_, k) => logits.at(k));
  const highest = z.reduce((a, b) => Math.max(a, b));
  const total = sum(z.map((one) => Math.exp(one - highest)));
  return z.map((one, k) => ({
    logit: one,
    log: one - highest - Math.log(total),
    probability: Math.exp(one - highest) / total,
    target: (k === label ? 1 - smoothing : 0) + smoothing / classes,
    highest,
    total,
  }));
}

function crossEntropy(operation) {
  const { label, smoothing } = operation.settings;
  const [source] = operation.inputs;
  const classes = softmaxOf(operation);
  const { highest, total, logit, log, probability } = classes[label];
  const terms = classes.map((one, k) => ({
    name: className(k),
    factors: [{ name: "−q", value: -one.target }, { name: "log p", value: one.log }],
    value: one.target === 0 ? 0 : -one.target * one.log,
    from: { operation: source, unit: { row: 0, column: 0, channel: k } },
  })).filter((term) => term.value !== 0 || term.from.unit.channel === label);
  const result = sum(terms.map((term) => term.value));
  return {
    symbols: [["label", label], ["K", classes.length], ["ε", smoothing]],
    terms,
    steps: [
      { formula: "z[label]", numbers: className(label), value: logit },
      { formula: "max z", numbers: "", value: highest },
      { formula: "Σ exp(z − max z)", numbers: `${classes.length} classes`, value: total },
      { formula: "softmax(z)[label]", numbers: `exp(${shown(logit)} − ${inner(highest)}) / ${shown(total)}`, value: probability },
      { formula: "log softmax(z)[label]", numbers: `${shown(logit)} − ${inner(highest)} − log ${shown(total)}`, value: log },
      { formula: "L", numbers: smoothing ? `label smoothing ε = ${shown(smoothing)}` : `−${inner(log)}`, value: result },
    ],
    result,
    windows: [],
    matrices: [],
    leading: terms.find((term) => term.from.unit.channel === label),
  };
}

const className = (k) => page.image.names[k] ?? `class ${k}`;

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
// Returns [{operation, unit, value, term}] and why it ended, if not at the image.
function pathToImage(operation, unit) {
  const steps = [];
  let at = { operation: operation.name, unit };
  while (at) {
    const current = operations.get(at.operation);
    let explanation;
    try {
      explanation = forward[current.kind](current, at.unit);
    } catch (error) {
      if (!(error instanceof NotEmbedded)) throw error;
      return { steps, ended: `The arrays of ${unitName(at.operation, at.unit)} are not in this page.` };
    }
    const term = leadingTerm(explanation);
    steps.push({ ...at, value: explanation.result, term });
    at = term && term.from;
  }
  return { steps, ended: "" };
}
