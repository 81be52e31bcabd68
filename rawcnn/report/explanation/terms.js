// Terms: what a sum adds, or what a maximum compares.
//
// A unit is one value of an activation, {row, column, channel}. A term is {name, factors, value, from}:
//   name     the unit that the term reads, "∂" before it if it reads the gradient to the unit
//   factors  [{name, value}]
//   value    the product of the factors
//   from     {operation, unit}: where the first factor comes from; null for a pixel of the image
//
// Loaded after arrays.js. Uses
//   arrays.js: mapShape, unitValue

const vectorUnit = (channel) => ({ row: 0, column: 0, channel });

function unitName(name, unit) {
  const [height, width] = mapShape(name);
  return height === 1 && width === 1 ? `${name}[${unit.channel}]` : `${name}[${unit.row}, ${unit.column}, ${unit.channel}]`;
}

// x·w, with the factors {w}: a unit of an operation's input times some factors. Without factors, x alone. Where an operation
// adds several inputs, each has its letter.
const inputTerm = (input, unit, factors = {}, letter = "x") =>
  product(unitName(input, unit), { [letter]: unitValue(input, unit) }, factors, { operation: input, unit });

// g·w, with the factors {w}: the gradient to a unit of an operation's output times some factors.
const gradientTerm = (operation, unit, factors = {}) =>
  product(`∂${unitName(operation.name, unit)}`, { g: outputGradient(operation, unit) }, factors,
    { operation: operation.name, unit });

const outputGradient = (operation, unit) => unitValue(`∂${operation.name}`, unit);

function product(name, first, others, from) {
  const factors = [first, others].flatMap(Object.entries).map(([letter, value]) => ({ name: letter, value }));
  return { name, factors, value: factors.reduce((result, factor) => result * factor.value, 1), from };
}

const sum = (values) => values.reduce((total, value) => total + value, 0);

const valuesOf = (terms) => terms.map((term) => term.value);

// A result that is the sum of its terms.
const summed = (terms) => ({ terms, result: sum(valuesOf(terms)) });

// The terms that read one position of a map.
const termsAt = (terms, { row, column }) =>
  terms.filter(({ from: { unit } }) => unit.row === row && unit.column === column);

// Terms by absolute value, the largest first.
const inOrder = (terms) => [...terms].sort((a, b) => Math.abs(b.value) - Math.abs(a.value));

// Values that are compared, the largest first; of equal ones the order of the window remains.
const fromLargest = (terms) => [...terms].sort((a, b) => b.value - a.value);

// The largest term is the one with the largest absolute value, of equal ones the first; null if there is none. Tables,
// windows and paths all mean this, and so does rawcnn/explain/paths.py.
function largestTerm(terms) {
  const isLarger = (term, best) => best === null || Math.abs(term.value) > Math.abs(best.value);
  return terms.reduce((best, term) => (isLarger(term, best) ? term : best), null);
}

// The term that a path follows from a unit. A maximum follows its winner, whatever the other values are.
const leadingTerm = ({ terms, leading }) => leading ?? largestTerm(terms);
