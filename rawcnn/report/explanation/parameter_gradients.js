// The gradient to an element of a parameter, for each kind of operation:
// parameterGradient[kind](operation, index, leaf).

// The products of ∂L/∂y with another factor at all positions of an output channel: {terms, values}, the values as rows
// of a map. A factor of null is padding, which adds nothing. Without a factor, the products are g itself.
function positionProducts(operation, channel, name, factorAt) {
  const [height, width] = operation.shape;
  const termAt = (unit) => {
    if (!factorAt) return gradientTerm(operation, unit);
    const factor = factorAt(unit);
    return factor === null ? null : gradientTerm(operation, unit, { name, value: factor });
  };
  const rows = indicesBelow(height).map((row) =>
    indicesBelow(width).map((column) => termAt({ row, column, channel })));
  return {
    terms: rows.flat().filter((term) => term !== null),
    values: rows.map((terms) => terms.map((term) => term && term.value)),
  };
}

function convToParameter(operation, index, leaf) {
  if (leaf === "bias") return toBias(operation, index);
  const [i, j, c, channel] = index;
  const { first } = groupChannels(operation, channel);
  const { size, groups } = operation.settings;
  const readAt = (output) => { // what tap (i, j) reads for an output; null is padding
    const { row, column, inside } = taps(operation, output)[i * size[1] + j];
    return inside ? unitValue(operation.inputs[0], { row, column, channel: first + c }) : null;
  };
  const { terms, values } = positionProducts(operation, channel, "x", readAt);
  return {
    ...summed(`∂L/∂w[i, j, c, o] = Σ x[p·s + i·d − top, q·s + j·d − left, ${groups > 1 ? `c + ${first}` : "c"}] · `
      + "g[p, q, o] over all positions p, q",
      terms, "Σ x·g", `${terms.length} positions`),
    note: groupNote(operation, channel),
    map: {
      title: `x·g at each position of the output: tap (${i}, ${j}), channel ${first + c} → ${channel}`,
      values,
    },
  };
}

function toBias(operation, [channel]) {
  const { terms, values } = positionProducts(operation, channel);
  return {
    ...summed("∂L/∂bias[o] = Σ g[p, q, o] over all positions", terms, "Σ g", `${terms.length} positions`),
    map: { title: `g at each position, channel ${channel}`, values },
  };
}

function denseToParameter(operation, index, leaf) {
  const output = vectorUnit(index[index.length - 1]);
  if (leaf === "bias") return passedBack("∂L/∂b[o] = g[o]", operation, output);
  const input = unitOfFlat(operation.inputs[0], index[0]);
  const x = unitValue(operation.inputs[0], input);
  const term = gradientTerm(operation, output, { name: "x", value: x });
  return oneTerm("∂L/∂W[i, o] = x[i] · g[o]", term, "x·g", `${shown(x)} · ${inner(term.factors[0].value)}`);
}

// The unit of a map with a number in the vector that a dense layer reads.
function unitOfFlat(source, n) {
  const [, width, channels] = mapShape(source);
  return { row: Math.floor(n / (width * channels)), column: Math.floor(n / channels) % width, channel: n % channels };
}

function batchNormToParameter(operation, [channel], leaf) {
  if (leaf === "offset") {
    const { terms, values } = positionProducts(operation, channel);
    return {
      ...summed("∂L/∂β = Σ g over all positions of the channel", terms, "Σ g", `${terms.length} positions`),
      map: { title: `g at each position, channel ${channel}`, values },
    };
  }
  const { mean, variance, epsilon } = batchNormNumbers(operation, channel);
  const deviation = Math.sqrt(variance + epsilon);
  const normalized = (unit) => (unitValue(operation.inputs[0], unit) - mean) / deviation;
  const { terms, values } = positionProducts(operation, channel, "x̂", normalized);
  return {
    ...summed("∂L/∂γ = Σ g·x̂ over all positions of the channel, x̂ = (x − μ)/√(σ² + ε)", terms,
      "Σ g·x̂", `${terms.length} positions`),
    map: { title: `g·x̂ at each position, channel ${channel}`, values },
  };
}

const parameterGradient = { conv: convToParameter, dense: denseToParameter, batch_norm: batchNormToParameter };
