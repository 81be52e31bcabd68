// The gradient to an element of a parameter, for each kind of operation: parameterGradient[kind](operation, index, leaf)
// returns {terms, result}. `leaf` is the parameter's name within the operation, and index the element's place in it.
//
// Loaded after input_gradients.js. Uses
//   arrays.js: unitValue
//   terms.js: vectorUnit, gradientTerm, summed
//   windows.js: tapAt, groupChannels, unitOfFlat
//   forward.js: batchNormNumbers
//   input_gradients.js: positionsOf

function convToParameter(operation, index, leaf) {
  return leaf === "bias" ? toBias(operation, ...index) : toFilter(operation, ...index);
}

// ∂L/∂w[i, j, c, o] = Σ x·g over all positions of the output, x being what tap (i, j) reads there
function toFilter(operation, i, j, c, o) {
  const { first } = groupChannels(operation, o);
  const products = [];
  for (const output of positionsOf(operation, o)) {
    const { row, column, inside } = tapAt(operation, output, i, j);
    if (!inside) continue; // padding adds 0
    const x = unitValue(operation.inputs[0], { row, column, channel: first + c });
    products.push(gradientTerm(operation, output, { x }));
  }
  return summed(products);
}

// ∂L/∂bias[o] = Σ g over all positions of the output
const toBias = (operation, o) =>
  summed(positionsOf(operation, o).map((output) => gradientTerm(operation, output)));

// ∂L/∂W[i, o] = x[i]·g[o]; ∂L/∂bias[o] = g[o]
function denseToParameter(operation, index, leaf) {
  if (leaf === "bias") return toBias(operation, ...index);
  const [i, o] = index;
  const x = unitValue(operation.inputs[0], unitOfFlat(operation.inputs[0], i));
  return summed([gradientTerm(operation, vectorUnit(o), { x })]);
}

// ∂L/∂γ = Σ g·x̂ with x̂ = (x − μ)/√(σ² + ε); ∂L/∂β = Σ g, over all positions of the channel
function batchNormToParameter(operation, [channel], leaf) {
  if (leaf === "offset") return toBias(operation, channel);
  const { mean, deviation } = batchNormNumbers(operation, channel);
  return summed(positionsOf(operation, channel).map((output) =>
    gradientTerm(operation, output, { "x̂": (unitValue(operation.inputs[0], output) - mean) / deviation })));
}

const parameterGradient = { conv: convToParameter, dense: denseToParameter, batch_norm: batchNormToParameter };
